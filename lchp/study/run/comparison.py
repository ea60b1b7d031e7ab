"""What ``lchp compare`` names: runs and studies, found in folders or, where it is named, in a tracking store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lchp.data.scratch import scratch_folder
from lchp.errors import Refusal
from lchp.reporting.compare import Group
from lchp.reporting.frame import TrialRow
from lchp.store.folder import StageFolder
from lchp.store.study_folder import store_of, study_named
from lchp.study.run.found import finished_trials, found_run
from lchp.study.run.ledger import require_whole
from lchp.study.run.results import trial_row


@contextmanager
def found_groups(words: Sequence[str], output: Path, tracking_uri: str | None = None) -> Iterator[list[Group]]:
    """What the words name: in a tracking store alone, from which copies are there as long as the block runs; without
    one as :func:`found_group`.

    Raises:
        Refusal, ValueError: one names nothing, or nothing that is finished.
    """
    if tracking_uri is None:
        yield [found_group(word, output) for word in words]
        return
    # MLflow takes seconds to import, and folders do without.
    from lchp.study.run.report import fetched_group
    from lchp.tracking.address import require_runs, resolved
    from lchp.tracking.store import open_store

    require_runs(resolved(tracking_uri, Path.cwd()))
    uri = open_store(tracking_uri, Path.cwd())
    with scratch_folder() as temporary:
        yield [fetched_group(word, uri, temporary / str(place)) for place, word in enumerate(words)]


def found_group(word: str, output: Path) -> Group:
    """The study in a folder, or of that name in ``output``; the trial in a folder; or the run of that id, or of an id
    that begins so, of a study in ``output``.

    Raises:
        Refusal: there is none, or nothing of it is finished, or its files are damaged.
    """
    if (folder := study_named(word, output)) is not None:
        return _of_study(word, folder)
    trial = StageFolder(Path(word).absolute())
    if trial.path.is_dir() and trial.done:
        if trial.complaint is not None:
            raise Refusal(trial.complaint)
        return Group(word, (TrialRow(trial.path.name, int(trial.config()["seed"]), {}, trial.path),))
    entry, store = found_run(word, output)
    require_whole([entry], store)
    return Group(word, (trial_row(entry, store),))


def _of_study(word: str, folder: Path) -> Group:
    store, entries = store_of(folder.parent), finished_trials(folder)
    require_whole(entries, store)
    return Group(word, tuple(trial_row(entry, store) for entry in entries))

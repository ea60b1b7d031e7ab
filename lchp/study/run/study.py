"""A study from its specification to its tables: what is finished is kept, what is missing is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lchp.at_work import doing, reader_is_gone
from lchp.data.files import write_text
from lchp.data.scratch import sweep_scratch
from lchp.errors import counted, refusing
from lchp.reporting.table import Table
from lchp.reporting.writing import to_markdown
from lchp.store.in_use import using
from lchp.store.leftovers import sweep
from lchp.store.study_folder import StudyFolder
from lchp.study.plan.trials import in_training_order
from lchp.study.run.earlier import known
from lchp.study.run.fitness import temporary_folders
from lchp.study.run.ledger import ENDED, Entry, Ledger
from lchp.study.run.log import StudyLog
from lchp.study.run.options import Machine
from lchp.study.run.ownership import Claim, alone, claim, require_continuable, trials_before
from lchp.study.run.prepare import prepare
from lchp.study.run.recorder import STOPPED, Recorder
from lchp.study.run.results import as_text, claims_text, make_tables, study_metrics
from lchp.study.run.run_cards import headline_of, trials_view
from lchp.study.run.scribe import Scribe
from lchp.study.run.sync import command
from lchp.study.run.warm_start import Earlier, earlier_trials, require_earlier
from lchp.study.run.writer import Writer
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial
from lchp.tracking.runs import COUNTS_TAG, DESCRIPTION_TAG, STOPPED_TAG, WARNINGS_TAG
from lchp.tracking.store import ensure_experiment, impatient, is_unmade, open_store
from lchp.tracking.views import runs_address

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def run_study(
    study: Study, output: Path, tracking_uri: str | None, machine: Machine, echo: Callable[[str], None]
) -> int:
    """Run or continue a study in ``output/<study>``; gives the exit code: 0, or 1 if a trial failed.

    What it says is kept in ``log.txt`` there. A study that was changed since its last run keeps there what it can.

    Raises:
        Refusal: before anything starts: folders that cannot be written, missing data or weights, a store that cannot be
            opened, a folder whose finished trials would mean something else.
        KeyboardInterrupt: somebody asked for the end; what was running is marked, the same command continues it.
    """
    folder = output / study.name
    require_continuable(study, folder)
    if study.search:
        _require_search(study, output)
    runtime = machine.runtime(output)
    with alone(folder):
        sweep(runtime.store)
        # Of a process that was killed after its last trial nobody else will sweep what it left.
        for parent in temporary_folders():
            sweep_scratch(parent)
        # A store that is not there yet is made once the data are known to be sound: what is refused leaves none behind.
        opened = None if is_unmade(tracking_uri, Path.cwd()) else _open_store(tracking_uri, machine)
        with doing("opening the data"):
            materials = prepare(study, runtime)
        uri = opened or _open_store(tracking_uri, machine)
        log = StudyLog(folder, echo)
        entries = trials_before(folder, log.say)
        claimed = claim(study, folder, materials, entries, log.say)
        write_text(StudyFolder(folder).written, study.written)
        with refusing():
            runs_at = runs_address(uri, ensure_experiment(uri, study.name))
        for finding in materials.findings:
            log.say(f"warning: {finding}")
        scribe = Scribe(uri, study.name, folder, runtime.store, claimed.run, log.say)
        with using(runtime.store), impatient(), Writer(scribe, log.say, log.failure) as writer:
            # Of a search's hundreds of trials few are ever looked at.
            models = study.search is None
            recorder = Recorder(
                materials, writer, Ledger(folder), study.count, log.say, study.references, models, headline_of(study)
            )
            with _true_states(recorder, log):
                _train_all(study, recorder, claimed)
                code = _end(study, output, recorder, runs_at)
            left = writer.unwritten()
        if left is not None:
            log.say(f"{left}: {command(folder, tracking_uri)} writes it, and so does the same command")
            return 1
        return code


def _open_store(tracking_uri: str | None, machine: Machine) -> str:
    with refusing(), doing("opening the tracking store"):
        return open_store(tracking_uri, Path.cwd(), machine.cache)


def _train_all(study: Study, recorder: Recorder, claimed: Claim) -> None:
    """Begin with the study's own run, and train what is missing of its trials."""
    shown = {"study": study.name, "question": study.question or "", "trials": study.count}
    shown["varies"] = ", ".join(study.varied)
    recorder.begin(study.name, shown, trials_view(study))
    recorder.leave(claimed.places)
    with doing("looking at what is trained"):
        if study.search:
            _search(study, recorder, claimed.entries)
        else:
            _grid(study, recorder)


@contextmanager
def _true_states(recorder: Recorder, log: StudyLog) -> Iterator[None]:
    """Whatever ends the block, trials and the parent run say so in MLflow and in the ledger."""
    try:
        yield
    except BaseException as error:
        # Whoever reads the output no longer has stopped the study, which is none of its trials' fault.
        stopped = isinstance(error, KeyboardInterrupt) or reader_is_gone(error)
        reason = f"{STOPPED} ({error})" if stopped else f"{type(error).__name__}: {error}"
        try:
            recorder.end(reason, "stopped" if stopped else "failed")
        except Exception as other:  # a full disk may be what failed: what ended the study is told, not this
            error.add_note(f"the trials could not be marked as ended: {type(other).__name__}: {other}")
        # The log comes last: a disk that is full has room for nothing more.
        with suppress(OSError):
            left = recorder.writer.unwritten()
            if left is not None:
                log.say(f"{left}: the same command, or {command(recorder.ledger.folder)}, writes it")
            if not stopped:
                log.failure(error)
        raise


def _grid(study: Study, recorder: Recorder) -> None:
    """Keep the planned trials that are finished, and train the others."""
    missing: list[ResolvedTrial] = []
    with recorder.ledger.together():
        for trial in study.trials:
            if recorder.is_finished(trial):
                recorder.keep(trial)
            else:
                missing.append(trial)
    if missing:
        trained = sum(recorder.is_here(trial) for trial in missing)
        what = [f"{len(missing) - trained} of {counted(study.count, 'trial')}"] if trained < len(missing) else []
        what += [f"references beside {counted(trained, 'finished trial')}"] if trained else []
        recorder.say(f"{study.name}: {' and '.join(what)} to train, into {recorder.ledger.folder}")
        _train(study, in_training_order(missing), recorder)
    else:
        recorder.say(_all_finished(study))


def _all_finished(study: Study) -> str:
    trials = f"all {study.count} trials of {study.name} are" if study.count > 1 else f"the trial of {study.name} is"
    return f"{trials} finished: nothing to train"


def _require_search(study: Study, output: Path) -> None:
    """See that a search has where to be kept and, if it has suggested nothing yet, that the studies are there with
    which it begins.
    """
    from lchp.study.run.optuna_storage import require_storage

    require_storage()
    if not known(output / study.name, study.varied):
        require_earlier(study, output)


def _search(study: Study, recorder: Recorder, entries: Sequence[Entry]) -> None:
    """Train the suggestions that are missing; ``entries`` are the trials of earlier runs."""
    from optuna.trial import TrialState

    from lchp.study.run.optuna_search import ContinuedSearch
    from lchp.study.run.optuna_storage import completed, pruned
    from lchp.study.run.search_repair import restored_search
    from lchp.study.run.stops import Spending, stop_reason

    assert study.search is not None, "a grid suggests nothing"
    folder = recorder.ledger.folder

    def earlier() -> list[Earlier]:
        digest = recorder.materials.of(study.searched).digest
        return earlier_trials(study, folder.parent, digest, recorder.say)

    stored = restored_search(study, folder, entries, recorder.store, recorder.say, earlier)
    finished, stopped = completed(stored), pruned(stored)
    lost = _keep_suggested(study, recorder, finished, stopped, entries)
    if lost:
        recorder.say(
            f"{study.name}: {counted(len(lost), 'finished trial')} to train again, whose files are damaged or gone"
        )
        _train(study, lost, recorder)
    missing = study.repeats * (study.suggestions - len(finished) - len(stopped))
    unfinished = stored.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    goes_on = bool(unfinished) or stop_reason(study, stored, Spending.of(folder, study.search.stop)) is None
    if missing > 0 and goes_on:
        # A space that holds any number of values is never exhausted.
        if study.search.size is not None and ContinuedSearch(study, folder, recorder.refuse).is_exhausted:
            recorder.say(f"all that the space of {study.name} holds was suggested: nothing to train")
        else:
            StudyFolder(folder).stopped.unlink(missing_ok=True)
            recorder.say(f"{study.name}: {missing} of {counted(study.count, 'trial')} to train, into {folder}")
            _train(study, [], recorder)
    elif missing <= 0 and not lost:
        recorder.say(_all_finished(study))


def _keep_suggested(
    study: Study,
    recorder: Recorder,
    finished: Iterable[FrozenTrial],
    stopped: Iterable[FrozenTrial],
    entries: Sequence[Entry],
) -> list[ResolvedTrial]:
    """Keep the trials of suggestions that are finished, or were pruned; gives those whose files are damaged or gone."""
    from lchp.study.run.pruning import REASON
    from lchp.study.run.suggestions import values_of

    reasons = {entry.number: entry.message for entry in entries if entry.state == "pruned"}
    lost: list[ResolvedTrial] = []
    with recorder.ledger.together():
        for suggestion in finished:
            for trial in study.suggested(suggestion.number, values_of(suggestion.params)):
                if recorder.is_finished(trial):
                    recorder.keep(trial)
                else:
                    lost.append(trial)
        for suggestion in stopped:
            (trial,) = study.suggested(suggestion.number, values_of(suggestion.params))
            # Older versions kept the reason in the list of trials alone.
            reason = suggestion.user_attrs.get(REASON) or reasons.get(suggestion.number) or "pruned"
            recorder.keep_pruned(trial, reason)
    return lost


def _ended_search(study: Study, recorder: Recorder) -> tuple[list[Path], str | None]:
    """The files that name a search's best, and why it made fewer suggestions than it may."""
    # Optuna takes a second to import, and a grid does without.
    from lchp.study.run.search_end import name_best, note_stop

    return name_best(study, recorder), note_stop(study, recorder)


def _train(study: Study, trials: list[ResolvedTrial], recorder: Recorder) -> None:
    # Ray takes seconds to import, and a study that is finished does not need it.
    from lchp.study.run.ray_tune import train

    train(study, trials, recorder)


def _end(study: Study, output: Path, recorder: Recorder, runs_at: str) -> int:
    """Tables, the study's own run and the exit code; ``runs_at`` is the address of its runs."""
    _settle(recorder)
    files, stopped = _ended_search(study, recorder) if study.search else ([], None)
    entries = list(recorder.ledger.entries.values())
    unfinished = [entry for entry in entries if entry.state not in ENDED]
    tags: dict[str, str | None] = {}
    metrics: dict[str, float] = {}
    if any(entry.state == "finished" for entry in entries):
        # Trials that were trained now may look other without another number.
        with doing("making tables and report"):
            made = make_tables(study, output, recorder.trained, runs_at)
        recorder.say(as_text(made, output / study.name))
        tags = {**_tags(study, made, claims_text(output / study.name)), STOPPED_TAG: stopped}
        metrics = study_metrics(StudyFolder(output / study.name).results, study.varied, headline_of(study))
        files = [*StudyFolder(output / study.name).tracked(table.spec.name for table in made), *files]
    message = None
    if unfinished:
        lines = [f"{entry.name}: {entry.state}: {entry.message or 'not trained to its end'}" for entry in unfinished]
        message = "\n".join([f"{len(unfinished)} of {len(entries)} trials are not finished:", *lines])
        recorder.say(message)
    recorder.close(tags, metrics, files, message)
    _settle(recorder)
    return 1 if unfinished else 0


def _settle(recorder: Recorder) -> None:
    with doing("writing to the tracking store"):
        recorder.settle()


def _tags(study: Study, tables: Sequence[Table], claims: Sequence[str]) -> dict[str, str | None]:
    """What the study's MLflow run says: its question, the verdicts on its claims and its tables as MLflow's
    description, on how many images and trials they stand, and their warnings.
    """
    counts, warnings = (
        "\n".join(dict.fromkeys(line for lines in of_tables for line in lines))
        for of_tables in ([table.counts for table in tables], [table.warnings for table in tables])
    )
    # The numbers of a claim stand below it, further in.
    verdicts = [line for text in claims for line in text.splitlines() if not line.startswith("  ")]
    head = [*([study.question, ""] if study.question else []), *([*verdicts, ""] if verdicts else [])]
    # MLflow takes an interval before a number of seeds for a link.
    shown = (to_markdown(table).replace("[", r"\[").replace("]", r"\]") for table in tables)
    described = "\n".join([*head, *shown])
    return {DESCRIPTION_TAG: described, COUNTS_TAG: counts or None, WARNINGS_TAG: warnings or None}

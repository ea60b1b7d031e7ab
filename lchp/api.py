"""lchp from Python: studies, trials, their results, and models at work.

Every name here is one of the package itself (``lchp.run_study``), and is imported when it is first asked for: ``import
lchp`` takes no time. Where something is asked for that cannot be, ``lchp.errors.Refusal``, a ValueError, says what
is wrong and what would be right, as the command line does.

The examples stand in a folder ``output`` in which the study ``tiny`` is finished; ``images`` is that of its test
images.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lchp.api_arguments import device as given_device
from lchp.api_arguments import named, place, require_speaker, uri
from lchp.api_arguments import workers as given_workers
from lchp.errors import Refusal, refusing
from lchp.shipped import study_file
from lchp.study.spec.load import Study
from lchp.study.spec.load import load_study as _load_study
from lchp.study.spec.load import load_trial as _load_trial
from lchp.surroundings import default_cache, settle
from lchp.training.config import TrialConfig

if TYPE_CHECKING:
    import pandas as pd

    from lchp.reporting.compare import Beside
    from lchp.training.trial import TrialResult

__all__ = [
    "Finished",
    "Study",
    "TrialConfig",
    "compare",
    "load_study",
    "load_trial",
    "per_image",
    "predict",
    "results",
    "run_study",
    "run_trial",
]

Place = str | os.PathLike[str]
_OUTPUT = "analysis"


def load_study(
    file: Place,
    sets: Mapping[str, Any] | Sequence[str] = (),
    data: Place | None = None,
    device: str = "auto",
) -> Study:
    """The study in a YAML file, or the one of that name that comes with lchp, checked.

    Examples:
        >>> study = load_study("quickstart", {"seeds": [0, 1], "refinement.epochs": 2})
        >>> study
        Study 'quickstart': 2 trials (seeds 0, 1)
        >>> study.trials[0].config.refinement.epochs
        2

    Args:
        sets: values over those of the file, by dotted key, or as ``--set`` has them (``"delta=0.3"``).
        data: where the dataset lies.
        device: ``auto``, ``cpu`` or ``cuda``: where it is to train, by which ``compute.precision: auto`` is settled.

    Raises:
        Refusal: everything that is wrong, one line each: file and line, key, value, remedy.
    """
    return _load_study(
        _file(file), _options(sets), None if data is None else place("data", data), device=given_device(device)
    )


def load_trial(
    file: Place,
    sets: Mapping[str, Any] | Sequence[str] = (),
    data: Place | None = None,
    device: str = "auto",
) -> TrialConfig:
    """The configuration of one trial in a YAML file: a study's keys but for ``name``, ``vary``, ``search``, ``seeds``.

    Arguments and errors as of ``load_study``.
    """
    return _load_trial(
        _file(file), _options(sets), None if data is None else place("data", data), device=given_device(device)
    )


def _file(given: Any) -> Path:
    """The file that is given, or that of the study of this name."""
    if not isinstance(given, str | os.PathLike):
        raise Refusal(f"{named(given)}: is no file: give the path of a YAML file, or a study's name")
    return study_file(place("file", given))


def _options(sets: Mapping[str, Any] | Sequence[str]) -> list[str]:
    import json

    if not isinstance(sets, Mapping):
        several: list[Any] = list(sets) if isinstance(sets, Iterable) and not isinstance(sets, str) else [None]
        if not all(isinstance(one, str) for one in several):
            raise Refusal("sets: give a mapping of dotted keys to values, or a list of 'key=value'")
        return several

    def plain(value: Any) -> Any:
        """A path, or a value of NumPy's, which have `tolist`."""
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if hasattr(value, "tolist"):
            return value.tolist()
        if isinstance(value, range):
            return list(value)
        raise Refusal(f"sets: {named(value)} is nothing that a study's file can hold")

    # JSON is YAML, but for the text of a float: 1e-07 has no dot there.
    try:
        return [f"{key}={json.dumps(value, default=plain)}" for key, value in sets.items()]
    except (RecursionError, ValueError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(f"sets: a value holds itself ({error}): give plain ones") from error


@dataclass(frozen=True)
class Finished:
    """A study that was run: where its files are, and whether every trial is finished."""

    folder: Path
    complete: bool

    def results(self) -> pd.DataFrame:
        """Every score of its finished trials, as ``results``."""
        return results(self.folder)

    def table(self, name: str = "table") -> pd.DataFrame:
        """One of its tables: a row for each method and setting, mean, standard deviation and interval in percent."""
        import pandas as pd

        from lchp.store.study_folder import StudyFolder

        return pd.read_csv(StudyFolder(self.folder).table(name)[0])

    def __repr__(self) -> str:
        state = "finished" if self.complete else "not every trial is finished: run it again"
        return f"{self.folder}: {state}"

    def _repr_markdown_(self) -> str:
        """What a notebook shows: the first table."""
        from lchp.store.study_folder import StudyFolder

        _, markdown, _ = StudyFolder(self.folder).table("table")
        return markdown.read_text(encoding="utf-8") if markdown.is_file() else repr(self)


def run_study(
    study: Study | Place,
    output: Place = _OUTPUT,
    *,
    tracking_uri: str | None = None,
    cache: Place | None = None,
    device: str = "auto",
    workers: int = 0,
    store: str | None = None,
    say: Callable[[str], None] = print,
) -> Finished:
    """Run a study, or continue it, through Ray, and make its tables: `lchp study run`.

    Args:
        study: as ``load_study`` gave it, or its file or name.
        output: the folder that holds one folder per study, and the store of trained stages.
        tracking_uri: the MLflow store; None for MLFLOW_TRACKING_URI, else ``mlflow.db`` in the working folder.
        cache: the folder of what can be made again, as drawn or resized images; None for ``~/.cache/lchp``.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: threads that decode images which do not fit the cache.
        store: the URI of a store that the machines of a cluster share.
        say: takes each line of what is told.

    Raises:
        Refusal: something stands in the way of a start.
    """
    from lchp.study.run.fitness import fit
    from lchp.study.run.ownership import require_continuable

    with refusing():
        settle()
    out, device, workers = place("output", output), given_device(device), given_workers(workers)
    tracking_uri, store = uri("tracking_uri", tracking_uri), uri("store", store)
    require_speaker(say)
    loaded = (
        study if isinstance(study, Study)
        else _load_study(_file(study), must_exist=True, device=device, output=out)
    )  # fmt: skip
    kept = default_cache() if cache is None else place("cache", cache)
    require_continuable(loaded, out / loaded.name)
    with fit(
        {"output": out, "cache": kept}, device, tracked=True, tracking_uri=tracking_uri, experiment=loaded.name,
        in_ray=True, gpus=loaded.resources.gpus, store=store,
    ):  # fmt: skip
        from lchp.store.shared import resolved
        from lchp.study.run.options import Machine
        from lchp.study.run.study import run_study as run

        machine = Machine(kept, device, workers, resolved(store) if store else None)
        code = run(loaded, out, tracking_uri, machine, say)
    return Finished((out / loaded.name).absolute(), code == 0)


def run_trial(
    config: TrialConfig | Place,
    output: Place = _OUTPUT,
    *,
    cache: Place | None = None,
    device: str = "auto",
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> TrialResult:
    """Train one trial, or continue it, in this process, without Ray and MLflow: `lchp trial run`.

    Examples:
        >>> trial = load_study("tiny.yaml").trials[0].config    # doctest: +SKIP
        >>> run_trial(trial).scores["lchp_r/test/gt_known"]     # doctest: +SKIP
        0.8125

    Args:
        config: as ``load_trial`` gave it, or a trial of a study (``study.trials[0].config``), or its file.
        output, cache, device, workers, say: as of ``run_study``.

    Returns:
        ``scores`` by ``<method>/<split>/<metric>`` and ``folder``, which ``per_image`` and ``predict`` take. On the CPU
        this process keeps memory that is freed from then on (glibc's ``mallopt``), as much as it ever had.

    Raises:
        Refusal: something stands in the way of a start.
    """
    from lchp.study.run.fitness import fit

    with refusing():
        settle()
    out, device, workers = place("output", output), given_device(device), given_workers(workers)
    require_speaker(say)
    loaded = config if isinstance(config, TrialConfig) else _load_trial(_file(config), must_exist=True, device=device)
    kept = default_cache() if cache is None else place("cache", cache)
    with fit({"output": out, "cache": kept}, device):
        from lchp.study.run.options import Machine
        from lchp.study.run.trial import run_single

        return run_single(loaded, Machine(kept, device, workers).runtime(out), say)


def results(what: Study | Finished | Place, output: Place = _OUTPUT) -> pd.DataFrame:
    """Every score of the finished trials of a study, of a trial, or of a run.

    Examples:
        >>> scores = results("tiny", output=output)
        >>> list(scores.columns)
        ['study', 'run_id', 'seed', 'method', 'split', 'metric', 'value']
        >>> chosen = scores.query("method == 'lchp_r' and split == 'test' and metric == 'gt_known'")
        >>> bool(chosen["value"].between(0, 1).all())
        True

    Args:
        what: a study, its folder or its name in ``output``; the folder of a trial; the id of a run of a study there.

    Returns:
        Columns ``study, run_id, seed``, one per varied parameter, ``method, split, metric, value`` (a fraction).

    Raises:
        Refusal: there is none, nothing of it is finished, or its files are damaged.
    """
    from lchp.reporting.frame import collect
    from lchp.study.run.comparison import found_group

    with refusing():
        group = found_group(_word(what, output), place("output", output))
        return collect(Path(group.name).name, group.trials)


def per_image(what: Study | Finished | Place, output: Place = _OUTPUT) -> pd.DataFrame:
    """The box of every measured image by every method, in pixels of the stored image.

    Examples:
        >>> boxes = per_image("tiny", output=output).query("method == 'lchp_r' and split == 'test'")
        >>> list(boxes.columns)[:9]
        ['run_id', 'seed', 'path', 'label', 'split', 'method', 'x1', 'y1', 'x2']
        >>> len(boxes)
        16

    Args:
        what, output: as of ``results``.

    Returns:
        Columns ``run_id, seed``, one per varied parameter, and those of per_image.csv: ``path, label, split, method,
        x1, y1, x2, y2, iou, top1, top5``; NaN where something is not known.

    Raises:
        Refusal: as of ``results``.
    """
    import pandas as pd

    from lchp.store.folder import StageFolder
    from lchp.study.run.comparison import found_group

    def rows(folder: Path) -> pd.DataFrame:
        import io

        return pd.read_csv(io.StringIO(StageFolder(folder).per_image_text()), dtype={"path": str})

    with refusing():
        trials = found_group(_word(what, output), place("output", output)).trials
        several = [
            rows(one.folder).assign(seed=one.seed, **{"run_id": one.run_id, **_words(one.varied)}) for one in trials
        ]
    head = ["run_id", "seed", *trials[0].varied]
    together = pd.concat(several, ignore_index=True)
    return together[[*head, *(column for column in together.columns if column not in head)]]


def compare(*what: Study | Finished | Place, output: Place = _OUTPUT, split: str = "test") -> Beside:
    """Runs or studies beside the first: what they were configured with, paired differences with intervals, the images
    that changed most. It prints as `lchp compare` does; ``as_dict()`` gives plain values.

    Examples:
        >>> found = compare("tiny", "tiny", output=output)
        >>> found.as_dict()["configuration"]
        {}

    Args:
        what: as of ``results``, two at least.
        split: whose images are compared, ``test`` or ``val``.

    Raises:
        Refusal: as of ``results``.
    """
    from lchp.reporting.compare import beside
    from lchp.study.run.comparison import found_group
    from lchp.vocabulary import SPLITS

    if len(what) < 2:
        raise Refusal("give two runs or studies at least")
    if split not in SPLITS:
        raise Refusal(f"split = {split!r}: must be one of {', '.join(SPLITS)}")
    with refusing():
        return beside([found_group(_word(one, output), place("output", output)) for one in what], split)


def predict(
    model: Finished | Place,
    images: Any,
    output: Place = _OUTPUT,
    *,
    tracking_uri: str | None = None,
    device: str = "auto",
    exif: bool = False,
) -> pd.DataFrame:
    """The box, the class and its probability of every image, by the model of a finished trial: `lchp predict`.

    Examples:
        >>> predict("tiny", images, output=output)[["class", "confidence", "x1", "y1", "x2", "y2"]].shape
        (16, 6)

    Args:
        model: the id of a run (or its beginning), the folder of a trial, a file of `lchp export`, or a study (its first
            trial).
        images: files, folders or patterns, one or several; or RGB arrays (height, width, 3) of uint8, one or several.
        tracking_uri: the MLflow store where the run is none of a study in ``output``.
        exif: turn each file's image as its EXIF says, and give its box there.

    Returns:
        A row an image: ``path`` (the number of an array), ``x1, y1, x2, y2`` in pixels of the stored image, ends
        exclusive, ``label``, ``class``, ``confidence``, ``width``, ``height``. Files that cannot be read are warned of
        and left out.

    Raises:
        Refusal: there is no such model or image.
    """
    import pandas as pd

    from lchp.study.run.options import chosen_device
    from lchp.study.use.formats import COLUMNS, as_dict
    from lchp.study.use.images import given_images
    from lchp.study.use.models import localizer_of, model_of

    several = _several(images)
    files = all(isinstance(one, str | os.PathLike) for one in several)
    with refusing():
        given = given_images([os.fspath(one) for one in several]) if files else None
        word = _word(model, output)
        found = model_of(word, place("output", output), uri("tracking_uri", tracking_uri))

        from lchp.study.use.predict import Prediction, Unread, predictions

        localizer = localizer_of(found, word, chosen_device(given_device(device)))
        if given is None:
            answers = enumerate(localizer.answers(several))
            made: Iterable[Prediction] = (
                Prediction(str(number), one, found.named(one.label)) for number, one in answers
            )
        else:
            made = predictions(localizer, given.images, exif, Unread([]), warnings.warn)
        return pd.DataFrame([as_dict(one) for one in made], columns=list(COLUMNS))


def _several(images: Any) -> list[Any]:
    """What ``predict`` was given, one by one: a column of a table is many files, an array of three axes one image."""
    if isinstance(images, str | os.PathLike) or getattr(images, "ndim", None) in (0, 2, 3):
        return [images]
    if not isinstance(images, Iterable) or isinstance(images, bytes):
        raise Refusal(
            f"images: {type(images).__name__} is neither files nor arrays: numpy.asarray(image) of one of PIL's"
        )
    return list(images)


def _words(varied: Mapping[str, Any]) -> dict[str, str]:
    """The varied values as columns hold them: one may be a mapping."""
    return {key: str(value) for key, value in varied.items()}


def _word(what: Study | Finished | Place, output: Place) -> str:
    """What the command line would be given."""
    if isinstance(what, Study):
        return str(place("output", output) / what.name)
    if isinstance(what, Finished):
        return str(what.folder)
    if not isinstance(what, str | os.PathLike):
        raise Refusal(f"{named(what)}: is no study or run: give its name, its folder or a run's id")
    return os.fspath(what)

"""Pictures of a finished run that somebody asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lchp.data.reading import open_dataset, read_pixel_boxes
from lchp.data.records import Dataset, PixelBox
from lchp.reporting.compare import Beside, boxes_of
from lchp.reporting.predictions import draw_moved, draw_predictions
from lchp.store.folder import StageFolder
from lchp.study.run.comparison import found_group
from lchp.training.given_paths import DATA_PATH
from lchp.training.identity import stored_config
from lchp.vocabulary import TEST, TOP1_CLS


def draw_run(
    word: str, output: Path, moved: Mapping[str, Path], cache: Path, out: Path, choice: str, count: int, seed: int
) -> None:
    """Draw test images of the run, trial or study that a word names in ``output`` (of a study its first trial).

    Args:
        moved: where files lie now, by dotted key.
        out: the picture; ``choice``, ``count`` and ``seed`` as of ``draw_predictions``.

    Raises:
        Refusal: there is no such run, or its files are damaged.
        ValueError: the dataset cannot be read, or nothing can be drawn.
    """
    trial = StageFolder(found_group(word, output).trials[0].folder)
    dataset, boxes = _images(trial, TEST, moved, cache)
    draw_predictions(trial.per_image(), dataset.root, out, count, seed, boxes, choice)


def draw_compared(found: Beside, moved: Mapping[str, Path], cache: Path, out: Path) -> None:
    """Draw the images of which a comparison says that they changed most, with the boxes of both sides.

    Args:
        moved: where files lie now, by dotted key; ``out``: the picture.

    Raises:
        ValueError: no image changed, or the dataset cannot be read.
    """
    if not found.moved and {pair.metric for pair in found.pairs} == {TOP1_CLS}:
        raise ValueError(
            "without true boxes no box is known to be better or worse than another: there is no picture; `lchp draw` "
            "draws the boxes of one run"
        )
    if not found.moved:
        raise ValueError("no image has another box, or they are not known to be the same images: there is no picture")
    dataset, boxes = _images(StageFolder(found.groups[0].trials[0].folder), found.split, moved, cache)
    images = [(one.path, (one.before, one.after), boxes_of(found.groups, found.split, one)) for one in found.moved]
    others = {one.right for one in found.moved}
    names = found.groups[0].name, others.pop() if len(others) == 1 else "the other"
    draw_moved(images, names, dataset.root, out, boxes)


def _images(
    trial: StageFolder, split: str, moved: Mapping[str, Path], cache: Path
) -> tuple[Dataset, dict[str, list[PixelBox]] | None]:
    """The dataset of a trial, and the true boxes of a split in pixels, None where it knows none."""
    config = stored_config(trial.config()).dataset
    if DATA_PATH in moved:
        config = config.model_copy(update={DATA_PATH.rpartition(".")[2]: moved[DATA_PATH]})
    dataset = open_dataset(config, cache)
    # val is drawn from the training images.
    return dataset, read_pixel_boxes(config, dataset, dataset.test if split == TEST else dataset.train, cache)

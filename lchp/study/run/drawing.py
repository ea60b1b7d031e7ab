"""Pictures of a finished run that somebody asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lchp.data.reading import open_dataset, read_pixel_boxes
from lchp.reporting.predictions import draw_predictions
from lchp.store.folder import StageFolder
from lchp.study.run.comparison import found_group
from lchp.training.given_paths import DATA_PATH
from lchp.training.identity import stored_config


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
    config = stored_config(trial.config()).dataset
    if DATA_PATH in moved:
        config = config.model_copy(update={DATA_PATH.rpartition(".")[2]: moved[DATA_PATH]})
    dataset = open_dataset(config, cache)
    boxes = read_pixel_boxes(config, dataset, dataset.test, cache)
    draw_predictions(trial.per_image(), dataset.root, out, count, seed, boxes, choice)

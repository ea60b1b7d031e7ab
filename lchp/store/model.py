"""A trained trial as a model: its networks, and of its configuration what their answers depend on.

In a folder it is what ``mlflow.pyfunc.load_model`` loads, by way of :func:`_load_pyfunc`; in one file, what
``lchp export`` writes (``lchp.store.model_file``). Nothing of training is imported for either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lchp.data.files import read_json, write_json
from lchp.store.checks import read_object
from lchp.store.tensors import load_tensors, save_tensors
from lchp.vocabulary import LCHP_R

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from lchp.store.localizer import Localizer

    Image = str | Path | np.ndarray

ANSWER = ("x1", "y1", "x2", "y2", "label", "probability", "class")
"""The columns of an answer: the box in pixels of the image; index, probability and name of the likeliest class."""

_CONFIG, _NETWORKS, _CLASSES = "config.json", "networks.pt", "classes.json"


@dataclass(frozen=True)
class Design:
    """What of a trial's configuration the answers of its networks depend on, by the names that it has there."""

    backbone: str
    classifier: str
    box_format: str
    """Of the regressor's raw output: ``corners`` or ``centre_size``."""
    attention_maps: int
    bap_scale: float
    resize: int
    """Pixels: images are resized to squares of this side, their aspect is not kept."""
    crop: int
    """Pixels: the side of the view that the networks see."""
    evaluation: str
    """What of the resized image that is: ``whole`` or its ``centre_crop``."""
    batch_size: int
    precision: str
    cpu_threads: int
    channels_last: bool
    deterministic: bool
    regressor: dict[str, Any] = field(default_factory=dict)
    """The regressor's head; empty before version 0.3."""
    onednn: bool = False
    """Whether small batches of 1 x 1 convolutions are oneDNN's on the CPU."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Design:
        """That of a trial's config.json."""
        stage, view, compute = config["initialization"], config["view"], config["compute"]
        return cls(
            **{name: config[name] for name in ("backbone", "classifier", "box_format")},
            **{name: stage[name] for name in ("attention_maps", "bap_scale")},
            **{name: view[name] for name in ("resize", "crop", "evaluation")},
            **{name: compute[name] for name in ("precision", "cpu_threads", "channels_last", "deterministic")},
            batch_size=config["evaluation"]["batch_size"],
            regressor=config.get("regressor", {}),
            onednn=compute.get("onednn", False),
        )


@dataclass(frozen=True)
class Model:
    """The networks of a finished trial, or of an initialization.

    Attributes:
        classes: their names by index; None where they were not kept.
        regressor: the state dict of the network that gives boxes; ``classifier``: of the one that gives classes.
        method: whose boxes they are, of ``lchp.vocabulary.METHODS``.
        origin: what it comes from, for people.
    """

    design: Design
    classes: tuple[str, ...] | None
    regressor: Mapping[str, Tensor]
    classifier: Mapping[str, Tensor]
    method: str = LCHP_R
    origin: Mapping[str, str] = field(default_factory=dict)

    def named(self, label: int) -> str:
        """The name of a class; its index where the names are not known."""
        return str(label) if self.classes is None else self.classes[label]


def write_model(
    config: Mapping[str, Any],
    regressor: Mapping[str, Any],
    classifier: Mapping[str, Any],
    classes: Sequence[str] | None,
    out: Path,
) -> None:
    """Write the model of a trial into the folder ``out``, which is made: its configuration, the state dicts of its
    final regressor and of the classifier whose classes it is measured by, and the names of the classes where they are
    known.
    """
    out.mkdir(parents=True, exist_ok=True)
    save_tensors(out / _NETWORKS, {"regressor": dict(regressor), "classifier": dict(classifier)})
    if classes is not None:
        write_json(out / _CLASSES, list(classes))
    write_json(out / _CONFIG, config)


def is_model(folder: Path) -> bool:
    """Whether a folder is one that :func:`write_model` wrote, and not that of a stage."""
    return (folder / _CONFIG).is_file() and (folder / _NETWORKS).is_file() and not (folder / "scores.json").exists()


def read_model(folder: Path) -> Model:
    """The model in a folder. Damaged or ValueError where a file of it is not what was written."""
    config, weights = read_object(folder / _CONFIG), load_tensors(folder / _NETWORKS)
    file = folder / _CLASSES
    classes = tuple(read_json(file)) if file.is_file() else None
    return Model(Design.of(config), classes, weights["regressor"], weights["classifier"])


def judge_weights(initialization: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict of the classifier by whose classes a trial is measured, among the networks of its initialization:
    one that was kept for that, or the momentum network.
    """
    found: Mapping[str, Any] = initialization.get("classifier", initialization["momentum"])
    return found


class PyfuncModel:
    """A model in a folder, on the CPU, as MLflow asks it.

    Its answers to all images of a split in their order are those of per_image.csv to the bit, on the processor on which
    the trial was trained; among other images they may differ in the last bits.
    """

    def __init__(self, localizer: Localizer) -> None:
        self._localizer = localizer

    def predict(self, images: object, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """A box and a class for every image, a row each in the columns of ``ANSWER``.

        Args:
            images: paths, or RGB arrays (height, width, 3) of uint8: one, several, or a table with one column of them.
            params: none are known; MLflow gives them.

        Raises:
            ValueError: an image does not decode, or is neither.
        """
        import pandas as pd

        found = self._localizer.answers(_several(images))
        named = self._localizer.model.named
        rows = [(*one.box, one.label, one.confidence, named(one.label)) for one in found]
        return pd.DataFrame(rows, columns=list(ANSWER)).astype({"label": "int64"})


def _several(images: object) -> list[Image]:
    """The images that somebody means."""
    import numpy as np
    import pandas as pd

    if isinstance(images, pd.DataFrame):
        return list(images.iloc[:, 0])
    if isinstance(images, str | Path) or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    if isinstance(images, Iterable):
        return list(images)
    raise ValueError(f"{type(images).__name__}: is no image: give paths, or RGB arrays (height, width, 3) of uint8")


def _load_pyfunc(path: str) -> PyfuncModel:
    """What MLflow calls to load a model."""
    from lchp.store.localizer import Localizer

    return PyfuncModel(Localizer(read_model(Path(path))))

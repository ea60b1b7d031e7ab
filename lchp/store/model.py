"""A trained trial as a model: a folder with its networks and its configuration, which answers images with boxes.

``mlflow.pyfunc.load_model`` loads it by way of :func:`_load_pyfunc`. Nothing of training is imported for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lchp.data.files import write_json
from lchp.store.checks import read_object
from lchp.store.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from torch import Tensor, nn

    Image = str | Path | np.ndarray

ANSWER = ("x1", "y1", "x2", "y2", "label", "probability")
"""The columns of an answer: the box of LCHP-R in pixels of the image, the likeliest class and its probability."""

_CONFIG, _NETWORKS = "config.json", "networks.pt"


def write_model(
    config: Mapping[str, Any], regressor: Mapping[str, Any], classifier: Mapping[str, Any], out: Path
) -> None:
    """Write the model of a trial into the folder ``out``, which is made: its configuration, and the state dicts of its
    final regressor and of the classifier whose classes it is measured by.
    """
    out.mkdir(parents=True, exist_ok=True)
    save_tensors(out / _NETWORKS, {"regressor": dict(regressor), "classifier": dict(classifier)})
    write_json(out / _CONFIG, config)


def judge_weights(initialization: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict of the classifier by whose classes a trial is measured, among the networks of its initialization:
    one that was kept for that, or the momentum network.
    """
    found: Mapping[str, Any] = initialization.get("classifier", initialization["momentum"])
    return found


class Localizer:
    """A model in a folder, on the CPU.

    Its answers to all images of a split in their order are those of per_image.csv to the bit, on the processor on which
    the trial was trained; among other images they may differ in the last bits.
    """

    def __init__(self, folder: Path) -> None:
        import torch

        from lchp.method.networks import BapClassifier, BoxRegressor, RegressorDesign

        self.config = read_object(folder / _CONFIG)
        weights = load_tensors(folder / _NETWORKS)
        stage, design = self.config["initialization"], RegressorDesign(**self.config.get("regressor", {}))
        classes = weights["classifier"]["head.weight"].shape[0]
        with torch.device("meta"):
            regressor = BoxRegressor(
                self.config["backbone"], self.config["box_format"], design, self.config["view"]["crop"]
            )
            classifier = BapClassifier(self.config["classifier"], classes, stage["attention_maps"], stage["bap_scale"])
        self._regressor = self._placed(regressor, weights["regressor"])
        self._classifier = self._placed(classifier, weights["classifier"])

    def _placed(self, network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
        import torch

        network.load_state_dict(weights, assign=True)
        layout = torch.channels_last if self.config["compute"]["channels_last"] else torch.contiguous_format
        return network.eval().requires_grad_(False).to(memory_format=layout)

    def predict(self, images: object, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """A box and a class for every image, a row each in the columns of ``ANSWER``.

        Args:
            images: paths, or RGB arrays (height, width, 3) of uint8: one, several, or a table with one column of them.
            params: none are known; MLflow gives them.

        Raises:
            ValueError: an image does not decode, or is neither.
        """
        import pandas as pd

        several = _several(images)
        size = int(self.config["evaluation"]["batch_size"])
        rows = [row for start in range(0, len(several), size) for row in self._answers(several[start : start + size])]
        return pd.DataFrame(rows, columns=list(ANSWER)).astype({"label": "int64"})

    def _answers(self, images: Sequence[Image]) -> Iterator[tuple[float, ...]]:
        import torch

        from lchp.data.evaluated import view_of, whole_of
        from lchp.data.loader import resized
        from lchp.method import boxes
        from lchp.method.networks import as_corners

        view, decoded = self.config["view"], [_pixels(image) for image in images]
        frame = (view["resize"], view["crop"], view["evaluation"])
        with torch.inference_mode(), self._as_trained():
            views = view_of(torch.stack([resized(image, view["resize"]) for image in decoded]), *frame)
            logits = self._classifier(views).logits.float()
            raw = self._regressor(views).float()
            found = whole_of(boxes.clip(as_corners(raw, self.config["box_format"])), *frame).double()
            probabilities, labels = logits.softmax(1).max(1)
        for image, box, label, probability in zip(
            decoded, found.tolist(), labels.tolist(), probabilities.tolist(), strict=True
        ):
            height, width = image.shape[1:]
            x1, y1, x2, y2 = box
            yield x1 * width, y1 * height, x2 * width, y2 * height, label, probability

    @contextmanager
    def _as_trained(self) -> Iterator[None]:
        """The precision and the number of threads of the trial, on which the last bits depend."""
        import torch

        threads, compute = torch.get_num_threads(), self.config["compute"]
        torch.set_num_threads(compute["cpu_threads"])
        try:
            with torch.autocast("cpu", torch.bfloat16, compute["precision"] == "bf16", cache_enabled=False):
                yield
        finally:
            torch.set_num_threads(threads)


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


def _pixels(image: object) -> torch.Tensor:
    """An image as uint8 (3, height, width)."""
    import numpy as np
    import torch

    from lchp.data.loader import decode

    if isinstance(image, str | Path):
        return decode(Path(image))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    shape = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}".strip()
    raise ValueError(f"{shape}: is no image: give a path, or an RGB array (height, width, 3) of uint8")


def _load_pyfunc(path: str) -> Localizer:
    """What MLflow calls to load a model."""
    return Localizer(Path(path))

"""The method as its authors would have written it: correct and plain, the measure of the engine's speed.

Image files are read by PIL in a DataLoader, augmented there one by one (imgaug, on normalised float images), and boxes
are read off maps image by image in NumPy; every network is asked by itself, and the loss of every step is looked at.
The networks are those of ``lchp.method`` with torchvision's own layers; all else is written here anew, so that equal
losses and boxes of engine and reference say something. In the defaults of the configuration only: the paper's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from torchvision.models.inception import InceptionA, InceptionC, InceptionE

from lchp.data.imgaug_backend import load as load_imgaug
from lchp.method.networks import BapClassifier, BoxRegressor
from lchp.training.config import TrialConfig

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Network = TypeVar("Network", bound=nn.Module)

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True)
class Draw:
    """What is drawn for one image: its window and flip, and the strong augmentation; in pixels, x before y."""

    left: int
    top: int
    flipped: bool
    scale: tuple[float, float] = (1.0, 1.0)
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)
    turned: tuple[bool, bool] = (False, False)

    @property
    def numbers(self) -> Tensor:
        """What a box needs of the strong augmentation: scale, before, after and turned, (8,) float64."""
        return torch.tensor([*self.scale, *self.before, *self.after, *self.turned], dtype=torch.float64)


def drawn(random: np.random.Generator, resize: int, crop: int) -> Draw:
    """A draw with the paper's numbers (4.3)."""
    sides = np.rint(random.uniform(-0.25, 0.25, 4) * crop).astype(int) * (random.uniform() < 0.5)
    left, top = random.integers(0, resize - crop + 1, 2)
    scale, turned = random.uniform(0.8, 1.2, 2), random.uniform(size=2) < 0.5
    pairs: Any = (tuple(scale.tolist()), tuple(sides[:2].tolist()), tuple(sides[2:].tolist()), tuple(turned.tolist()))
    return Draw(int(left), int(top), bool(random.uniform() < 0.5), *pairs)


def read(file: Path, size: int) -> Pixels:
    """An image file as pixels (size, size, 3)."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def normalised(pixels: Pixels) -> Floats:
    """Pixels (h, w, 3) with ImageNet's mean and deviation taken out."""
    return (pixels.astype(np.float32) / 255 - MEAN) / STD


def weak_view(pixels: Pixels, draw: Draw, crop: int) -> Floats:
    """The general view of resized pixels: (crop, crop, 3)."""
    window = pixels[draw.top : draw.top + crop, draw.left : draw.left + crop]
    return normalised(window[:, ::-1] if draw.flipped else window)


def strong_view(view: Floats, draw: Draw) -> Floats:
    """S of a general view, by imgaug."""
    iaa = load_imgaug().augmenters
    steps = [iaa.Affine(scale={"x": draw.scale[0], "y": draw.scale[1]}, order=1, cval=0, mode="constant")]
    sides = (draw.before[1], draw.after[0], draw.after[1], draw.before[0])
    if any(sides):
        steps.append(iaa.CropAndPad(px=sides, sample_independently=False))
    steps += [iaa.Fliplr(float(draw.turned[0])), iaa.Flipud(float(draw.turned[1]))]
    return np.asarray(iaa.Sequential(steps)(image=np.ascontiguousarray(view)), np.float32)


def moved(boxes: npt.NDArray[np.float64], numbers: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Boxes (n, 4) of views of ``size`` pixels, in [0, 1], where S with ``numbers`` (n, 8) moves them."""
    scale, before, after, turned = np.split(numbers, 4, axis=1)
    length = size + before + after
    ends = []
    for end in (boxes[:, :2], boxes[:, 2:]):
        place = ((end * size - size / 2) * scale + size / 2 + before) / length
        ends.append(np.where(turned > 0, 1 - place, place))
    return np.concatenate([np.minimum(*ends), np.maximum(*ends)], 1).clip(0, 1)


def as_tensor(view: Floats) -> Tensor:
    """A view (h, w, 3) as networks want it: (3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))


class TrainFiles(Dataset[tuple[Tensor, ...]]):
    """Weak views and labels of image files; with ``strong`` also the strong views, and the numbers that move boxes."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int], resize: int, crop: int, strong: bool) -> None:
        self.files, self.labels, self.resize, self.crop, self.strong = files, labels, resize, crop, strong

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        draw = drawn(np.random.default_rng(), self.resize, self.crop)
        view = weak_view(read(self.files[index], self.resize), draw, self.crop)
        return self.made(view, draw, self.labels[index])

    def made(self, view: Floats, draw: Draw, label: int) -> tuple[Tensor, ...]:
        """What a stage's step takes of one image."""
        if not self.strong:
            return as_tensor(view), torch.tensor(label)
        return as_tensor(view), as_tensor(strong_view(view, draw)), draw.numbers


class TestFiles(Dataset[tuple[Tensor, ...]]):
    """Evaluation views, labels and true boxes in [0, 1]."""

    def __init__(
        self, files: Sequence[Path], labels: Sequence[int], boxes: Floats, resize: int, crop: int, whole: bool
    ) -> None:
        self.files, self.labels, self.boxes, self.resize, self.crop, self.whole = (
            files, labels, torch.from_numpy(boxes), resize, crop, whole,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        pixels = read(self.files[index], self.resize)
        if self.whole:
            pixels = np.asarray(Image.fromarray(pixels).resize((self.crop, self.crop), Image.Resampling.BILINEAR))
        else:
            start = (self.resize - self.crop) // 2
            pixels = pixels[start : start + self.crop, start : start + self.crop]
        return as_tensor(normalised(pixels)), torch.tensor(self.labels[index]), self.boxes[index]


def region_of(activation: Floats, delta: float) -> list[int]:
    """Algorithm 1, lines 3 and 4: the tightest rectangle, in pixels, of what exceeds delta; else the whole view."""
    low, high = activation.min(), activation.max()
    rows, columns = np.nonzero((activation - low) / max(high - low, 1e-12) > delta)
    if len(rows) == 0:
        return [0, 0, activation.shape[1], activation.shape[0]]
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def regions_of(maps: Tensor, size: int, delta: float) -> list[list[int]]:
    """Algorithm 1, lines 2 to 4, for maps (n, c, h, w)."""
    mean = maps.float().mean(1, keepdim=True)
    enlarged = functional.interpolate(mean, size=(size, size), mode="bilinear", align_corners=False)
    return [region_of(activation, delta) for activation in enlarged[:, 0].cpu().numpy()]


def algorithm_1(trunk: Callable[[Tensor], Tensor], views: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """Algorithm 1: pseudo boxes (n, 4) in [0, 1] of views (n, 3, s, s), and the masked images."""
    size = views.shape[-1]
    regions = regions_of(trunk(views), size, delta)
    masked = views.clone()
    for image, (x1, y1, x2, y2) in zip(masked, regions, strict=True):
        image[:, y1:y2, x1:x2] = 0
    boxes = []
    for (x1, y1, x2, y2), (a1, b1, a2, b2) in zip(regions, regions_of(trunk(masked), size, delta), strict=True):
        boxes.append([min(x1, a1), min(y1, b1), max(x2, a2), max(y2, b2)])
    return torch.tensor(boxes, device=views.device) / size, masked


def crop(view: Tensor, box: Sequence[float]) -> Tensor:
    """I_b: what of a view (3, s, s) lies in its box, resized to the view's size; at least two pixels a side."""
    size = view.shape[-1]
    pixel, points = 1 / size, []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        if high - low < 2 * pixel:
            centre = min(max((low + high) / 2, pixel), 1 - pixel)
            low, high = centre - pixel, centre + pixel
        places = low + (torch.arange(size, device=view.device) + 0.5) / size * (high - low)
        points.append(2 * places.clamp(low + pixel / 2, high - pixel / 2) - 1)
    y, x = torch.meshgrid(points[1], points[0], indexing="ij")
    grid = torch.stack([x, y], -1)[None]
    return functional.grid_sample(view[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


def as_published(network: Network) -> Network:
    """A copy of a network in torch's own memory layout, with torchvision's activations and blocks of InceptionV3."""
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    for block in plain.modules():
        if isinstance(block, (nn.ReLU6, nn.SiLU)):
            block.inplace = True
        for published in (InceptionA, InceptionC, InceptionE):
            if isinstance(block, published):
                block.__class__ = published
    return plain


class Plain:
    """What both stages share: the device, the precision, and an epoch."""

    def __init__(self, config: TrialConfig, device: str, bf16: bool) -> None:
        self.config, self.device, self.bf16 = config, device, bf16
        self.trained: list[nn.Module] = []

    def ask(self, network: Callable[[Tensor], Any], images: Tensor) -> Any:
        """What a network says to images."""
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=self.bf16):
            return network(images)

    def optimizer(self, network: nn.Module, rate: float) -> torch.optim.Optimizer:
        """The paper's (4.3)."""
        options = self.config.initialization.optimizer
        return torch.optim.SGD(
            network.parameters(), lr=rate, momentum=options.momentum, weight_decay=options.weight_decay
        )

    def train_epoch(self, batches: Iterable[Sequence[Tensor]]) -> list[float]:
        """One pass over batches; the means of what the steps give."""
        for network in self.trained:
            network.train()
        rows = [self.step(*(part.to(self.device, non_blocking=True) for part in batch)) for batch in batches]
        return np.mean(rows, axis=0).tolist()  # type: ignore[no-any-return]

    def step(self, *batch: Tensor) -> list[float]:
        """One optimization step; the loss first."""
        raise NotImplementedError


class Initialization(Plain):
    """The first stage; it trains the networks that it is given."""

    def __init__(
        self, classifier: BapClassifier, regressor: BoxRegressor, config: TrialConfig, device: str, bf16: bool = False
    ) -> None:
        super().__init__(config, device, bf16)
        self.classifier, self.regressor = classifier.to(device), regressor.to(device)
        self.trained = [classifier, regressor]
        self.momentum = copy.deepcopy(classifier).eval().requires_grad_(False)
        self.optimizers = [
            self.optimizer(classifier, config.initialization.classifier_rate),
            self.optimizer(regressor, config.initialization.regressor_rate),
        ]

    def step(self, views: Tensor, labels: Tensor) -> list[float]:  # type: ignore[override]
        """Views (n, 3, s, s) and labels (n,); gives Eq. 3, Eq. 1, Eq. 2 and the accuracy."""
        with torch.no_grad():
            boxes, masked = algorithm_1(lambda x: self.ask(self.momentum.trunk, x), views, self.config.delta)
        # Batch normalisation sees raw and masked images together, which settles how they are asked.
        raw, hidden = self.ask(self.classifier, torch.cat([views, masked])).logits.chunk(2)
        loss_cls = (functional.cross_entropy(raw, labels) + functional.cross_entropy(hidden, labels)) / 2
        loss_reg = ((self.ask(self.regressor, views) - boxes) ** 2).sum(1).mean()
        loss = loss_cls + self.config.alpha * loss_reg
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
        self.follow()
        accuracy = (raw.argmax(1) == labels).float().mean()
        return [loss.item(), loss_cls.item(), loss_reg.item(), accuracy.item()]

    @torch.no_grad()
    def follow(self) -> None:
        """Eq. 7."""
        beta = self.config.beta
        for slow, fast in zip(self.momentum.parameters(), self.classifier.parameters(), strict=True):
            slow.mul_(beta).add_(fast, alpha=1 - beta)
        for slow, fast in zip(self.momentum.buffers(), self.classifier.buffers(), strict=True):
            slow.copy_(fast)


class Refinement(Plain):
    """The second stage; it trains the regressor that it is given."""

    def __init__(
        self, classifier: BapClassifier, regressor: BoxRegressor, config: TrialConfig, device: str, bf16: bool = False
    ) -> None:
        super().__init__(config, device, bf16)
        self.classifier, self.regressor = classifier.to(device).eval(), regressor.to(device)
        self.trained = [regressor]
        self.descent = self.optimizer(regressor, config.refinement.rate)

    def step(self, views: Tensor, strong: Tensor, numbers: Tensor) -> list[float]:  # type: ignore[override]
        """Weak and strong views (n, 3, s, s) and what moves boxes (n, 8); gives Eq. 6, the share that was selected, the
        mean confidence and the mean area of the weak boxes.
        """
        with torch.no_grad():
            weak = self.ask(self.regressor, views).clamp(0, 1).cpu().double().numpy()
            crops = torch.stack([crop(view, box) for view, box in zip(views, weak.tolist(), strict=True)])
            sure = self.ask(self.classifier, crops).logits.softmax(1).amax(1)
        targets = moved(weak, numbers.cpu().numpy(), views.shape[-1])
        shown = torch.from_numpy((targets[:, 2:] > targets[:, :2]).all(1)).to(self.device)
        keep = (sure > self.config.tau) & shown
        distance = (self.ask(self.regressor, strong) - torch.from_numpy(targets).float().to(self.device)) ** 2
        loss = (distance.sum(1) * keep).mean()
        self.descent.zero_grad()
        (self.config.refinement.alpha * loss).backward()  # type: ignore[no-untyped-call]
        self.descent.step()
        area = np.prod((weak[:, 2:] - weak[:, :2]).clip(0), axis=1).mean()
        return [loss.item(), keep.float().mean().item(), sure.mean().item(), float(area)]


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = [max(box[2] - box[0], 0) * max(box[3] - box[1], 0) for box in (first, second)]
    return shared / max(sum(areas) - shared, 1e-12)


@torch.no_grad()
def evaluate(
    stage: Plain, predict: Callable[[Tensor], Tensor], classifier: nn.Module, batches: Iterable[Sequence[Tensor]]
) -> dict[str, float]:
    """GT-Known, Top-1 localization and Top-1 classification of the boxes that ``predict`` finds in views."""
    known, right = [], []
    for views, labels, truth in batches:
        views = views.to(stage.device, non_blocking=True)
        classes = stage.ask(classifier, views).logits.argmax(1).cpu()
        found = predict(views).float().clamp(0, 1).cpu()
        known += [overlap(*pair) >= 0.5 for pair in zip(found.tolist(), truth.tolist(), strict=True)]
        right += (classes == labels).tolist()
    both = np.logical_and(known, right)
    return {"gt_known": float(np.mean(known)), "top1_loc": float(both.mean()), "top1_cls": float(np.mean(right))}


def pseudo_label(stage: Plain, momentum: BapClassifier) -> Callable[[Tensor], Tensor]:
    """The boxes of Algorithm 1."""
    return lambda views: algorithm_1(lambda x: stage.ask(momentum.eval().trunk, x), views, stage.config.delta)[0]


def regressed(stage: Plain, regressor: BoxRegressor) -> Callable[[Tensor], Tensor]:
    """The boxes of the regressor."""

    def predict(views: Tensor) -> Tensor:
        found: Tensor = stage.ask(regressor.eval(), views)
        return found

    return predict

"""Boxes of whole images by a frozen, pretrained network: made once for a dataset, a network and a size, and kept in the
cache folder (``Runtime.cache``), where every trial and study finds them.

The network sees each image whole, resized to ``pseudo_boxes.size`` pixels a side, in fp32: bf16 moves boxes. What is
fitted (DDT's axes) is fitted on the training images alone. Images of val and test get their boxes for the row Pseudo
Label; a class's axis is chosen by their label, as GT-Known localization has it (paper 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lchp.data.fingerprint import fingerprint
from lchp.data.loader import ImageSource
from lchp.data.once import build_once
from lchp.data.progress import progress
from lchp.method.augmentation import normalise
from lchp.method.backbones import find_network
from lchp.method.descriptors import DescriptorMoments, PrincipalAxes, ddt_boxes, projection
from lchp.method.lost import lost_boxes
from lchp.method.networks import seeded
from lchp.method.pseudo_boxes import Grid, Reading, enlarged, scaled
from lchp.method.tokencut import tokencut_boxes
from lchp.method.trunks import without_last
from lchp.method.vit import last_keys, make_transformer
from lchp.store.checks import Damaged
from lchp.store.placement import place
from lchp.store.tensors import check_tensors, load_tensors, save_tensors
from lchp.training.box_config import KEPT, READ
from lchp.training.config import TrialConfig
from lchp.training.identity import ADDED
from lchp.training.material import Material
from lchp.training.weight_files import BOX_WEIGHTS
from lchp.training.weights import load_transformer_weights, load_trunk_weights
from lchp.vocabulary import TRAIN

GROUPS = 32
"""Classes whose moments are summed in one pass: 0.4 GB for MobileNetV2's 1,280 channels."""


CHUNK = 64
"""Maps that are enlarged together: 51 MB at 448 pixels a side."""


def frozen_boxes(config: TrialConfig, material: Material) -> dict[str, Tensor]:
    """The boxes (n, 4), corners in [0, 1] of whole images, of every split of ``material`` in its order, by its name.

    Raises:
        ValueError: weights that cannot be had or do not fit; names what, and the remedy.
    """
    if config.pseudo_boxes.source != "ddt":
        return _kept(config, material)
    return _stored(config, material, READ["ddt"], lambda: _boxes_off(config, material))


def _boxes_off(config: TrialConfig, material: Material) -> dict[str, Tensor]:
    """DDT's boxes (n, 4) by split, off the projections at every size, which configurations with other options share."""
    of_sizes = [_kept(_with_size(config, size), material) for size in config.pseudo_boxes.sizes]
    return {name: _ddt_boxes(config, [kept[name] for kept in of_sizes]) for name in of_sizes[0]}


def _with_size(config: TrialConfig, size: int) -> TrialConfig:
    """The configuration with one size alone."""
    options = config.pseudo_boxes.model_copy(update={"size": size, "further_sizes": ()})
    return config.model_copy(update={"pseudo_boxes": options})


def reading_of(config: TrialConfig, network: str) -> Reading:
    """How regions are read off the maps of a network's classifier trunk."""
    options, known = config.pseudo_boxes, find_network(network)
    grid = Grid(known.first_cell, known.classifier.stride)
    return Reading(options.normalization, options.component, options.enlargement, grid, options.mirror)


def _ddt_boxes(config: TrialConfig, maps: Sequence[Tensor]) -> Tensor:
    """Boxes (n, 4) from the projections (n, k, h, w) at every size: of the images and, where k is 2, of their mirror
    images.
    """
    boxes = []
    for parts in zip(*(torch.split(of_size, CHUNK) for of_size in maps), strict=True):
        sized = zip(config.pseudo_boxes.sizes, parts, strict=True)
        values = together([_enlarged_views(config, size, part) for size, part in sized])
        boxes.append(ddt_boxes(values, config.pseudo_boxes.threshold))
    return torch.cat(boxes)


def _enlarged_views(config: TrialConfig, size: int, maps: Tensor) -> Tensor:
    """The mean of the projections (n, k, h, w) of an image and its mirror image, (n, size, size)."""
    reading = reading_of(config, config.pseudo_boxes.network)
    values = torch.stack([enlarged(maps[:, [view]], size, reading) for view in range(maps.shape[1])], 1)
    values[:, 1:] = values[:, 1:].flip(-1)
    return values.mean(1)


def together(maps: Sequence[Tensor]) -> Tensor:
    """The mean of maps (n, s, s) of several sizes s at the largest of them, each divided by its largest value first; a
    map alone stays as it is.
    """
    if len(maps) == 1:
        return maps[0]
    side = max(len(of_size[0]) for of_size in maps)
    resized = [
        functional.interpolate(scaled(of_size, "max")[:, None], (side, side), mode="bilinear") for of_size in maps
    ]
    return torch.cat(resized, 1).mean(1)


def frozen_network(config: TrialConfig) -> nn.Module:
    """The frozen network of a source, on the CPU, in evaluation mode. ValueError as :func:`frozen_boxes`."""
    options, key = config.pseudo_boxes, BOX_WEIGHTS
    if options.source == "ddt":
        known = find_network(options.network).classifier
        trunk = seeded(known.build, 0)
        source = "imagenet" if options.weights == "pretrained" else options.weights
        load_trunk_weights(trunk, options.network, source, key)
        return _omitting(trunk.requires_grad_(False).eval(), options.omit, known.stride)
    transformer: nn.Module = make_transformer(options.transformer, 0)
    load_transformer_weights(
        transformer, options.transformer, "dino" if options.weights == "pretrained" else options.weights, key
    )
    return transformer


def _omitting(trunk: nn.Sequential, count: int, stride: int) -> nn.Sequential:
    """A trunk without its last blocks. ValueError if its cells then lie closer, or none of it is left."""
    try:
        shorter = without_last(trunk, count)
    except ValueError as error:
        raise ValueError(f"pseudo_boxes.omit = {count}: {error}") from error
    views = torch.zeros(1, 3, 8 * stride, 8 * stride)
    if shorter(views).shape[2:] != trunk(views).shape[2:]:
        raise ValueError(f"pseudo_boxes.omit = {count} leaves out the trunk's last stride of {stride} px: write less")
    return shorter


_YOUNGER = ("pseudo_boxes.further_sizes", "pseudo_boxes.axes", "compute.onednn")
"""Fields that are younger than the files of some caches: left out of their names with the values of those."""


def _kept(config: TrialConfig, material: Material) -> dict[str, Tensor]:
    """DDT's projections (n, 1 or 2, h, w), float32, or another source's boxes (n, 4), by split."""
    source = config.pseudo_boxes.source
    return _stored(config, material, KEPT[source], lambda: MAKERS[source](config, material))


def _stored(
    config: TrialConfig, material: Material, names: Sequence[str], make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What ``make`` gives, tensors by split, from the cache where it was made before with the same options ``names``,
    images, network and device.
    """
    plain = config.pseudo_boxes.model_dump(mode="json", include=set(names))
    options = _named("pseudo_boxes", plain)
    if options.get("descriptors") == "unit":
        # Files of before hold axes whose sign was taken from the rounding of unit norms.
        options["strength"] = "norms"
    digest = material.given_digests.get("pseudo_box_weights")
    key = fingerprint(
        {
            "images": material.digest.total,
            "split": config.split.model_dump(mode="json"),
            "options": {**options, "weights": digest or options["weights"]},
            # Sums are ordered by threads, batches and devices: their last bits belong to the result.
            "compute": _named("compute", config.compute.model_dump(mode="json", exclude={"precision", "compile"})),
            "batch_size": config.evaluation.batch_size,
            "device": torch.device(material.runtime.device).type,
        }
    )
    made = build_once(
        material.runtime.cache / "pseudo_boxes" / f"{key}.pt",
        lambda part: save_tensors(part, make()),
        _fault,
    )
    return load_tensors(made)


def _named(section: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a section of TrialConfig as a file's name tells of them."""
    younger = {key.removeprefix(f"{section}."): ADDED[key].before for key in _YOUNGER}
    return {name: value for name, value in plain.items() if younger.get(name, ...) != value}


def _fault(file: Path) -> str | None:
    try:
        check_tensors(file)
    except Damaged as damage:
        return damage.fault
    return None


@torch.inference_mode()
def _ddt_projections(config: TrialConfig, material: Material) -> dict[str, Tensor]:
    network = _placed(config, material)
    sources = _sources(config, material)
    axes = _axes(config, material, network, sources[TRAIN])
    kept = {}
    for name, source in sources.items():
        maps = []
        for images, labels in _batches(config, material, source, torch.arange(len(source)), f"DDT boxes of {name}"):
            views = (images, images.flip(-1)) if config.pseudo_boxes.mirror else (images,)
            groups = _groups(config, labels)
            seen = [projection(_descriptors(config, network(view)), axes, groups).float().cpu() for view in views]
            maps.append(torch.stack(seen, 1))
        kept[name] = torch.cat(maps)
    return kept


def _descriptors(config: TrialConfig, maps: Tensor) -> Tensor:
    """The trunk's maps (n, C, h, w), as they are or every place's of norm 1."""
    return functional.normalize(maps) if config.pseudo_boxes.descriptors == "unit" else maps


@torch.inference_mode()
def _token_boxes(config: TrialConfig, material: Material) -> dict[str, Tensor]:
    options, network = config.pseudo_boxes, _placed(config, material)
    kept = {}
    for name, source in _sources(config, material).items():
        boxes = []
        for images, _ in _batches(config, material, source, torch.arange(len(source)), f"{options.source} of {name}"):
            keys, grid = last_keys(network, images)
            if options.source == "tokencut":
                boxes.append(tokencut_boxes(keys, grid, options.similarity).cpu())
            else:
                boxes.append(lost_boxes(keys, grid, options.patches).cpu())
        kept[name] = torch.cat(boxes)
    return kept


def _axes(config: TrialConfig, material: Material, network: nn.Module, train: ImageSource) -> PrincipalAxes:
    """The axis of every class, or of all images, over the training images; a few classes a pass over theirs."""
    groups = _groups(config, train.labels)
    first, _ = next(_batches(config, material, train, torch.tensor([0]), "DDT axes"))
    channels = network(first).shape[1]
    parts = []
    for start in range(0, int(groups.max()) + 1, GROUPS):
        moments = DescriptorMoments(GROUPS, channels, material.runtime.device)
        wanted = ((groups >= start) & (groups < start + GROUPS)).nonzero().squeeze(1)
        for images, labels in _batches(config, material, train, wanted, "DDT axes"):
            maps = network(images)
            moments.add(_descriptors(config, maps), _groups(config, labels) - start, maps.double().square().sum(1))
        parts.append(moments.principal_axes(config.pseudo_boxes.axes))
    return PrincipalAxes(torch.cat([part.mean for part in parts]), torch.cat([part.axis for part in parts]))


def _groups(config: TrialConfig, labels: Tensor) -> Tensor:
    return labels if config.pseudo_boxes.axis == "class" else torch.zeros_like(labels)


def _placed(config: TrialConfig, material: Material) -> nn.Module:
    network = frozen_network(config)
    # In fp32 whatever the trial learns in, and so in the layout of that.
    place(network, config.compute.model_copy(update={"precision": "fp32"}), material.runtime.device)
    return network


def _sources(config: TrialConfig, material: Material) -> dict[str, ImageSource]:
    """Every split's images, whole, at the size that the source sees."""
    names = [TRAIN, *(split.name for split in material.measured)]
    return {name: material.source(name, config.pseudo_boxes.size) for name in names}


def _batches(
    config: TrialConfig, material: Material, source: ImageSource, places: Tensor, doing: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised whole images on the device and their labels, for the images at ``places``."""
    size = config.evaluation.batch_size
    batches = source.batches(places, size, drop_last=False, workers=material.runtime.loader_workers)
    for images, labels, _ in progress(batches, doing, -(-len(places) // size), size):
        yield normalise(images.to(material.runtime.device, non_blocking=True)), labels


MAKERS: dict[str, Callable[[TrialConfig, Material], dict[str, Any]]] = {
    "ddt": _ddt_projections,
    "tokencut": _token_boxes,
    "lost": _token_boxes,
}

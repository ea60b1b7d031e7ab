"""What a configuration says of the source of pseudo boxes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lchp.data.config import Config, GivenPath
from lchp.method.backbones import NETWORKS, check_view
from lchp.method.vit import check_transformer_view
from lchp.training.network_config import NetworkName, TransformerName, WeightsFile

KEPT = {
    "ddt": ("source", "size", "further_sizes", "weights", "network", "omit", "axis", "axes", "descriptors", "mirror"),
    "tokencut": ("source", "size", "weights", "transformer", "similarity"),
    "lost": ("source", "size", "weights", "transformer", "patches"),
}
"""What of PseudoBoxConfig determines that which is kept of a frozen network in the cache, by source."""

_OF_MAPS = ("component", "enlargement", "mirror")

READ: dict[str, tuple[str, ...]] = {
    "mask": _OF_MAPS,
    "single": _OF_MAPS,
    "evidence": (*_OF_MAPS, "threshold"),
    "ddt": (*KEPT["ddt"], "enlargement", "threshold"),
    "tokencut": KEPT["tokencut"],
    "lost": KEPT["lost"],
    "file": ("file",),
}
"""Fields of PseudoBoxConfig that a source reads beside those that all do: ``source``, and those by which the images of
Eq. 1 are masked, ``normalization`` and ``maps``.
"""


class PseudoBoxConfig(Config):
    """Where pseudo boxes come from, and what the paper leaves open of Algorithm 1 (method notes 1, 2, 4).

    ``mask``, ``single`` and ``evidence`` read them off the momentum network's maps of every view, as it learns. The
    other sources are fixed: one box for each whole image, made before training.
    """

    source: Literal["mask", "single", "evidence", "ddt", "tokencut", "lost", "file"] = Field(
        "mask",
        description="`mask`: Algorithm 1; `single`: without its mask pass; `evidence`: what every place says for the "
        "label; `ddt`: Deep Descriptor Transforming; `tokencut`, `lost`: by a self-supervised transformer; `file`: a "
        "CSV of one's own",
    )
    normalization: Literal["min_max", "max"] = Field(
        "min_max", description="scale of A before A > delta (method notes 1); `max`: delta is a share of the maximum"
    )
    maps: Literal["features", "attention", "cam"] = Field(
        "features", description="whose mean A is (method notes 2); `cam`: the label's class activation alone"
    )
    component: Literal["all", "largest"] = Field(
        "all", description="what of the foreground a box of `mask`, `single` or `evidence` holds (method notes 4)"
    )
    enlargement: Literal["tiled", "centred", "cells"] = Field(
        "tiled",
        description="how maps become as large as the view (method notes 3): bilinearly, as if their cells tiled it, or "
        "between the centres of what the cells see; or cell by cell (PSOL)",
    )
    mirror: bool = Field(False, description="whether maps are averaged with those of the mirror image")
    size: int = Field(
        448, ge=16, le=2048, description="side in pixels of the whole images that `ddt`, `tokencut` and `lost` see"
    )
    further_sizes: tuple[Annotated[int, Field(ge=16, le=2048)], ...] = Field(
        (),
        description="of `ddt`: more such sides, whose h is averaged with that of `size`, each divided by its maximum",
    )
    weights: Literal["pretrained", "none"] | WeightsFile = Field(
        "pretrained", description="of `network` (torchvision's ImageNet weights) or `transformer` (DINO's), or a file"
    )
    network: NetworkName = Field("mobilenet_v2", description="of `ddt`: the trunk of a classifier, frozen")
    omit: int = Field(
        0, ge=0, le=100, description="of `ddt`: last blocks of that trunk that are left out, down to its stride"
    )
    axis: Literal["class", "all"] = Field("class", description="of `ddt`: images that share a principal axis")
    axes: int = Field(
        1,
        ge=1,
        le=100,
        description="of `ddt`: first principal axes that are looked at; that one is taken with which the norm of "
        "descriptors goes most (PSOL: 1, the first)",
    )
    descriptors: Literal["raw", "unit"] = Field("raw", description="of `ddt`: as they are, or each of norm 1")
    threshold: float = Field(
        0.0, ge=0, lt=1, description="of `ddt` and `evidence`: the share of its maximum above which h is foreground"
    )
    transformer: TransformerName = Field("dino_vits16", description="of `tokencut` and `lost`, frozen")
    similarity: float = Field(
        0.2, ge=-1, lt=1, description="of `tokencut`: the cosine above which patches are joined (paper: 0.2; CUB 0.05)"
    )
    patches: int = Field(100, ge=1, le=100_000, description="of `lost`: patches of the lowest degree that vote")
    file: GivenPath | None = Field(
        None, description="boxes of `file`: a CSV with the columns path, x1, y1, x2, y2 in pixels"
    )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sides of the whole images that `ddt` sees, in pixels."""
        return (self.size, *self.further_sizes)

    @property
    def fixed(self) -> bool:
        """Whether boxes are made before training, one for each whole image."""
        return self.source not in ("mask", "single", "evidence")

    @property
    def frozen(self) -> bool:
        """Whether they are made by a frozen network."""
        return self.source in KEPT

    @property
    def kept(self) -> str | None:
        """What configurations have in common that share what is kept of a frozen network; None of other sources."""
        return self.model_dump_json(include=set(KEPT[self.source])) if self.frozen else None

    @property
    def unread(self) -> frozenset[str]:
        """The fields that change nothing with this source."""
        return frozenset(name for names in READ.values() for name in names) - {"source", *READ[self.source]}

    def check(self) -> None:
        """ValueError if what the source wants is not said, or does not fit; names the key, its value and the remedy."""
        if self.source == "file" and self.file is None:
            raise ValueError(
                "pseudo_boxes.source is file, but pseudo_boxes.file names none: give the CSV with the boxes"
            )
        if self.source == "ddt":
            for size in self.sizes:
                check_view(self.network, size)
            if self.weights == "pretrained" and NETWORKS[self.network].imagenet is None:
                raise ValueError(
                    f"pseudo_boxes.weights is pretrained, but {self.network} has no such weights: "
                    "give pseudo_boxes.weights.file, or choose another pseudo_boxes.network"
                )
        if self.source in ("tokencut", "lost"):
            check_transformer_view(self.transformer, self.size)

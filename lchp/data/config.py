"""What a dataset is made from: frozen, validated configuration.

``path`` says where the files lie on this machine; it never identifies a result (the files' digest does).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lchp.data.kinds import KINDS, Counts


class Config(BaseModel):
    """The base of every configuration: frozen, unknown keys refused, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _not_empty(path: Any) -> Any:
    # The empty path is the working folder to Python; a person who writes it has forgotten something.
    if path == "":
        raise ValueError("the path is empty: give one, or leave the key out")
    return path


GivenPath = Annotated[Path, BeforeValidator(_not_empty)]
"""A path that a person gives. Each such field of a trial has a line in ``lchp.training.given_paths.PATHS``."""


_KIND = "how the files are laid out; `synthetic`: none, creatures of eight classes are drawn"
SYNTHETIC_CLASSES = 8
"""How many ``lchp.data.synthetic`` draws, said here for those who do without its NumPy and Pillow."""


class SyntheticDataset(Config):
    """Procedurally drawn creatures of eight classes, drawn once into the cache folder, no download."""

    kind: Literal["synthetic"] = Field("synthetic", description=_KIND)
    train_per_class: int = Field(375, ge=1, le=100_000, description="training images a class (375: 3,000 in all)")
    test_per_class: int = Field(63, ge=1, le=100_000, description="test images a class (63: 504 in all)")
    size: int = Field(72, ge=24, le=512, description="side of the drawn canvas in pixels")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the drawing; not the trial's seed")

    @property
    def published(self) -> Counts:
        """The size that is drawn."""
        classes = SYNTHETIC_CLASSES
        return Counts(classes * self.train_per_class, classes * self.test_per_class, classes, "as drawn")


if TYPE_CHECKING:
    KindOfFiles = str
else:
    KindOfFiles = Literal[tuple(name for name, kind in KINDS.items() if not kind.drawn)]


class FilesDataset(Config):
    """A dataset whose files lie on this machine, of any kind of ``lchp.data.kinds`` that is not drawn."""

    kind: KindOfFiles = Field(description=_KIND)
    path: GivenPath | None = Field(
        None, description="where it lies: its folder, the archive of it, or a table's CSV file"
    )

    @property
    def published(self) -> Counts | None:
        """The published size of an original dataset; None for people's own."""
        return KINDS[self.kind].published


DatasetConfig = Annotated[SyntheticDataset | FilesDataset, Field(discriminator="kind")]


class SplitConfig(Config):
    """How the validation split is drawn from the training images."""

    val_per_class: int = Field(
        5, ge=0, le=1_000_000, description="training images a class held out for choices; 0 repeats the paper"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the draw; the same for every trial of a study")


class ViewConfig(Config):
    """General augmentation and the evaluation view (paper 4.3)."""

    resize: int = Field(512, ge=16, le=2048, description="side in pixels to which images are resized (paper 4.3: 512)")
    crop: int = Field(
        448, ge=16, le=2048, description="side in pixels of the random crop and of every input (paper: 448)"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip (paper 4.3: 0.5)")
    evaluation: Literal["whole", "centre_crop"] = Field(
        "whole", description="the view that is evaluated: the whole image resized to `crop`, or the centre crop"
    )

"""What a dataset is made from: frozen, validated configuration.

``path`` says where the files lie on this machine; it never identifies a result (the files' digest does).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """The base of every configuration: frozen, unknown keys refused, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SyntheticDataset(Config):
    """Procedurally drawn creatures of eight classes, drawn once into the cache folder, no download."""

    kind: Literal["synthetic"] = "synthetic"
    train_per_class: int = Field(375, ge=1, le=100_000, description="training images a class (375: 3,000 in all)")
    test_per_class: int = Field(63, ge=1, le=100_000, description="test images a class (63: 504 in all)")
    size: int = Field(72, ge=24, le=512, description="side of the drawn canvas in pixels")
    seed: int = Field(0, ge=0, description="seed of the drawing; not the trial's seed")


class CubDataset(Config):
    """CUB-200-2011 in its original layout: the folder, or the .tgz/.tar that holds it."""

    kind: Literal["cub"]
    path: Path | None = Field(None, description="folder CUB_200_2011, or the archive")


class TinyImageNetDataset(Config):
    """Tiny-ImageNet-200 in its original layout: the folder, or the .zip/.tar; box ends are read as inclusive."""

    kind: Literal["tiny-imagenet"]
    path: Path | None = Field(None, description="folder tiny-imagenet-200, or the archive")


class ImageNetDataset(Config):
    """ImageNet-1k: the folder that holds ILSVRC/{Data,Annotations}/CLS-LOC/{train,val}."""

    kind: Literal["imagenet"]
    path: Path | None = Field(None, description="the folder that holds ILSVRC, or ILSVRC itself")


class TableDataset(Config):
    """People's own images: a CSV with the columns path, label, split and, where known, x1, y1, x2, y2 in pixels."""

    kind: Literal["table"]
    path: Path | None = Field(None, description="the CSV file; image paths are relative to its folder")


DatasetConfig = Annotated[
    SyntheticDataset | CubDataset | TinyImageNetDataset | ImageNetDataset | TableDataset, Field(discriminator="kind")
]


class SplitConfig(Config):
    """How the validation split is drawn from the training images."""

    val_per_class: int = Field(5, ge=0, description="training images a class held out for choices; 0 repeats the paper")
    seed: int = Field(0, ge=0, description="seed of the draw; the same for every trial of a study")


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

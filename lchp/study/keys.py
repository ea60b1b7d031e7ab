"""The keys of study and trial files that are not a trial's own configuration."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from lchp.data.config import Config
from lchp.study.space import Search
from lchp.study.tables import Table


class Resources(Config):
    """What one trial takes of the machine."""

    cpus: float | None = Field(None, gt=0, description="CPU cores a trial; unset: compute.cpu_threads")
    gpus: float = Field(1, gt=0, description="GPUs a trial where it trains on CUDA; 0.5 puts two trials on one")
    concurrent: int | None = Field(None, ge=1, description="most trials at once; unset: as many as the machine holds")


class StudyKeys(Config):
    """The keys of a study file that are not a trial's own."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="folder and experiment name")
    question: str | None = Field(None, description="what the study asks, in one line")
    preset: str | None = Field(None, description="the recipe that the file's keys are laid over")
    vary: Any = Field(None, description="a grid (dotted key to list of values), or a list of grids")
    search: Search | None = Field(None, description="an Optuna search instead of `vary`")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = Field(
        (0,), description="seeds; every configuration is trained with each"
    )
    resources: Resources = Resources()
    tables: Annotated[tuple[Table, ...], Field(min_length=1)] = Field(
        (Table(),), description="tables; unset: one over all that varies"
    )


class TrialKeys(Config):
    """The key of a trial file that is not the trial's configuration."""

    preset: str | None = Field(None, description="the recipe that the file's keys are laid over")

"""What a study or trial file may say beside a trial's own configuration: the models of its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator

from lchp.data.config import Config
from lchp.data.listing import NOT_IN_A_LINE
from lchp.study.spec.search import Search
from lchp.vocabulary import GT_KNOWN, METRICS, REFERENCES

if TYPE_CHECKING:
    Metric: TypeAlias = str
    Reference: TypeAlias = str
else:
    # Type checkers want a Literal's words typed out; they stand in the vocabulary alone.
    Metric = Literal[tuple(METRICS)]
    Reference = Literal[tuple(REFERENCES)]


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""What a study may be called."""
ONE_LINE = f"^[^{NOT_IN_A_LINE}]*$"
RESERVED = {"paper": "the paper's numbers", "reference": "the results that come with the project"}
"""Folders of the output that no study may take, and what they hold."""


class Table(Config):
    """A table that the study ends in."""

    name: str = Field("table", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$", description="file name without its ending")
    by: tuple[str, ...] | None = Field(None, description="varied keys that make the rows; unset: all")
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)] = Field((GT_KNOWN,), description="columns")
    split: Literal["test", "val"] | None = Field(
        None, description="whose images are measured; unset: test, or val in a search"
    )
    fixed: dict[str, Any] | None = Field(
        None, description="values of varied keys outside `by` that a trial must have; unset: the study's own values"
    )
    paper: str | None = Field(None, description="name of the CSV in analysis/paper whose numbers stand beside ours")


class Resources(Config):
    """What one trial takes of the machine."""

    cpus: float | None = Field(None, gt=0, le=4096, description="CPU cores a trial; unset: compute.cpu_threads")
    gpus: float = Field(
        1, gt=0, le=4096, description="GPUs a trial where it trains on CUDA; 0.5 puts two trials on one"
    )
    concurrent: int | None = Field(
        None, ge=1, le=4096, description="most trials at once; unset: as many as the machine holds"
    )
    time_limit: float | None = Field(
        None, gt=0, le=100_000, description="hours that a trial may train before it is ended; unset: no limit"
    )

    @field_validator("gpus")
    @classmethod
    def _whole(cls, gpus: float) -> float:
        # Ray's own rule, of which it tells a study only when its first trial is to start.
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("must be a share of one GPU, at most 1, or a whole number of them")
        return gpus


class Failures(Config):
    """What happens when trials end before their end."""

    retries: int = Field(
        2, ge=0, le=1000, description="how often a trial that the machine has ended goes on from its last checkpoint"
    )
    stop_after: int | None = Field(
        None, ge=1, le=100_000, description="failed trials after which no further one is started; unset: all are"
    )
    silent: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="minutes without a finished epoch after which a worker is ended, as a fault of the machine; "
        "unset: never",
    )


class StudyKeys(Config):
    """The keys of a study file that are not a trial's own."""

    name: str = Field(pattern=NAME, description="folder and experiment name")
    question: str | None = Field(None, pattern=ONE_LINE, description="what the study asks, in one line")
    preset: str | None = Field(None, description="the recipe that the file's keys are laid over")
    vary: Any = Field(None, description="a grid (dotted key to list of values), or a list of grids")
    search: Search | None = Field(None, description="an Optuna search instead of `vary`")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = Field(
        (0,), description="seeds; every configuration, of a search every suggestion, is trained with each"
    )
    references: tuple[Reference, ...] = Field(
        (), description=f"what the regressor reaches on true boxes, beside the results: {', '.join(REFERENCES)}"
    )
    claims: tuple[str, ...] = Field((), description="what the study states, each judged by its results")
    resources: Resources = Resources()
    failures: Failures = Failures()
    tables: Annotated[tuple[Table, ...], Field(min_length=1)] = Field(
        (Table(),), description="tables; unset: one over all that varies"
    )

    @field_validator("question", mode="before")
    @classmethod
    def _in_one_line(cls, question: Any) -> Any:
        """YAML's blocks (``>`` and ``|``) end in a new line, and those of ``|`` hold some."""
        return " ".join(question.split("\n")).strip() if isinstance(question, str) else question


class TrialKeys(Config):
    """The key of a trial file that is not the trial's configuration."""

    preset: str | None = Field(None, description="the recipe that the file's keys are laid over")

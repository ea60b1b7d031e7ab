"""A study as a person writes it, and as it is run: YAML, preset and options become a frozen, validated ``Study``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lchp.data.config import Config, DatasetConfig
from lchp.study.source import Location, Refusal, Source, check, merge, options, read, unknown_key
from lchp.study.space import Choice, Metric, Range, Search
from lchp.training.config import TrialConfig, WeightsConfig, WeightsFile
from lchp.training.presets import PRESETS

_MOST_TRIALS = 10_000


class Resources(Config):
    """What one trial takes of the machine."""

    cpus: float | None = Field(None, gt=0, description="CPU cores a trial; unset: compute.cpu_threads")
    gpus: float = Field(1, gt=0, description="GPUs a trial where it trains on CUDA; 0.5 puts two trials on one")
    concurrent: int | None = Field(None, ge=1, description="most trials at once; unset: as many as the machine holds")


class Table(Config):
    """A table that the study ends in."""

    name: str = Field("table", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="file name without its ending")
    by: tuple[str, ...] | None = Field(None, description="varied keys that make the rows; unset: all")
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)] = Field(("gt_known",), description="columns")
    split: Literal["test", "val"] | None = Field(None, description="unset: test, or val in a search")
    fixed: dict[str, Any] | None = Field(
        None, description="values of varied keys outside `by` that a trial must have; unset: the study's own values"
    )
    paper: str | None = Field(None, description="name of the CSV in analysis/paper whose numbers stand beside ours")


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


@dataclass(frozen=True)
class Study:
    """A validated study. ``grid`` holds every distinct configuration (before seeds); it is empty for a search.

    ``varied`` are the dotted keys that ``vary`` or ``search`` names, in the order written.
    """

    name: str
    question: str | None
    base: TrialConfig
    varied: tuple[str, ...]
    grid: tuple[TrialConfig, ...]
    search: Search | None
    seeds: tuple[int, ...]
    resources: Resources
    tables: tuple[Table, ...]

    def identity(self) -> dict[str, Any]:
        """What the results in the study's folder depend on, as plain values: without paths, resources and tables."""
        return {
            "name": self.name,
            "base": without_paths(self.base),
            "configurations": [_varied_values(config, self.varied) for config in self.grid],
            "search": self.search.model_dump(mode="json") if self.search else None,
            "seeds": list(self.seeds),
        }


def without_paths(config: TrialConfig) -> dict[str, Any]:
    """The configuration as plain values, without the paths at which data and weights lie on this machine."""
    plain = config.model_dump(mode="json")
    plain["dataset"].pop("path", None)
    for source in plain["weights"].values():
        if isinstance(source, dict):
            source.pop("file")
    return plain


def config_value(config: TrialConfig, key: str) -> Any:
    """The plain value at a dotted key, None where the key does not exist in this configuration.

    A dataset as a whole is shown by its kind.
    """
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value["kind"] if key == "dataset" else value


def with_values(config: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
    """``config`` with other values at some dotted keys.

    Raises:
        Refusal: a key that does not exist or a value out of its range.
    """
    changed = Source(config.model_dump(mode="json"), {}, "the suggested values")
    for key, value in values.items():
        changed = changed.put(tuple(key.split(".")), value, changed.whole)
    built, wrong = check(TrialConfig, changed)
    if built is None:
        raise Refusal("\n".join(wrong))
    return built


def load_study(path: Path, sets: Sequence[str] = (), data: Path | None = None, must_exist: bool = False) -> Study:
    """Read a study: its preset, under its file, under ``--set`` options, under ``--data``.

    ``must_exist`` asks for the data and the weight files of every trial.

    Raises:
        Refusal: everything that is wrong, one line each: file and line (or option), key, value, remedy.
    """
    source = _layers(read(path), sets, data)
    own = source.pick(lambda key: key in StudyKeys.model_fields)
    keys, wrong = check(StudyKeys, own)
    base = source.pick(lambda key: key not in StudyKeys.model_fields)
    config, wrong_base = check(TrialConfig, base, tuple(StudyKeys.model_fields))
    wrong += wrong_base
    if "seed" in source.values:
        wrong.append(f"{source.place(('seed',))}: seed: a study takes a list: write `seeds: [0]`")
    if config is None or keys is None:
        raise Refusal("\n".join(wrong))
    varied, grid, wrong_vary = ((), {}, []) if keys.search else _expand(base, own)
    wrong += wrong_vary
    search = keys.search
    if search:
        search, wrong_search = _searched(search, base, source, keys, config)
        varied = tuple(search.space)
        wrong += wrong_search
    wrong += _wrong_lists(keys, varied, source)
    wrong += [] if wrong else _empty_tables(keys, config, varied, tuple(grid), source)
    for each, written in ({config: base} | grid).items() if must_exist else ():
        wrong += _missing_files(each, written)
    if wrong:
        raise Refusal("\n".join(dict.fromkeys(wrong)))
    return Study(keys.name, keys.question, config, varied, tuple(grid), search, keys.seeds, keys.resources, keys.tables)


def load_trial(path: Path, sets: Sequence[str] = (), data: Path | None = None, must_exist: bool = False) -> TrialConfig:
    """Read a trial file: the keys of a study that are a trial's own, and ``seed``.

    ``must_exist`` asks for its data and weight files.

    Raises:
        Refusal: as :func:`load_study`.
    """
    source = _layers(read(path), sets, data)
    _, wrong = check(TrialKeys, source.pick(lambda key: key in TrialKeys.model_fields))
    config, wrong_config = check(
        TrialConfig, source.pick(lambda key: key not in TrialKeys.model_fields), tuple(TrialKeys.model_fields)
    )
    if config is None or wrong:
        raise Refusal("\n".join(wrong + wrong_config))
    if must_exist:
        require_files(config, source)
    return config


def load_dataset(path: Path, sets: Sequence[str] = (), data: Path | None = None) -> DatasetConfig:
    """The dataset of a study or trial file; it must be there.

    Raises:
        Refusal: as :func:`load_study`.
    """
    source = _layers(read(path), sets, data)
    config = load_study(path, sets, data).base if "name" in source.values else load_trial(path, sets, data)
    return _present(config, source)


def dataset_of_kind(kind: str, sets: Sequence[str] = (), data: Path | None = None) -> DatasetConfig:
    """The dataset of a kind, where no file says more; it must be there.

    Raises:
        Refusal: as :func:`load_study`.
    """
    source = _layers(Source({"dataset": {"kind": kind}}, {}, f"--kind {kind}"), sets, data)
    config, wrong = check(TrialConfig, source)
    if config is None:
        raise Refusal("\n".join(wrong))
    return _present(config, source)


def _present(config: TrialConfig, source: Source) -> DatasetConfig:
    require_files(config.model_copy(update={"weights": WeightsConfig()}), source)
    return config.dataset


def _layers(file: Source, sets: Sequence[str], data: Path | None) -> Source:
    """Options over the file over its preset."""
    source = options(sets).over(file)
    if data is not None:
        place = f"--data {data}"
        source = Source({"dataset": {"path": str(data)}}, {("dataset", "path"): place}, place).over(source)
    preset = source.values.get("preset")
    if preset is None:
        return Source(merge({}, source.values), source.places, file.whole)
    if not isinstance(preset, str) or preset not in PRESETS:
        hint = unknown_key(str(preset), tuple(PRESETS)).replace("unknown key", "unknown preset")
        raise Refusal(f"{source.place(('preset',))}: preset = {preset}: {hint}")
    below = Source(PRESETS[preset], {}, f"preset {preset}")
    return Source(source.over(below).values, source.places, file.whole)


def _expand(base: Source, own: Source) -> tuple[tuple[str, ...], dict[TrialConfig, Source], list[str]]:
    """The varied keys, the distinct configurations with what was written for each, and what is wrong with ``vary``."""
    vary = own.values.get("vary")
    listed = isinstance(vary, list)
    grids: list[Any] = vary if listed and vary is not None else [{} if vary is None else vary]
    wrong: list[str] = []
    varied: dict[str, None] = {}
    found: dict[TrialConfig, Source] = {}
    for index, grid in enumerate(grids):
        at: Location = ("vary", index) if listed else ("vary",)
        if not isinstance(grid, dict) or not grids:
            wrong.append(f"{own.place(at)}: vary: must map dotted keys to lists of values")
            continue
        lists = {key: value if isinstance(value, list) else [value] for key, value in grid.items()}
        wrong_grid = _wrong_grid(lists, at, own)
        if wrong_grid:
            wrong += wrong_grid
            continue
        varied.update(dict.fromkeys(lists))
        for choice in product(*(range(len(values)) for values in lists.values())):
            trial = base
            for (key, values), position in zip(lists.items(), choice, strict=True):
                place = own.place((*at, key, position))
                trial = trial.put(tuple(key.split(".")), values[position], place)
            config, complaints = check(TrialConfig, trial)
            wrong += complaints
            if config is not None:
                found.setdefault(config, trial)
    if vary == []:
        wrong.append(f"{own.place(('vary',))}: vary: is empty: name a key and its values, or leave it out")
    return tuple(varied), found, list(dict.fromkeys(wrong))


def _wrong_grid(lists: Mapping[str, list[Any]], at: Location, own: Source) -> list[str]:
    wrong = [
        f"{own.place((*at, key))}: vary.{key}: the list is empty: give at least one value"
        for key, values in lists.items()
        if not values
    ]
    wrong += [
        f"{own.place((*at, key))}: vary.{key}: {_not_varied(key)}"
        for key in lists
        if key in {"seed", "seeds"} or not key
    ]
    count = math.prod(len(values) for values in lists.values())
    if count > _MOST_TRIALS:
        wrong.append(f"{own.place(at)}: vary: makes {count} configurations: at most {_MOST_TRIALS} are planned")
    return wrong


def _not_varied(key: str) -> str:
    return "is not varied: list the seeds under `seeds`" if key else "is no key"


def _searched(
    search: Search, base: Source, source: Source, keys: StudyKeys, config: TrialConfig
) -> tuple[Search, list[str]]:
    """The search with its choices in their one spelling, and what is wrong with it."""
    wrong = []
    if keys.vary is not None:
        wrong.append(f"{source.place(('search',))}: search: cannot stand beside `vary`: keep one of the two")
    if config.split.val_per_class < 1:
        wrong.append(
            f"{source.place(('split', 'val_per_class'))}: split.val_per_class = 0: a search chooses on val: set it to 5"
        )
    if len(keys.seeds) > 1:
        wrong.append(f"{source.place(('seeds',))}: seeds: a search trains every suggestion with one seed: give one")
    space: dict[str, Range | tuple[Choice, ...]] = {}
    for key, values in search.space.items():
        at: Location = ("search", "space", key)
        if key == "seed":
            wrong.append(f"{source.place(at)}: search.space.seed: {_not_varied('seed')}")
            continue
        ends = (values.low, values.high) if isinstance(values, Range) else values
        read_back = []
        for position, value in enumerate(ends):
            place = source.place(at if isinstance(values, Range) else (*at, position))
            built, complaints = check(TrialConfig, base.put(tuple(key.split(".")), value, place))
            wrong += complaints
            read_back += [] if built is None else [config_value(built, key)]
        if len(read_back) == len(ends):
            space[key] = (
                Range(low=read_back[0], high=read_back[1], log=values.log)
                if isinstance(values, Range)
                else tuple(read_back)
            )
    return search.model_copy(update={"space": space}), wrong


def _wrong_lists(keys: StudyKeys, varied: tuple[str, ...], source: Source) -> list[str]:
    """What is wrong with the seeds and the tables, seen together with what varies."""
    wrong = []
    if len(set(keys.seeds)) != len(keys.seeds):
        wrong.append(f"{source.place(('seeds',))}: seeds = {list(keys.seeds)}: a seed is there twice: name each once")
    names = [table.name for table in keys.tables]
    if len(set(names)) != len(names):
        wrong.append(f"{source.place(('tables',))}: tables: two have one name: give each its own `name`")
    for index, table in enumerate(keys.tables):
        for name, used in (("by", table.by or ()), ("fixed", table.fixed or {})):
            for key in used:
                if key not in varied:
                    place = source.place(("tables", index, name))
                    known = ", ".join(varied) or "nothing"
                    wrong.append(f"{place}: tables.{index}.{name}: `{key}` does not vary: what varies is {known}")
    return wrong


def fixed_values(table: Table, base: TrialConfig, varied: Sequence[str]) -> dict[str, Any]:
    """What the varied keys that make no rows of a table must be: its ``fixed`` over the study's own values."""
    by = varied if table.by is None else table.by
    return {key: config_value(base, key) for key in varied if key not in by} | (table.fixed or {})


def _empty_tables(
    keys: StudyKeys, base: TrialConfig, varied: tuple[str, ...], grid: tuple[TrialConfig, ...], source: Source
) -> list[str]:
    """The tables that no trial of the grid would fill."""
    wrong = []
    for index, table in enumerate(keys.tables):
        fixed = fixed_values(table, base, varied)
        if grid and not any(all(config_value(config, key) == fixed[key] for key in fixed) for config in grid):
            shown = ", ".join(f"{key} = {value}" for key, value in fixed.items())
            place = source.place(("tables", index))
            wrong.append(f"{place}: tables.{index}: no trial has {shown}: say under `fixed` which ones the rows show")
    return wrong


def _varied_values(config: TrialConfig, varied: Sequence[str]) -> dict[str, Any]:
    return {key: config_value(config, key) for key in varied}


def require_files(config: TrialConfig, source: Source) -> None:
    """Check that the data and the weight files of ``config``, which ``source`` writes, are there.

    Raises:
        Refusal: what is missing, one line each: place, value, remedy.
    """
    wrong = _missing_files(config, source)
    if wrong:
        raise Refusal("\n".join(wrong))


def _missing_files(config: TrialConfig, source: Source) -> list[str]:
    wrong = []
    kind = config.dataset.kind
    path = getattr(config.dataset, "path", None)
    place = source.place(("dataset", "path"))
    if kind != "synthetic":
        if path is None:
            wrong.append(f"{place}: dataset.path: the {kind} data has no path: give it with --data PATH")
        elif not path.exists():
            wrong.append(f"{place}: dataset.path = {path}: does not exist: give the {kind} data with --data PATH")
    for role in ("classifier", "regressor"):
        weights = getattr(config.weights, role)
        if isinstance(weights, WeightsFile) and not weights.file.is_file():
            key = f"weights.{role}.file"
            place = source.place(("weights", role, "file"))
            wrong.append(f"{place}: {key} = {weights.file}: does not exist: give it with --set {key}=PATH")
    return wrong

"""A study as a person writes it, and as it is run: YAML, preset and options become a frozen, validated ``Study``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lchp.data.config import DatasetConfig, SplitConfig
from lchp.errors import Refusal, counted
from lchp.reporting.claims import Claim
from lchp.store.study_folder import StudyFolder
from lchp.study.spec.claims import read_claims
from lchp.study.spec.complaints import check
from lchp.study.spec.layers import Layers, layers
from lchp.study.spec.presence import (
    given_by_options,
    missing_files,
    missing_weights,
    require_files,
    require_readable_weights,
)
from lchp.study.spec.schema import RESERVED, Failures, Resources, StudyKeys, Table, TrialKeys
from lchp.study.spec.search import Search
from lchp.study.spec.source import Source, as_yaml, read, text_of
from lchp.study.spec.space import searched
from lchp.study.spec.tables import check_tables
from lchp.study.spec.trials import ResolvedTrial, resolve, suggestion_name, with_absolute_paths
from lchp.study.spec.values import varied_values, with_values
from lchp.study.spec.vary import expand, ineffective, unread_tau, unread_variation
from lchp.training.config import TrialConfig
from lchp.training.given_paths import DATA_PATH, PATHS
from lchp.training.identity import normal_form, trial_form
from lchp.vocabulary import REFERENCES


@dataclass(frozen=True, repr=False)
class Study:
    """A validated study.

    ``varied`` are the dotted keys that ``vary`` or ``search`` names, in the order written. ``grid`` holds every
    distinct configuration before seeds, ``trials`` each of them with each seed; a search has neither, its trials are
    ``suggested``.
    """

    name: str
    question: str | None
    base: TrialConfig
    varied: tuple[str, ...]
    grid: tuple[TrialConfig, ...]
    search: Search | None
    seeds: tuple[int, ...]
    resources: Resources
    failures: Failures
    tables: tuple[Table, ...]
    trials: tuple[ResolvedTrial, ...]
    references: tuple[str, ...] = ()
    """The methods that ``references`` asks for, in the order of tables."""
    claims: tuple[Claim, ...] = ()
    """What it states; no result depends on it."""
    written: str = field(default="", compare=False)
    """The text of its file or, where options were laid over that, YAML of both."""

    def __repr__(self) -> str:
        """One line: a grid of a thousand trials has as many configurations."""
        varied = f"{' × '.join(self.varied)}, " if self.varied else ""
        what = "search of " if self.search else ""
        seeds = ", ".join(map(str, self.seeds))
        return f"Study {self.name!r}: {what}{counted(self.count, 'trial')} ({varied}seeds {seeds})"

    @property
    def count(self) -> int:
        """How many trials the study trains; a search each suggestion with each seed."""
        return self.suggestions * self.repeats if self.search else len(self.trials)

    @property
    def suggestions(self) -> int:
        """How many suggestions a search makes, no more than its space holds; of a grid none."""
        return min(self.search.trials, self.search.size or self.search.trials) if self.search else 0

    @property
    def repeats(self) -> int:
        """How many trials have one number in common: a search's suggestion is trained with each seed."""
        return len(self.seeds) if self.search else 1

    @cached_property
    def searched(self) -> TrialConfig:
        """The configuration that a search lays its suggestions over, with its seed and absolute paths."""
        return with_absolute_paths(self.base.model_copy(update={"seed": self.seeds[0]}))

    def suggested(self, number: int, values: Mapping[str, Any]) -> tuple[ResolvedTrial, ...]:
        """The trials of a search's suggestion, one for each seed.

        Raises:
            Refusal: the values do not fit together, or are out of their ranges.
        """
        config = with_values(self.searched, values)
        varied = varied_values(config, self.varied)
        return tuple(
            ResolvedTrial(
                suggestion_name(number, varied, seed if self.repeats > 1 else None),
                config.model_copy(update={"seed": seed}),
                varied,
                number,
            )
            for seed in self.seeds
        )

    def identity(self) -> dict[str, Any]:
        """What the results in the study's folder depend on, in its normal form: nothing of paths, machines, tables."""
        search = {"search": self.search.model_dump(mode="json") if self.search else None}
        if search["search"]:
            search["search"]["warm_start"] = [Path(name).name for name in search["search"]["warm_start"]]
        return {
            "name": self.name,
            "base": trial_form(self.base),
            "configurations": [varied_values(config, self.varied) for config in self.grid],
            **normal_form(search),
            "seeds": list(self.seeds),
        }


def load_study(
    path: Path,
    sets: Sequence[str] = (),
    data: Path | None = None,
    must_exist: bool = False,
    device: str = "auto",
    output: Path | None = None,
    options_exist: bool = False,
) -> Study:
    """Read a study: its preset, under its file, under ``--set`` options, under ``--data``.

    ``must_exist`` asks for the data and the weight files of every trial, ``options_exist`` for those that options give;
    ``device`` is where they are to train. With it
    ``output``, the folder of studies, asks for pretrained weights, too, that are there or can be fetched: where the
    study has a folder in it they were once, and the precision ``auto`` is what it was there.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "study.yaml"
    ...     _ = file.write_text("name: mine\\npreset: quickstart\\nvary: {delta: [0.3, 0.4]}\\nseeds: [0, 1]\\n")
    ...     study = load_study(file, sets=["refinement.epochs=2"])
    >>> [trial.name for trial in study.trials]
    ['delta=0.3 seed=0', 'delta=0.3 seed=1', 'delta=0.4 seed=0', 'delta=0.4 seed=1']
    >>> study.trials[0].config.refinement.epochs
    2

    Raises:
        Refusal: everything that is wrong, one line each: file and line (or option), key, value, remedy.
    """
    found = layers(read(path), sets, data, device, output)
    wanted = tuple(PATHS) if must_exist else given_by_options(found.options) if options_exist else ()
    return replace(_study(found.laid, sets, wanted, output), written=_written(path, found))


def _written(path: Path, found: Layers) -> str:
    """What a person wrote, the preset apart, as a file of its own."""
    return as_yaml(found.options.over(found.file).values) if found.options.values else text_of(path)


def _study(source: Source, sets: Sequence[str], wanted: Sequence[str] = (), output: Path | None = None) -> Study:
    """The study; ``wanted`` are the keys of the paths at which something must lie."""
    own = source.pick(lambda key: key in StudyKeys.model_fields)
    keys, mistakes = check(StudyKeys, own)
    base = source.pick(lambda key: key not in StudyKeys.model_fields)
    config, of_base = check(TrialConfig, base, tuple(StudyKeys.model_fields))
    mistakes += of_base
    if "seed" in source.values:
        mistakes.append(f"{source.place(('seed',))}: seed: a study takes a list: write `seeds: [0]`")
    if config is None or keys is None:
        raise Refusal("\n".join(mistakes))
    varied, grid, of_vary = ((), {}, []) if keys.search else expand(base, own, len(keys.seeds))
    mistakes += of_vary
    search = keys.search
    if search:
        search, of_search = searched(search, base, source, keys, config)
        varied = tuple(search.space)
        mistakes += of_search
    mistakes += ineffective(sets, keys, source) + unread_tau(source, search, tuple(grid) or (config,))
    mistakes += unread_variation(varied, grid, own)
    mistakes += _check_names(keys, source) + check_tables(
        keys.tables, config, varied, tuple(grid), source, not mistakes
    )
    references = tuple(method for name, found in REFERENCES.items() if name in keys.references for method in found)
    # What varies wrongly says nothing of what a claim may name.
    claims, of_claims = read_claims(keys, config, varied, tuple(grid), references, source) if not mistakes else ((), [])
    mistakes += of_claims
    for each, written in ({config: base} | grid).items() if wanted else ():
        mistakes += missing_files(each, written, wanted)
        if output is not None and not StudyFolder(output / keys.name).ledger.exists():
            mistakes += missing_weights(each, written)
    if mistakes:
        raise Refusal("\n".join(dict.fromkeys(mistakes)))
    trials = resolve(grid, keys.seeds, varied)
    names = Counter(trial.name for trial in trials)
    alike = next((name for name, count in names.items() if count > 1), None)
    if alike is not None:
        raise Refusal(
            f"{source.place(('vary',))}: vary: several trials would be called `{alike}`, because they differ in "
            "nothing but where their data lie: make them several studies"
        )
    return Study(
        keys.name, keys.question, config, varied, tuple(grid), search, keys.seeds,
        keys.resources, keys.failures, keys.tables, trials, references, claims,
    )  # fmt: skip


def _check_names(keys: StudyKeys, source: Source) -> list[str]:
    """What is wrong with the study's name, its seeds and its references."""
    mistakes = []
    if keys.name.lower() in RESERVED:
        place = source.place(("name",))
        what = RESERVED[keys.name.lower()]
        mistakes.append(f"{place}: name = {keys.name}: the folder of that name holds {what}: choose another")
    if len(set(keys.seeds)) != len(keys.seeds):
        mistakes.append(
            f"{source.place(('seeds',))}: seeds = {list(keys.seeds)}: a seed is there twice: name each once"
        )
    if len(set(keys.references)) != len(keys.references):
        mistakes.append(
            f"{source.place(('references',))}: references = {list(keys.references)}: one is there twice: name each once"
        )
    if keys.references and keys.search:
        mistakes.append(
            f"{source.place(('references',))}: references: cannot stand beside `search`, whose every suggestion would "
            "want its own: ask for them in a study of the chosen configuration"
        )
    return mistakes


def load_trial(
    path: Path, sets: Sequence[str] = (), data: Path | None = None, must_exist: bool = False, device: str = "auto"
) -> TrialConfig:
    """Read a trial file: the keys of a study that are a trial's own, and ``seed``.

    ``must_exist`` asks for its data and weight files; ``device`` is where it is to train.

    Raises:
        Refusal: as :func:`load_study`.
    """
    source = layers(read(path), sets, data, device).laid
    if "name" in source.values:
        raise Refusal(
            f"{source.place(('name',))}: this file is a study, not a trial: run it with `lchp study run {path}`"
        )
    return _trial(source, must_exist)


def _trial(source: Source, must_exist: bool) -> TrialConfig:
    _, mistakes = check(TrialKeys, source.pick(lambda key: key in TrialKeys.model_fields))
    config, of_config = check(
        TrialConfig, source.pick(lambda key: key not in TrialKeys.model_fields), tuple(TrialKeys.model_fields)
    )
    if config is None or mistakes:
        raise Refusal("\n".join(mistakes + of_config))
    if must_exist:
        require_files(config, source)
    return with_absolute_paths(config)


def load_dataset(path: Path, sets: Sequence[str] = (), data: Path | None = None) -> tuple[DatasetConfig, SplitConfig]:
    """The dataset of a study or trial file, which must be there, and how val is drawn from it.

    A weight file that is there must be one.

    Raises:
        Refusal: as :func:`load_study`.
    """
    source = layers(read(path), sets, data).laid
    config = _study(source, sets).base if "name" in source.values else _trial(source, False)
    return _present(config, source)


def dataset_of_kind(kind: str, sets: Sequence[str] = (), data: Path | None = None) -> tuple[DatasetConfig, SplitConfig]:
    """The dataset of a kind, where no file says more, which must be there, and how val is drawn from it.

    Raises:
        Refusal: as :func:`load_study`.
    """
    source = layers(Source({"dataset": {"kind": kind}}, {}, f"--kind {kind}"), sets, data).laid
    config, mistakes = check(TrialConfig, source)
    if config is None:
        raise Refusal("\n".join(mistakes))
    return _present(config, source)


def _present(config: TrialConfig, source: Source) -> tuple[DatasetConfig, SplitConfig]:
    require_files(config, source, [DATA_PATH])
    require_readable_weights(config, source)
    return config.dataset, config.split

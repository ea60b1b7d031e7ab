"""The options that commands share, and how the command line reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from lchp.api_arguments import DEVICES, MOST_WORKERS
from lchp.at_work import doing
from lchp.cli_voice import options
from lchp.shipped import study_file, study_names
from lchp.store.study_folder import LEDGER
from lchp.surroundings import default_cache

Command = TypeVar("Command", bound=Callable[..., Any])


def with_options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one, in the order in which help shows them."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


class PathArgument(click.ParamType[Path]):
    """A path; an empty word, as an unset variable of the shell leaves it, is none."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The word as a path, whatever is there."""
        if value == "":
            self.fail("the path is empty: give one, or leave it out", param, ctx)
        return Path(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files and folders, which the shell knows."""
        return [CompletionItem(incomplete, type="file")]


class PictureArgument(PathArgument):
    """The path of a picture that is drawn: it takes the place of what has its name, and no study and no store has."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The word as a path that ends as a PNG does."""
        path = super().convert(value, param, ctx)
        if path.suffix.lower() != ".png":
            self.fail(f"{value}: a picture is drawn as PNG: give a name that ends in .png", param, ctx)
        return path


class StudyArgument(PathArgument):
    """The path of a study or trial file, or the name of a study that comes with the package."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The word as a path; where nothing is there, that of the study with this name."""
        return study_file(super().convert(value, param, ctx))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names of studies that begin so, and files."""
        names = [CompletionItem(name) for name in study_names() if name.startswith(incomplete)]
        return [*names, *super().shell_complete(ctx, param, incomplete)]


class OnceEachCommand(click.Command):
    """A command that takes an option once, unless it may be repeated: no value is dropped without a word. Every one has
    the options of ``lchp.cli_voice``.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own, and those that every command has."""
        *own, helping = super().get_params(ctx)
        return [*own, *options(), helping]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click; UsageError names an option that is given again."""
        given = self.make_parser(ctx).parse_args(list(args))[2]
        for option in given:
            if isinstance(option, click.Option) and not (option.multiple or option.is_flag) and given.count(option) > 1:
                raise click.UsageError(f"{option.opts[0]} is given {given.count(option)} times: keep one", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As click; what takes long, and does not say what it is, is told by the command's name."""
        name = ctx.command_path.removeprefix("lchp ")
        with doing(f"{name} is at work", live=False):
            return super().invoke(ctx)


class Group(click.Group):
    """Commands and groups of such commands."""

    command_class = OnceEachCommand
    group_class = type


def _not_empty(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise click.BadParameter("is empty: give one, or leave the option out", param=parameter)
    return value


def run_id(_: click.Context, __: click.Parameter, value: str) -> str:
    """A run's id as MLflow makes them, or BadParameter."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}", value):
        raise click.BadParameter(f"{value!r} is no run id: copy it from the MLflow UI, or from {LEDGER} of a study")
    return value


_MOST_SEEDS = 10_000
_LARGEST_SEED = 2**31 - 1


def seeds_of(text: str) -> list[int]:
    """The seeds that ``0..4``, both ends included, or ``0,2,5..7`` names.

    Raises:
        ValueError: it is neither, a seed is there twice, or there are too many; names the remedy.
    """
    found: list[int] = []
    for part in text.split(","):
        ends = [end.strip() for end in part.split("..")]
        if len(ends) > 2 or not all(end.isascii() and end.isdecimal() for end in ends):
            raise ValueError(f"{part.strip()!r} is no seed and no range: write 0..4 or 0,2,5")
        first, last = int(ends[0]), int(ends[-1])
        if last > _LARGEST_SEED:
            raise ValueError(f"the seed {last} is too large: write at most {_LARGEST_SEED}")
        if last < first:
            raise ValueError(f"{part.strip()} holds no seed: write {last}..{first}")
        if last - first >= _MOST_SEEDS or len(found) + last - first >= _MOST_SEEDS:
            raise ValueError(f"there are more than {_MOST_SEEDS} seeds: give fewer")
        found += range(first, last + 1)
    twice = next((seed for seed in found if found.count(seed) > 1), None) if len(set(found)) < len(found) else None
    if twice is not None:
        raise ValueError(f"the seed {twice} is there twice: name it once")
    return found


def _seeds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Keep the seeds for the callback of ``--set``, of which the option is one in fewer words."""
    if value is None:
        return
    try:
        ctx.meta[_SEEDS] = seeds_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error


def _sets(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    seeds = ctx.meta.get(_SEEDS)
    if seeds is None:
        return value
    if any(option.partition("=")[0].strip() == "seeds" for option in value):
        raise click.BadParameter("the seeds are given by --seeds, too: keep one of the two", param=parameter)
    return (*value, f"seeds={seeds}")


_SEEDS = "lchp.seeds"
FILE = click.argument("file", type=StudyArgument())
OUTPUT = click.option(
    "--output", type=PathArgument(), default=Path("analysis"), show_default=True, metavar="DIR",
    help="Folder that holds one folder per study, and the store of trained stages.",
)  # fmt: skip
TRACKING = click.option(
    "--tracking-uri", metavar="URI", callback=_not_empty,
    help="MLflow store. [default: MLFLOW_TRACKING_URI, else mlflow.db in the working folder]",
)  # fmt: skip
DATA = click.option("--data", type=PathArgument(), metavar="PATH", help="Where the dataset lies: sets dataset.path.")
SET = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", callback=_sets,
    help="Override a dotted key of the file; vary.KEY=[...] varies one. May be repeated.",
)  # fmt: skip
SEEDS = click.option(
    "--seeds", metavar="0..4", callback=_seeds, expose_value=False, is_eager=True,
    help="The study's seeds: a range with both ends, or 0,2,5.",
)  # fmt: skip
MOVED = click.option(
    "--set", "sets", multiple=True, metavar="KEY=PATH",
    help="Where a file of the run lies now, by its key: weights.classifier.file, for instance.",
)  # fmt: skip
CACHE = click.option(
    "--cache", type=PathArgument(), default=default_cache, metavar="DIR",
    help="Folder of what can be made again: extracted archives, drawn or resized images. [default: ~/.cache/lchp]",
)  # fmt: skip
DEVICE = click.option(
    "--device", type=click.Choice(DEVICES), default=DEVICES[0], show_default=True, help="Where to train."
)
WORKERS = click.option(
    "--workers", type=click.IntRange(0, MOST_WORKERS), default=0, show_default=True,
    help="Threads that decode images which do not fit the cache; 0 on CUDA: 2 to 8, by the cores.",
)  # fmt: skip
ADDRESS = click.option(
    "--address", envvar="RAY_ADDRESS", metavar="HOST:PORT", callback=_not_empty,
    help="Ray cluster that runs already. [default: RAY_ADDRESS, else one of the study's own on this machine]",
)  # fmt: skip
SEARCH_STORAGE = click.option(
    "--search-storage", envvar="LCHP_SEARCH_STORAGE", metavar="URL", callback=_not_empty,
    help="Database of searches, as SQLAlchemy names it. [default: LCHP_SEARCH_STORAGE, else a journal in the study's "
    "folder]",
)  # fmt: skip
FROM_TRACKING = click.option(
    "--tracking-uri", metavar="URI", callback=_not_empty,
    help="Make it from this MLflow store alone, into --output.",
)  # fmt: skip
COMPARED_FROM = click.option(
    "--tracking-uri", metavar="URI", callback=_not_empty, help="Take them from this MLflow store alone.",
)  # fmt: skip
STORE = click.option(
    "--store", metavar="URI", envvar="LCHP_STORE", callback=_not_empty,
    help="Where machines of a cluster leave trained stages for each other: a mounted folder, s3://BUCKET/FOLDER, ...",
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
CONFIGURED = with_options(FILE, DATA, SET)
STUDIED = with_options(CONFIGURED, SEEDS)
COMPUTED = with_options(CACHE, DEVICE, WORKERS)

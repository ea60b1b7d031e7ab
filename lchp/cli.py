"""The command line: every command parses its options, calls one function of the floors below and prints.

Of packages only click is imported before a command is known, so that ``lchp --help`` answers at once.

Exit codes: 0 done, 1 something failed while running, 2 refused before anything started, 130 stopped by Ctrl-C (143 by
SIGTERM, 129 by SIGHUP), 141 the reader of the output went away.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lchp.cli_options import (
    ADDRESS,
    CACHE,
    COMPUTED,
    CONFIGURED,
    DATA,
    MOVED,
    OUTPUT,
    SET,
    TRACKING,
    Group,
    PathArgument,
    run_id,
    with_options,
)
from lchp.data.kinds import KINDS
from lchp.errors import answer, refusing
from lchp.study.run.stopping import stoppable
from lchp.surroundings import settle

if TYPE_CHECKING:
    from lchp.data.config import DatasetConfig, SplitConfig
    from lchp.study.spec.load import Study


def _default_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "lchp"


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lchp")
def app() -> None:
    """Weakly supervised object localization with LCHP: studies, trials, data and results."""
    for line in settle():
        click.echo(f"lchp: {line}", err=True)


@app.group()
def study() -> None:
    """Run, plan and tabulate studies."""


def _study(
    file: Path, sets: Sequence[str], data: Path | None, output: Path | None = None, must_exist: bool = False
) -> Study:
    """The study FILE; its folder in ``output`` must hold the same one, or none."""
    from lchp.study.spec.load import load_study

    with refusing():
        loaded = load_study(file, sets, data, must_exist)
        if output is not None:
            from lchp.study.run.ownership import require_same

            require_same(loaded, output / loaded.name)
    return loaded


@study.command("run")
@with_options(CONFIGURED, OUTPUT, TRACKING, COMPUTED, ADDRESS)
def study_run(
    file: Path,
    data: Path | None,
    sets: tuple[str, ...],
    output: Path,
    tracking_uri: str | None,
    cache: Path | None,
    device: str,
    workers: int,
    address: str | None,
) -> int:
    """Run the study FILE, or continue it, and make its tables."""
    from lchp.study.run.fitness import fit

    loaded = _study(file, sets, data, output, must_exist=True)
    cache = cache or _default_cache()
    if address:
        os.environ["RAY_ADDRESS"] = address
    with fit(
        {"--output": output, "--cache": cache}, device,
        tracked=True, tracking_uri=tracking_uri, experiment=loaded.name, in_ray=True,
        gpus=loaded.resources.gpus,
    ):  # fmt: skip
        # Ray, MLflow and torch take seconds to import: what can be told before is told.
        from lchp.study.run.options import Machine
        from lchp.study.run.study import run_study

        return run_study(loaded, output, tracking_uri, Machine(cache, device, workers), click.echo)


@study.command("plan")
@with_options(CONFIGURED, CACHE)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def study_plan(file: Path, data: Path | None, sets: tuple[str, ...], cache: Path | None, as_json: bool) -> int:
    """Show what the study FILE will train and roughly what it costs; the data need not be there."""
    import json
    from functools import partial

    from lchp.study.plan.cost import count_images
    from lchp.study.plan.trials import as_text, plan

    loaded = _study(file, sets, data)
    planned = plan(loaded, partial(count_images, cache=cache or _default_cache()))
    click.echo(json.dumps(planned.as_dict(), indent=2) if as_json else as_text(planned))
    return 0


@study.command("status")
@with_options(CONFIGURED, OUTPUT)
def study_status(file: Path, data: Path | None, sets: tuple[str, ...], output: Path) -> int:
    """Show how far the trials of the study FILE are."""
    from lchp.store.study_folder import store_of
    from lchp.study.run.ledger import as_text, damaged, read
    from lchp.study.run.ownership import is_running

    loaded = _study(file, sets, data, output)
    entries = read(output / loaded.name)
    click.echo("\n".join([as_text(entries, is_running(output / loaded.name)), *damaged(entries, store_of(output))]))
    return 0


@study.command("table")
@with_options(CONFIGURED, OUTPUT)
def study_table(file: Path, data: Path | None, sets: tuple[str, ...], output: Path) -> int:
    """Make the tables of the study FILE again from its finished trials."""
    from lchp.study.run.ledger import read

    loaded = _study(file, sets, data, output)
    read(output / loaded.name)

    # pandas and matplotlib take seconds to import: a study that was never run is told before.
    from lchp.study.run.results import as_text, make_tables

    click.echo(as_text(make_tables(loaded, output), output / loaded.name))
    return 0


@app.group()
def trial() -> None:
    """Run single trials."""


@trial.command("run")
@with_options(CONFIGURED, OUTPUT, COMPUTED)
def trial_run(
    file: Path, data: Path | None, sets: tuple[str, ...], output: Path, cache: Path | None, device: str, workers: int
) -> int:
    """Run the one trial that FILE configures, without Ray and MLflow, or continue it."""
    from lchp.study.run.fitness import fit
    from lchp.study.spec.load import load_trial

    cache = cache or _default_cache()
    with refusing():
        config = load_trial(file, sets, data, must_exist=True)
    with fit({"--output": output, "--cache": cache}, device):
        from lchp.reporting.evidence import read_evidence
        from lchp.study.run.options import Machine
        from lchp.study.run.trial import run_single

        result = run_single(config, Machine(cache, device, workers).runtime(output), click.echo)
    for name, value in result.scores.items():
        click.echo(f"{name} = {value:.4f}")
    evidence = read_evidence(result.folder)
    for line in [*evidence.counts, *(f"warning: {text}" for text in evidence.warnings)]:
        click.echo(line)
    click.echo(f"results: {result.folder}")
    return 0


@app.group()
def data() -> None:
    """Check and look at datasets."""


_DATASET = with_options(
    click.argument("file", type=PathArgument(), required=False),
    click.option("--kind", type=click.Choice(list(KINDS)), help="The dataset's kind, where no FILE says it."),
    DATA,
    SET,
    CACHE,
)


def _dataset(
    file: Path | None, kind: str | None, path: Path | None, sets: Sequence[str]
) -> tuple[DatasetConfig, SplitConfig]:
    """The dataset that a study or trial file, or the options, name, and how val is drawn from it."""
    from lchp.study.spec.load import dataset_of_kind, load_dataset

    if (file is None) == (kind is None):
        raise click.UsageError("give a study or trial FILE, or --kind with --data")
    with refusing():
        return load_dataset(file, sets, path) if file else dataset_of_kind(str(kind), sets, path)


@contextmanager
def _refusing(cache: Path | None) -> Iterator[None]:
    """Turn the errors of a command that starts nothing into refusals; its cache folder must be one."""
    from lchp.study.run.fitness import fit

    with fit({"--cache": cache or _default_cache()}), refusing():
        yield


@data.command("check")
@_DATASET
def data_check(
    file: Path | None, kind: str | None, data: Path | None, sets: tuple[str, ...], cache: Path | None
) -> int:
    """Read a whole dataset; say what it holds, what is wrong with it, and the floors."""
    config, split = _dataset(file, kind, data, sets)
    with _refusing(cache):
        from lchp.data.reading import open_dataset

        dataset = open_dataset(config, cache or _default_cache())

        # torch takes seconds to import: a dataset that cannot be opened is told before.
        from lchp.data.checking import check

        report = check(config, dataset, cache or _default_cache(), split)
    click.echo(report.text())
    return 1 if report.problems else 0


@data.command("show")
@_DATASET
@click.option("--output", type=PathArgument(), default=Path("samples.png"), show_default=True, help="PNG to draw.")
def data_show(
    file: Path | None,
    kind: str | None,
    data: Path | None,
    sets: tuple[str, ...],
    cache: Path | None,
    output: Path,
) -> int:
    """Draw a grid of samples with their true boxes."""
    from lchp.data.files import require_replaceable

    config, _ = _dataset(file, kind, data, sets)
    with refusing():
        require_replaceable(output)
    with _refusing(cache):
        from lchp.data.reading import open_dataset

        dataset = open_dataset(config, cache or _default_cache())

        from lchp.data.showing import show

        show(config, dataset, output)
    click.echo(f"drawn: {output}")
    return 0


@app.command()
@click.argument("run_id", callback=run_id)
@with_options(TRACKING, DATA, MOVED, OUTPUT, COMPUTED)
def reproduce(
    run_id: str,
    tracking_uri: str | None,
    data: Path | None,
    sets: tuple[str, ...],
    output: Path,
    cache: Path | None,
    device: str,
    workers: int,
) -> int:
    """Train the trial of the MLflow run RUN_ID again and compare every number and every box."""
    from lchp.study.run.fitness import fit
    from lchp.study.spec.moved import moved_paths
    from lchp.tracking.address import require_runs, resolved

    cache = cache or _default_cache()
    with refusing():
        moved = moved_paths(sets, data)
    with fit({"--output": output, "--cache": cache}, device, tracked=True, tracking_uri=tracking_uri):
        with refusing():
            require_runs(resolved(tracking_uri, Path.cwd()))

        from lchp.study.reproduce.again import reproduce as again
        from lchp.study.run.options import Machine

        return again(run_id, tracking_uri, moved, output, Machine(cache, device, workers), click.echo)


@app.command()
@TRACKING
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on loopback.")
def ui(tracking_uri: str | None, port: int) -> int:
    """Open the MLflow UI of the store on 127.0.0.1 until Ctrl-C."""
    from lchp.tracking.address import require_runs, resolved
    from lchp.tracking.ui import require_free, require_server, serve

    with refusing():
        uri = resolved(tracking_uri, Path.cwd())
        require_free(uri, port)
        require_server(uri)
        require_runs(uri)

        from lchp.tracking.store import open_store

        store = open_store(tracking_uri, Path.cwd())
    return serve(store, port)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code; every failure is one message on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a letter shows its number instead of ending the command.
            stream.reconfigure(errors="backslashreplace")
    try:
        # Not app.main: that takes Ctrl-C, a broken pipe and a file that ends too early for its own affairs.
        with stoppable(), app.make_context("lchp", list(arguments)) as context:
            code = app.invoke(context)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        return _failed(error)
    return code if isinstance(code, int) else 0


def _failed(error: BaseException) -> int:
    """Say what ended a command; gives the exit code."""
    if isinstance(error, KeyboardInterrupt):
        click.echo("stopped: the same command continues", err=True)
        return int(getattr(error, "exit_code", 130))
    if _reader_is_gone(error):
        return 141
    text, code = answer(error)
    click.echo(f"lchp: {text}", err=True)
    return code


def _reader_is_gone(error: BaseException) -> bool:
    """Whether ``error`` says that whoever read the output does so no longer, as ``head`` does after ten lines.

    Another pipe may have broken: the output itself tells.
    """
    if not isinstance(error, BrokenPipeError) or sys.__stdout__ is None:
        return False
    output = select.poll()
    output.register(sys.__stdout__.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in output.poll(0))


def main() -> None:
    """The entry point of the command ``lchp``."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # A standard stream that is closed (`>&-`) would give its number to the next file that is opened.
            os.open(os.devnull, os.O_RDWR)
    code = run(sys.argv[1:])
    try:
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
    except OSError:
        # What cannot be written now cannot be when Python ends either: it would say so with a traceback.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = code or 1
    sys.exit(code)

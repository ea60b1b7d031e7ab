"""The command line: every command parses its options, calls one function of the floors below and prints.

Of packages only click is imported before a command is known, so that ``lchp --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lchp.at_work import doing, rest
from lchp.cli_config import config
from lchp.cli_init import init
from lchp.cli_kept import archive, gc, import_archive, rm
from lchp.cli_options import (
    ADDRESS,
    CACHE,
    COMPARED_FROM,
    COMPUTED,
    CONFIGURED,
    DATA,
    FILE,
    FROM_TRACKING,
    JSON,
    MOVED,
    OUTPUT,
    SEARCH_STORAGE,
    SEEDS,
    SET,
    STORE,
    STUDIED,
    TRACKING,
    Group,
    PathArgument,
    PictureArgument,
    StudyArgument,
    run_id,
    with_options,
)
from lchp.cli_process import answered, leave
from lchp.cli_use import export, predict
from lchp.cli_voice import answer_alone, say, waiting, warn
from lchp.data.kinds import KINDS
from lchp.errors import Refusal, counted, refusing, shown
from lchp.store.study_folder import REPORTS
from lchp.surroundings import UI_PORT, settle
from lchp.vocabulary import PICTURED, SPLITS, TEST

if TYPE_CHECKING:
    from lchp.data.config import DatasetConfig, SplitConfig
    from lchp.data.records import Dataset
    from lchp.study.spec.load import Study


_WATCH_SECONDS = 2.0
_COMPLETION = "_LCHP_COMPLETE"
"""The variable by which a shell asks what may come next."""


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lchp")
def app() -> None:
    """Weakly supervised object localization with LCHP: studies, trials, data and results."""
    with refusing():
        said = settle()
    for line in said:
        warn(line)


app.add_command(config)
app.add_command(predict)
app.add_command(export)
app.add_command(init)


@app.group()
def study() -> None:
    """Run, plan and tabulate studies."""


def _study(
    file: Path, sets: Sequence[str], data: Path | None, output: Path | None = None, must_exist: bool = False,
    device: str = "auto", options_exist: bool = False,
) -> Study:  # fmt: skip
    """The study FILE, which can go on in its folder in ``output``."""
    from lchp.study.spec.load import load_study

    with refusing():
        loaded = load_study(file, sets, data, must_exist, device, output, options_exist)
        if output is not None:
            from lchp.study.run.ownership import require_continuable

            require_continuable(loaded, output / loaded.name)
    return loaded


for _command in (rm, gc, archive, import_archive):
    study.add_command(_command)


@study.command("list")
@click.option(
    "--output", type=PathArgument(), metavar="DIR",
    help="List the studies that were run into DIR instead: how far they are, and what they occupy.",
)  # fmt: skip
@JSON
def study_list(output: Path | None, as_json: bool) -> int:
    """List the studies that come with lchp, and of each the preset: a name stands wherever a FILE is asked for."""
    import json

    if output is not None:
        from lchp.study.kept.occupied import space_of

        with refusing():
            if not output.is_dir():
                raise Refusal(f"{output}: is no folder: give that of the studies")
            space = space_of(output.absolute())
        click.echo(json.dumps(space.as_dict(), indent=2) if as_json else space.text())
        return 0

    from lchp.study.spec.shipped import shipped_studies

    found = shipped_studies()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return 0
    width = max(map(len, found))
    for name, about in found.items():
        click.echo(f"{name:<{width}}  {about['question']} [{about['preset']}]")
    return 0


@study.command("show")
@FILE
def study_show(file: Path) -> int:
    """Print the study FILE as it is written, to begin another with: `lchp study show quickstart > mine.yaml`."""
    with refusing():
        from lchp.study.spec.shipped import shown_study

        click.echo(shown_study(file), nl=False)
    return 0


@study.command("run")
@with_options(STUDIED, OUTPUT, TRACKING, COMPUTED, ADDRESS, STORE, SEARCH_STORAGE)
def study_run(
    file: Path, data: Path | None, sets: tuple[str, ...], output: Path, tracking_uri: str | None,
    cache: Path, device: str, workers: int, address: str | None, store: str | None, search_storage: str | None,
) -> int:  # fmt: skip
    """Run the study FILE, or continue it, and make its tables."""
    from lchp.study.run.fitness import fit

    loaded = _study(file, sets, data, output, must_exist=True, device=device)
    if address:
        os.environ["RAY_ADDRESS"] = address
    if search_storage:
        os.environ["LCHP_SEARCH_STORAGE"] = search_storage
    with fit(
        {"--output": output, "--cache": cache}, device,
        tracked=True, tracking_uri=tracking_uri, experiment=loaded.name, in_ray=True,
        gpus=loaded.resources.gpus, store=store,
    ):  # fmt: skip
        # MLflow and torch take seconds to import: what can be told before is told.
        say(f"{loaded.name}: {counted(loaded.count, 'trial')}; opening data and tracking store (a few seconds)")
        from lchp.store.shared import resolved
        from lchp.study.run.options import Machine
        from lchp.study.run.study import run_study

        machine = Machine(cache, device, workers, resolved(store) if store else None)
        return run_study(loaded, output, tracking_uri, machine, say)


@study.command("plan")
@with_options(STUDIED, OUTPUT, CACHE)
@JSON
def study_plan(
    file: Path, data: Path | None, sets: tuple[str, ...], output: Path, cache: Path, as_json: bool
) -> int:  # fmt: skip
    """Show what the study FILE will train, what is there already, and roughly what it costs; the data need not be
    there.
    """
    import json
    from functools import partial

    from lchp.study.plan.cost import count_images
    from lchp.study.plan.trials import as_text, plan
    from lchp.study.run.ownership import outlook
    from lchp.study.spec.presence import require_readable_weights

    loaded = _study(file, sets, data, options_exist=True)
    with refusing():
        for config in loaded.grid or (loaded.base,):
            require_readable_weights(config)
    folder = output / loaded.name
    there = outlook(loaded, folder)
    planned = plan(loaded, partial(count_images, cache=cache))
    if as_json:
        click.echo(json.dumps({**planned.as_dict(), "continues": there.as_dict() if there else None}, indent=2))
    else:
        click.echo("\n".join([as_text(planned), *([f"{folder}: {there}"] if there else [])]))
    return 0


@study.command("status")
@click.argument("place", type=PathArgument(), metavar="FILE|STUDY")
@with_options(DATA, SET, SEEDS, OUTPUT)
@click.option("--watch", is_flag=True, help="Show it again every two seconds, while a process is at work on the study.")
@JSON
def study_status(
    place: Path, data: Path | None, sets: tuple[str, ...], output: Path, watch: bool, as_json: bool
) -> int:  # fmt: skip
    """Show how far the trials of the study FILE are, or of STUDY, a folder or a name in --output, and what the study
    occupies.
    """
    import json

    from lchp.study.kept.needs import study_or_file
    from lchp.study.kept.occupied import occupied_by
    from lchp.study.run.ledger import as_dict, told
    from lchp.study.run.ownership import is_running, options_before, outlook

    if watch and as_json:
        raise click.UsageError("give --watch or --json")
    with refusing():
        found, file = study_or_file(place, output, bool(sets or data))
    loaded, folder = None, found
    if folder is None:
        loaded = _study(file, sets, data, output)
        folder = (output / loaded.name).absolute()
    if watch:
        _watch(lambda: told(folder, is_running(folder)), lambda: is_running(folder))
    occupied, there = occupied_by(folder), outlook(loaded, folder) if loaded else None
    changed = there.as_dict() if there and there.changes else None
    if as_json:
        space = occupied and asdict(occupied)
        click.echo(
            json.dumps({**as_dict(folder, is_running(folder)), "occupies": space, "next_run": changed}, indent=2)
        )
        return 0
    if not watch:
        click.echo(told(folder, is_running(folder)))
    if occupied is not None:
        click.echo(f"{folder.name} {occupied}")
    if loaded is not None and there and there.changes:
        again = options_before(loaded, folder) if there.dropped else ""
        same = f"; the same as before with the options of the run: {again}" if again else ""
        click.echo(f"{file} was changed since, the next run {there}{same}")
    return 0


def _watch(told: Callable[[], str], running: Callable[[], bool]) -> None:
    """Show what is told, on a terminal in place of what was shown, else where it changes, while somebody is at work."""
    rest()
    before = None
    while True:
        goes_on, now = running(), told()
        if now != before:
            if sys.stdout.isatty():
                click.clear()
            click.echo(now)
        before = now
        if not goes_on:
            return
        time.sleep(_WATCH_SECONDS)


@study.command("table")
@with_options(STUDIED, OUTPUT, JSON)
def study_table(file: Path, data: Path | None, sets: tuple[str, ...], output: Path, as_json: bool) -> int:
    """Make the tables of the study FILE again from its finished trials."""
    import json

    from lchp.study.run.ledger import read
    from lchp.study.run.ownership import require_unchanged

    loaded = _study(file, sets, data, output)
    require_unchanged(loaded, output / loaded.name)
    read(output / loaded.name)

    # pandas and matplotlib take seconds to import: a study that was never run is told before.
    from lchp.study.run.results import as_dict, as_text, make_tables

    with doing("making tables and report"):
        made = make_tables(loaded, output)
    if as_json:
        click.echo(json.dumps(as_dict(made, output / loaded.name), indent=2))
    else:
        click.echo(as_text(made, output / loaded.name))
    return 0


@study.command("sync")
@click.argument("place", type=PathArgument(), metavar="FILE|FOLDER")
@with_options(DATA, SET, SEEDS, OUTPUT, TRACKING)
def study_sync(
    place: Path, data: Path | None, sets: tuple[str, ...], output: Path, tracking_uri: str | None
) -> int:  # fmt: skip
    """Write to MLflow what it lacks of the study FILE, or of the one whose results lie in FOLDER."""
    from lchp.study.kept.needs import study_or_file
    from lchp.study.run.fitness import fit
    from lchp.study.run.ledger import read

    with refusing():
        found, file = study_or_file(place, output, bool(sets or data))
    folder = found or output / _study(file, sets, data, output).name
    read(folder)
    with fit(
        {"--output": folder.parent}, trains=False, tracked=True, tracking_uri=tracking_uri, experiment=folder.name
    ):
        from lchp.study.run.sync import sync_study

        return sync_study(folder, tracking_uri, say)


@app.group()
def trial() -> None:
    """Run single trials."""


@trial.command("run")
@with_options(CONFIGURED, OUTPUT, COMPUTED, JSON)
def trial_run(
    file: Path, data: Path | None, sets: tuple[str, ...], output: Path, cache: Path, device: str, workers: int,
    as_json: bool,
) -> int:  # fmt: skip
    """Run the one trial that FILE configures, without Ray and MLflow, or continue it."""
    import json

    from lchp.study.run.fitness import fit
    from lchp.study.spec.load import load_trial

    with refusing():
        config = load_trial(file, sets, data, must_exist=True, device=device)
    if as_json:
        answer_alone()
    with fit({"--output": output, "--cache": cache}, device):
        from lchp.study.run.options import Machine
        from lchp.study.run.trial import as_text, run_single

        result = run_single(config, Machine(cache, device, workers).runtime(output), say)
    click.echo(json.dumps({"folder": str(result.folder), "scores": result.scores}) if as_json else as_text(result))
    return 0


@app.group()
def data() -> None:
    """Check and look at datasets."""


_DATASET = with_options(
    click.argument("file", type=StudyArgument(), required=False),
    click.option("--kind", type=click.Choice(list(KINDS)), help="The dataset's kind, where no FILE says it."),
    DATA,
    SET,
    CACHE,
)


@contextmanager
def _opened(
    file: Path | None, kind: str | None, path: Path | None, sets: Sequence[str], cache: Path
) -> Iterator[tuple[DatasetConfig, SplitConfig, Dataset]]:
    """The dataset that a study or trial file, or the options, name, how val is drawn from it, and what it holds.

    Nothing starts in the block: its errors are refusals.
    """
    from lchp.study.run.fitness import fit
    from lchp.study.spec.load import dataset_of_kind, load_dataset

    if (file is None) == (kind is None):
        raise click.UsageError("give a study or trial FILE, or --kind with --data")
    with refusing():
        config, split = load_dataset(file, sets, path) if file else dataset_of_kind(str(kind), sets, path)
    with fit({"--cache": cache}), refusing():
        from lchp.data.reading import open_dataset

        waiting(f"opening the {config.kind} data")
        # torch takes seconds to import, in the block: a dataset that cannot be opened is told before.
        with doing(f"opening the {config.kind} data"):
            dataset = open_dataset(config, cache)
        yield config, split, dataset


@data.command("check")
@_DATASET
@JSON
def data_check(
    file: Path | None, kind: str | None, data: Path | None, sets: tuple[str, ...], cache: Path, as_json: bool
) -> int:
    """Read a whole dataset; say what it holds, what is wrong with it, and the floors."""
    import json

    with _opened(file, kind, data, sets, cache) as (config, split, dataset):
        from lchp.data.checking import check

        with doing(f"checking the {config.kind} data"):
            report = check(config, dataset, cache, split)
    click.echo(json.dumps(asdict(report), indent=2) if as_json else report.text())
    return 1 if report.problems else 0


@data.command("show")
@_DATASET
@click.option(
    "--output", type=PictureArgument(), default=Path("samples.png"), show_default=True,
    help="PNG to draw: a path from the working folder.",
)  # fmt: skip
def data_show(
    file: Path | None, kind: str | None, data: Path | None, sets: tuple[str, ...], cache: Path, output: Path
) -> int:
    """Draw a grid of samples with their true boxes."""
    from lchp.data.files import require_replaceable

    with refusing():
        require_replaceable(output)
    with _opened(file, kind, data, sets, cache) as (config, _, dataset):
        from lchp.data.showing import show

        with doing("drawing"):
            show(config, dataset, output)
    click.echo(f"drawn: {output}")
    return 0


@app.command()
@click.argument("run_id", callback=run_id)
@with_options(TRACKING, DATA, MOVED, OUTPUT, COMPUTED, JSON)
def reproduce(
    run_id: str, tracking_uri: str | None, data: Path | None, sets: tuple[str, ...], output: Path,
    cache: Path, device: str, workers: int, as_json: bool,
) -> int:  # fmt: skip
    """Train the trial of the MLflow run RUN_ID again and compare every number and every box.

    Of a run of a study in --output the first six letters of its id will do, or more.
    """
    import json

    from lchp.study.run.fitness import fit
    from lchp.study.run.found import whole_id
    from lchp.study.spec.moved import moved_paths
    from lchp.tracking.address import require_runs, resolved

    with refusing():
        moved = moved_paths(sets, data)
    with fit({"--output": output, "--cache": cache}, device, tracked=True, tracking_uri=tracking_uri):
        with refusing():
            run_id = whole_id(run_id, output)
            require_runs(resolved(tracking_uri, Path.cwd()))
        waiting(f"run {run_id}: reading it from the tracking store")

        from lchp.study.reproduce.again import reproduce as again
        from lchp.study.run.options import Machine

        machine = Machine(cache, device, workers)
        if not as_json:
            return again(run_id, tracking_uri, moved, output, machine, say)
        answer_alone()
        return again(
            run_id, tracking_uri, moved, output, machine, say, lambda found: click.echo(json.dumps(found, indent=2))
        )


@app.command()
@click.argument("names", nargs=-1, metavar="A B [...]")
@with_options(OUTPUT, COMPARED_FROM, DATA, CACHE)
@click.option("--split", type=click.Choice(SPLITS), default=TEST, show_default=True, help="Whose images are compared.")
@click.option("--picture", type=PictureArgument(), help="PNG of the images that changed most, with the boxes of both.")
@JSON
def compare(
    names: tuple[str, ...], output: Path, tracking_uri: str | None, data: Path | None, cache: Path, split: str,
    picture: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Compare runs or studies with the first: configurations, differences, and the images that changed most.

    A, B, ...: folders of studies or trials, names of studies in --output, or ids of their runs; with --tracking-uri
    names of studies and ids of runs there.
    """
    import json

    from lchp.data.files import replacing, require_replaceable
    from lchp.study.run.fitness import fit
    from lchp.study.spec.moved import moved_paths

    if len(names) < 2:
        raise click.UsageError("give two runs or studies at least")
    beside_it = {} if picture is None else {"--picture": picture.absolute().parent}
    with refusing(), fit(beside_it, trains=False):
        if picture is not None:
            require_replaceable(picture)
        moved = moved_paths((), data)
        from lchp.study.run.comparison import found_groups

        with found_groups(names, output, tracking_uri) as groups:
            from lchp.reporting.compare import beside

            with doing("comparing"):
                found = beside(groups, split)
            if picture is not None:
                from lchp.study.run.drawing import draw_compared

                with replacing(picture) as part:
                    draw_compared(found, moved.paths, cache, part)
    click.echo(json.dumps(found.as_dict(), indent=2) if as_json else found.text())
    if picture is not None and not as_json:
        click.echo(f"drawn: {picture}")
    return 0


@app.command()
@click.argument("place", type=PathArgument(), metavar="STUDY|FOLDER")
@with_options(OUTPUT, FROM_TRACKING)
@click.option(
    "--format", "form", type=click.Choice(REPORTS), default=REPORTS[0], show_default=True,
    help="What the report is written as, beside tables and figures; pdf wants chromium.",
)  # fmt: skip
@click.option("--keep-records", is_flag=True, help="Also pack the records of the trials into <study>/records.zip.")
def report(place: Path, output: Path, tracking_uri: str | None, form: str, keep_records: bool) -> int:
    """Make the report of STUDY, a folder or a name in --output, again with its tables and figures, or that of every
    study in FOLDER: from the records of its trials in the store or in records.zip, or from a tracking store alone.
    """
    from lchp.reporting.remake import remake, studies_of

    with refusing():
        if tracking_uri is not None:
            from lchp.study.run.report import fetched

            folders = [fetched(str(place), tracking_uri, output.absolute())]
        else:
            folders = studies_of(place, output)
        for folder in folders:
            click.echo(f"report: {remake(folder, form, keep_records)}")
    return 0


@app.command()
@click.argument("run", metavar="RUN")
@with_options(OUTPUT, DATA, CACHE)
@click.option(
    "--choose", type=click.Choice(PICTURED), default=PICTURED[0], show_default=True,
    help="Images: any, those of the best or the worst final boxes, those that differ most from their pseudo boxes.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1, 400), default=12, show_default=True, help="Images at most.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Chooses random ones.")
@click.option(
    "--image", type=PathArgument(), help="Draw Algorithm 1 on this image file alone, as the paper's Figure 1."
)
@click.option("--to", type=PictureArgument(), default=Path("boxes.png"), show_default=True,
    help="PNG to draw: a path from the working folder.",
)  # fmt: skip
def draw(
    run: str, output: Path, data: Path | None, cache: Path, choose: str, count: int, seed: int, image: Path | None,
    to: Path,
) -> int:  # fmt: skip
    """Draw the boxes of every method on test images of RUN, a run's id, the folder of a trial, or a study, whose first
    trial it is then (the paper's Figures 2 and 3).
    """
    from lchp.data.files import replacing, require_replaceable
    from lchp.study.run.fitness import fit
    from lchp.study.spec.moved import moved_paths

    with refusing(), fit({"--to": to.absolute().parent}, trains=False):
        require_replaceable(to)
        if image is not None and not image.is_file():
            raise Refusal(f"--image {image}: {'is no plain file' if image.exists() else 'does not exist'}: name one")
        moved = moved_paths((), data)

        waiting(f"drawing {run}")
        with doing(f"drawing {run}"), replacing(to) as part:
            if image is not None:
                from lchp.study.run.algorithm_1 import draw_steps

                draw_steps(run, output, image, part)
            else:
                from lchp.study.run.drawing import draw_run

                draw_run(run, output, moved.paths, cache, part, choose, count, seed)
    click.echo(f"drawn: {to}")
    return 0


@app.command()
@TRACKING
@click.option("--port", type=click.IntRange(1, 65535), default=UI_PORT, show_default=True, help="Port on loopback.")
@click.option("--open", "opened", is_flag=True, help="Open a browser there.")
@click.argument("study", required=False)
def ui(study: str | None, tracking_uri: str | None, port: int, opened: bool) -> int:
    """Serve the MLflow UI of the store on 127.0.0.1 until Ctrl-C, and print the address of the trials of STUDY, a
    name, or of every study.
    """
    from lchp.tracking.address import is_server, require_runs, resolved
    from lchp.tracking.ui import address_of, require_free, require_server, serve

    with refusing():
        uri = resolved(tracking_uri, Path.cwd())
        require_free(uri, port)
        require_server(uri)
        require_runs(uri)
        click.echo(f"opening {shown(uri)} (some seconds)")

        from lchp.tracking.store import open_store
        from lchp.tracking.views import experiments_page, runs_tables

        store = open_store(tracking_uri, Path.cwd())
        server = address_of(store, port)
        tables, everything = runs_tables(store, server), experiments_page(server)
        if study is not None and study not in tables:
            known = ", ".join(sorted(tables)) or "another store with --tracking-uri"
            raise ValueError(f"{shown(uri)} holds no study {study!r}: choose {known}")

    def ready() -> None:
        rest()
        # MLflow's bare address is a welcome page, from which no study is in sight.
        for name, address in tables.items():
            if study in (None, name):
                click.echo(f"{name}: {address}")
        if study is None:
            click.echo(f"all experiments: {everything}")
        click.echo(f"the MLflow UI of {shown(store)} answers there" + ("" if is_server(store) else "; Ctrl-C ends it"))
        if opened:
            webbrowser.open(tables[study] if study else everything)

    return serve(store, port, ready)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code; every failure is one message on standard error."""

    def command() -> object:
        # Not app.main: that takes Ctrl-C, a broken pipe and a file that ends too early for its own affairs.
        with app.make_context("lchp", list(arguments)) as context:
            return app.invoke(context)

    return answered(command)


def main() -> None:
    """The entry point of the command ``lchp``."""
    asked = os.environ.get(_COMPLETION)
    if asked:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(app, {}, "lchp", _COMPLETION, asked))
    leave(lambda: run(sys.argv[1:]))

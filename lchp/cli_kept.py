"""The commands of what studies keep on disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from lchp.at_work import doing, rest
from lchp.cli_options import DATA, JSON, OUTPUT, SEEDS, SET, TRACKING, OnceEachCommand, PathArgument, with_options
from lchp.cli_voice import answer_alone, say, warn
from lchp.errors import Refusal, refusing
from lchp.store.study_folder import StudyFolder

_YES = click.option("--yes", is_flag=True, help="Do not ask.")
_DRY = click.option("--dry-run", is_flag=True, help="Tell what would go, and remove nothing.")
_ENDING = ".zip"


def _sure(question: str, yes: bool) -> None:
    """See that a person means it. Refusal where nobody can be asked, or the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal(f"{question}: nobody can be asked here: give --yes, or --dry-run to see what would go")
    rest()
    try:
        sure = click.confirm(f"{question}?", err=True)
    except click.Abort:
        sure = False
    if not sure:
        raise Refusal("nothing was removed")


@click.command(cls=OnceEachCommand)
@OUTPUT
@click.option("--keep-milestones", is_flag=True, help="Keep what longer trainings go on from.")
@with_options(_DRY, _YES)
@JSON
def gc(output: Path, keep_milestones: bool, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Remove from --output what no study there needs any more, and say how many bytes.

    \b
    - stages of the store that no study has (those of `lchp trial run` among
      them, and of trials that a changed study has no more)
    - milestones, from which longer trainings go on, once every trial is finished
    - lists of images of which no stage is left
    - what was set aside as damaged, and what killed processes have left

    Whatever goes is made again to the same bits by who needs it. Nothing goes
    while a process of this machine trains or imports there; on a file system
    that several machines share see that none of the others does.
    """
    from lchp.study.kept.collect import remove, told, unneeded

    with refusing():
        if not output.is_dir():
            raise Refusal(f"{output}: is no folder: give that of the studies with --output")
        with doing("looking for what no study needs"):
            found = unneeded(output.absolute(), keep_milestones)
    size = sum(one.size for one in found)
    if as_json:
        answer_alone()
        listed = [{"path": str(one.path), "bytes": one.size, "why": one.why} for one in found]
        click.echo(json.dumps({"bytes": size, "unneeded": listed}, indent=2))
    else:
        click.echo(told(found, output))
    if found and not dry_run:
        _sure(f"remove {len(found)} files and folders", yes)
        with doing("removing"):
            freed = remove(found, output.absolute(), warn, keep_milestones)
        say(f"removed: {freed:,} bytes")
    return 0


@click.command(cls=OnceEachCommand)
@click.argument("place", type=PathArgument(), metavar="STUDY|FOLDER")
@with_options(OUTPUT, TRACKING)
@click.option(
    "--runs", type=click.Choice(["keep", "delete"]), default="keep", show_default=True,
    help="Of its runs in the MLflow store; what is deleted there can be restored until `mlflow gc`.",
)  # fmt: skip
@with_options(_DRY, _YES)
def rm(place: Path, output: Path, tracking_uri: str | None, runs: str, dry_run: bool, yes: bool) -> int:
    """Remove a study that was run: its folder, and the stages of the store that no other study has.

    Its runs in MLflow stay, models and tables included, unless --runs delete. Milestones and other leftovers go with
    `lchp study gc`. As there, on a file system that several machines share see that none of the others trains.
    """
    from lchp.study.kept.removal import removal, remove_study, study_folder
    from lchp.study.run.cards import Cards

    with refusing():
        with doing("looking for what no other study needs"):
            what = removal(study_folder(place, output))
        click.echo(("would remove: " if dry_run else "to remove: ") + str(what))
        if dry_run:
            return 0
        _sure(f"remove {what.study.name}", yes)
        own = Cards(what.study).own_key()
        uri = None if runs == "keep" or own is None else _runs_at(tracking_uri)
    if runs == "delete" and own is None:
        warn(f"{what.study}: holds no record of its runs, and none is deleted")

    def forget() -> None:
        if uri is not None and own is not None:
            _delete_runs(what.study.name, own, uri)

    with doing(f"removing {what.study.name}"):
        what = remove_study(what.study, warn, forget)
    say(f"removed: {what.study} ({what.own + what.trained:,} bytes)")
    return 0


def _runs_at(tracking_uri: str | None) -> str:
    """The tracking store, which is there."""
    from lchp.tracking.address import require_runs, resolved

    uri = resolved(tracking_uri, Path.cwd())
    require_runs(uri)

    from lchp.tracking.store import open_store

    return open_store(tracking_uri, Path.cwd())


def _delete_runs(study: str, own: str, uri: str) -> None:
    from lchp.tracking.runs import delete_runs

    with refusing():
        say(f"deleted: {delete_runs(uri, study, own)} runs")


@click.command(cls=OnceEachCommand)
@click.argument("place", type=PathArgument(), metavar="STUDY|FOLDER|FILE")
@click.argument("archive", type=PathArgument(), metavar="ARCHIVE")
@with_options(DATA, SET, SEEDS, OUTPUT)
def archive(place: Path, archive: Path, data: Path | None, sets: tuple[str, ...], output: Path) -> int:
    """Write a study that was run into one file, the ZIP archive ARCHIVE, with which another machine goes on.

    It holds the study's folder (tables, figures, report, the records of its runs, and what you put there), its trained
    stages with networks and checkpoints, and the study as it was written for its last run, options included. Not in it:
    data, pretrained weights, and where they lie on this machine; milestones; the MLflow store (`lchp study sync` writes
    runs again). The same study gives the same bytes.
    """
    from lchp.data.files import require_replaceable
    from lchp.study.kept.archive import write_archive, written_in, written_study
    from lchp.study.kept.needs import study_or_file
    from lchp.study.run.ledger import read
    from lchp.study.run.ownership import require_unchanged
    from lchp.study.spec.load import load_study

    with refusing():
        if archive.suffix != _ENDING:
            raise Refusal(f"{archive}: a study is written as a ZIP archive: give a name that ends in {_ENDING}")
        require_replaceable(archive)
        found, file = study_or_file(place, output, bool(sets or data))
        if found is not None:
            folder, written = found, written_in(found, file)
        else:
            study = load_study(file, sets, data, output=output)
            folder, written = (output / study.name).absolute(), written_study(study.written)
            require_unchanged(study, folder)
        read(folder)
        if folder in archive.absolute().parents:
            raise Refusal(f"{archive}: lies in the study's folder, which goes into it: give a place outside")
        size = write_archive(folder, written, archive, warn)
    say(f"archived: {archive} ({size:,} bytes)")
    if written is None:
        warn("without the study as it was written, which runs of before did not keep: give its FILE, with its options")
    return 0


@click.command("import", cls=OnceEachCommand)
@click.argument("archive", type=PathArgument(), metavar="ARCHIVE")
@OUTPUT
def import_archive(archive: Path, output: Path) -> int:
    """Put the study of ARCHIVE, which `lchp study archive` wrote, into --output.

    Every byte is compared with its digest before anything is written; a stage that is there already stays. Then
    `lchp report`, `compare`, `predict` and `draw` read it, `lchp study run` with its file goes on, and after
    `lchp study sync` its runs are in the MLflow store, for `lchp reproduce`.
    """
    from lchp.study.kept.arrival import put_archive
    from lchp.study.run.fitness import fit

    with fit({"--output": output}, trains=False), refusing():
        arrived = put_archive(archive, output, warn)
    known = f", {arrived.known} were there" if arrived.known else ""
    say(f"imported: {arrived.folder} ({arrived.size:,} bytes, {arrived.stages} stages{known})")
    written = StudyFolder(arrived.folder).written
    if written.is_file():
        _tell_how_it_goes_on(written, output)
    say(f"its runs, for `lchp reproduce`: lchp study sync {arrived.folder}")
    return 0


def _tell_how_it_goes_on(written: Path, output: Path) -> None:
    """Say the command line for the study's own file; that it is none, where somebody has changed it so."""
    from lchp.study.kept.archive import missing_options
    from lchp.study.spec.source import read

    try:
        needed = missing_options(read(written).values)
    except Refusal as error:
        warn(f"{error}; the study is imported all the same")
        return
    where = "".join(f" {option}" for option in needed)
    say(f"it goes on with: lchp study run {written} --output {output}{where}")
    say("with more seeds: the same with --seeds 0..4, which `lchp study table` then wants, too")

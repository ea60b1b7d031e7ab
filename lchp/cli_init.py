"""The command that makes a study of people's own pictures to begin with."""

from __future__ import annotations

import math
from pathlib import Path

import click

from lchp.cli_options import OnceEachCommand, PathArgument
from lchp.cli_voice import say
from lchp.data.listing import KINDS_OF_COLLECTIONS
from lchp.errors import refusing


def _number(_: click.Context, parameter: click.Parameter, value: float) -> float:
    """No range of click's leaves out what is no number."""
    if math.isnan(value):
        raise click.BadParameter("nan is no share: give a number", param=parameter)
    return value


@click.command(cls=OnceEachCommand)
@click.argument("folder", type=PathArgument(), required=False, metavar="[FOLDER|TABLE.csv]")
@click.option(
    "--from", "kind", type=click.Choice(KINDS_OF_COLLECTIONS),
    help="What counts, where FOLDER holds several: a table, boxes of COCO, Pascal VOC or YOLO, folders of classes.",
)  # fmt: skip
@click.option("--masks", type=PathArgument(), metavar="DIR", help="Masks in FOLDER, named as the pictures, as boxes.")
@click.option("--name", help="The study's name. [default: the folder's]")
@click.option("--study", type=PathArgument(), metavar="FILE", help="The study's file. [default: <name>.yaml, here]")
@click.option("--weights", type=PathArgument(), metavar="FILE", help="A local file of pretrained MobileNetV2 weights.")
@click.option(
    "--test", "share", type=click.FloatRange(0, 0.9, min_open=True), default=0.2, show_default=True, callback=_number,
    help="Share of every class that is drawn for test, where no split is named.",
)  # fmt: skip
def init(
    folder: Path | None, kind: str | None, masks: Path | None, name: str | None, study: Path | None,
    weights: Path | None, share: float,
) -> int:  # fmt: skip
    """Write a study to begin with, of the pictures in FOLDER: in folders that name their classes, also below train,
    val and test, or with boxes of COCO, Pascal VOC or YOLO. The table of the pictures is written to FOLDER/images.csv;
    nothing that is there is overwritten. Without FOLDER it is the working folder.
    """
    with refusing():
        from lchp.study.spec.beginning import begin

        made = begin(folder, kind, masks, name, study, weights, share)
    for line in made.told:
        say(line)
    click.echo(f"written: {', '.join(map(str, made.written))}")
    file = made.written[-1]
    say(f"look at the data:  lchp data check {file}")
    say(f"what it costs:     lchp study plan {file}")
    say(f"train:             lchp study run {file}")
    return 0

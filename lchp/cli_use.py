"""The commands that use what was trained."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from lchp.api_arguments import DEVICES
from lchp.cli_options import OUTPUT, TRACKING, OnceEachCommand, PathArgument, with_options
from lchp.cli_voice import say, waiting, warn
from lchp.errors import Refusal, counted, refusing
from lchp.study.use.formats import FORMATS, written
from lchp.study.use.images import LIST, given_images
from lchp.study.use.pictures import drawing, places

_MODEL = click.argument("model", metavar="RUN_ID|FOLDER|FILE")
_DEVICE = click.option(
    "--device", type=click.Choice(DEVICES), default=DEVICES[0], show_default=True,
    help="Where to compute; auto: CUDA where there is a device.",
)  # fmt: skip


@click.command(cls=OnceEachCommand)
@_MODEL
@click.argument("images", nargs=-1, metavar="IMAGES...")
@with_options(OUTPUT, TRACKING, _DEVICE)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True,
    help="How the answers are printed; all but table have every digit.",
)  # fmt: skip
@click.option("--draw", "pictures", type=PathArgument(), metavar="DIR", help="Also draw each box, a .jpg an image.")
@click.option("--exif", "turn", is_flag=True, help="Turn each image as its EXIF says, and give its box there.")
def predict(
    model: str, images: tuple[str, ...], output: Path, tracking_uri: str | None, device: str, form: str,
    pictures: Path | None, turn: bool,
) -> int:  # fmt: skip
    """Give the box, the class and its probability of every image, by the model of a finished trial.

    \b
    RUN_ID  the run of a trial, or how its id begins (six letters), or a study
            (its first trial), in --output or else in the MLflow store
    FOLDER  of a trial or of an initialization in DIR/.store, or an MLflow model
    FILE    what `lchp export` has written
    IMAGES  files, folders (with all below), patterns in quotes, or - for a
            list on standard input, a file a line

    Boxes are x1, y1, x2, y2 in pixels of the image as it is stored, ends exclusive. An image that cannot be read is
    named and left out, and the exit code is 1.
    """
    from lchp.study.run.fitness import fit
    from lchp.study.run.options import chosen_device
    from lchp.study.use.models import localizer_of, model_of

    with refusing():
        given = given_images(images, _listed(images))
        drawn = {} if pictures is None else places(given.images, pictures)
    with fit({} if pictures is None else {"--draw": pictures}, device, trains=False):
        with refusing():
            found = model_of(model, output, tracking_uri)
            where = chosen_device(device)
            waiting(f"{counted(len(given.images), 'image')}: loading the model")

            from lchp.study.use.predict import Unread, predictions

            localizer = localizer_of(found, model, where)
        if given.repeated:
            warn(f"{given.repeated} of the images are named again: each is answered once")
        if found.classes is None:
            warn("the names of the classes are not kept here (`lchp study run` again keeps them): indices instead")
        unread = Unread([])
        several = predictions(localizer, given.images, turn, unread, warn)
        if drawn:
            several = drawing(several, drawn, turn, found.method)
        for line in written(several, form, found):
            click.echo(line)
    if unread.turned:
        warn(f"{unread.turned} images are stored turned (EXIF): their boxes are of the stored pixels; see --exif")
    if unread.lines:
        warn(f"{len(unread.lines)} of {len(given.images)} images cannot be read")
    return 1 if unread.lines else 0


def _listed(words: Iterable[str]) -> list[str]:
    """The names on standard input, where the words ask for it: one a line, or ended by NUL as `find -print0` does."""
    asked = list(words).count(LIST)
    if asked > 1:
        raise Refusal("-: standard input is read once: give it once; a file of that name is ./-")
    if not asked:
        return []
    data = sys.stdin.buffer.read()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Refusal("-: the list on standard input is text in UTF-16: give it in UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    names = [os.fsdecode(line) for line in lines if line]
    if not names:
        raise Refusal("-: standard input names no file: give a list, one a line")
    return names


@click.command(cls=OnceEachCommand)
@_MODEL
@click.argument("file", type=PathArgument())
@with_options(OUTPUT, TRACKING)
def export(model: str, file: Path, output: Path, tracking_uri: str | None) -> int:
    """Write the model of a finished trial into one FILE (.safetensors), which `lchp predict` takes.

    It holds the weights of the two networks, regressor and classifier, as plain tensors, and in its metadata (`lchp`, a
    JSON text) the names of the classes, the view (resize, crop), the format of boxes, the networks' design and what it
    was trained on. It holds no code, no pickle and no path of this machine; its SHA-256 tells of a change. RUN_ID and
    FOLDER as for `lchp predict`.
    """
    from lchp.store.model_file import ENDING, read_file, write_file
    from lchp.study.run.fitness import fit
    from lchp.study.use.models import model_of

    with refusing():
        if file.suffix != ENDING:
            raise Refusal(f"{file}: a model is written as safetensors: give a name that ends in {ENDING}")
        if file.is_dir():
            raise Refusal(f"{file}: is a folder: give the name of a file")
        if file.exists():
            try:
                read_file(file)
            except ValueError as error:
                raise Refusal(f"{file}: is there, and is no model that lchp wrote: give another name") from error
    with fit({"FILE": file.parent}, trains=False):
        with refusing():
            found = model_of(model, output, tracking_uri)
        write_file(found, file)
    classes = "unnamed classes" if found.classes is None else f"{len(found.classes)} classes"
    say(f"exported: {file} ({file.stat().st_size:,} bytes, {classes})")
    return 0

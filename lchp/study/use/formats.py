"""Predictions as text: a table for people, JSON, CSV and COCO for programs. Nothing heavy is imported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lchp.store.per_image import CORNERS, LABEL, PATH

if TYPE_CHECKING:
    from lchp.store.model import Model
    from lchp.study.use.predict import Prediction

FORMATS = ("table", "json", "csv", "coco")
COLUMNS = (PATH, *CORNERS, LABEL, "class", "confidence", "width", "height")
"""Of CSV, and the keys of JSON: the first five are those of a file of boxes (``pseudo_boxes.source: file``)."""


def written(predictions: Iterable[Prediction], form: str, model: Model) -> Iterator[str]:
    """Predictions as the lines of one of FORMATS, CSV and JSON an image at a time, with all digits of every float."""
    return {"table": _table, "json": _json, "csv": _csv, "coco": _coco}[form](predictions, model)


def as_dict(prediction: Prediction) -> dict[str, Any]:
    """A prediction by COLUMNS."""
    found = prediction.found
    values = (
        prediction.image, *found.box, found.label, prediction.name, found.confidence, found.width, found.height
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _json(predictions: Iterable[Prediction], _: Model) -> Iterator[str]:
    before = "["
    for one in predictions:
        yield f"{before}{json.dumps(as_dict(one), ensure_ascii=False)}"
        before = ","
    yield "]" if before == "," else "[]"


def _csv(predictions: Iterable[Prediction], _: Model) -> Iterator[str]:
    yield _row(COLUMNS)
    for one in predictions:
        yield _row(as_dict(one).values())


def _row(values: Iterable[object]) -> str:
    text = io.StringIO()
    # Python 3.11 quotes a line break in a cell only where lines end in one.
    csv.writer(text, lineterminator="\n").writerow(list(values))
    return text.getvalue().removesuffix("\n")


def _table(predictions: Iterable[Prediction], _: Model) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("class", "confidence", *CORNERS, "image")]
    for one in predictions:
        corners = (f"{corner:.1f}" for corner in one.found.box)
        rows.append((_plain(one.name), f"{one.found.confidence:.3f}", *corners, _plain(one.image)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for first, *others, image in rows:
        aligned = (f"{word:>{width}}" for word, width in zip(others, widths[1:], strict=True))
        yield "  ".join([f"{first:<{widths[0]}}", *aligned, image])


def _plain(text: str) -> str:
    """A name without what would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _coco(predictions: Iterable[Prediction], model: Model) -> Iterator[str]:
    """A COCO dataset: the id of a category is its index + 1, a box is x, y, width and height, ``score`` the
    confidence.
    """
    images, annotations = [], []
    for number, one in enumerate(predictions, 1):
        (x1, y1, x2, y2), found = one.found.box, one.found
        images.append({"id": number, "file_name": one.image, "width": found.width, "height": found.height})
        annotations.append(
            {"id": number, "image_id": number, "category_id": found.label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
             "area": (x2 - x1) * (y2 - y1), "iscrowd": 0, "score": found.confidence}
        )  # fmt: skip
    classes = range(model.classifier["head.weight"].shape[0])
    categories = [{"id": label + 1, "name": model.named(label)} for label in classes]
    document = {"images": images, "annotations": annotations, "categories": categories}
    yield json.dumps(document, ensure_ascii=False, indent=1)

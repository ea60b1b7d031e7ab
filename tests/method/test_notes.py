"""The method notes, and what cites them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lchp

PACKAGE = Path(lchp.__file__).parent
NOTES = PACKAGE / "method/README.md"
CITED = re.compile(r"method notes,?(?: rows?)? (\d+(?:(?:, | and |-)\d+)*)")


def numbers(text: str) -> set[int]:
    """The numbers in ``1, 2``, ``4 and 5`` or ``1-6``."""
    found = set()
    for part in re.split(r", | and ", text):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def cited() -> dict[int, list[str]]:
    """Every number of the notes that the package cites, and the files that do."""
    places: dict[int, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for match in CITED.finditer(" ".join(file.read_text(encoding="utf-8").split())):
            for number in numbers(match[1]):
                places.setdefault(number, []).append(file.relative_to(PACKAGE).as_posix())
    return places


def rows() -> list[int]:
    return [int(row) for row in re.findall(r"^\| (\d+) \|", NOTES.read_text(encoding="utf-8"), re.MULTILINE)]


def test_numbers_of_a_citation_are_all_it_names() -> None:
    assert [numbers(text) for text in ("7", "1, 2", "4 and 5", "1-3, 9")] == [{7}, {1, 2}, {4, 5}, {1, 2, 3, 9}]


def test_notes_are_numbered_through() -> None:
    assert rows() == list(range(1, len(rows()) + 1))


def test_notes_that_the_package_cites_are_rows() -> None:
    places = cited()
    assert len(places) > 10, "the citations are written otherwise than this test looks for them"
    assert {number: files for number, files in places.items() if number not in rows()} == {}


@pytest.mark.parametrize("floor", ["method", "data", "training"])
def test_notes_are_cited_by_number_and_no_others_are(floor: str) -> None:
    wrong = []
    for file in sorted((PACKAGE / floor).rglob("*.py")):
        text = " ".join(file.read_text(encoding="utf-8").split())
        for match in re.finditer(r"\b(?:field|method) notes|What held", text):
            if not CITED.match(text, match.start()):
                wrong.append(f"{file.relative_to(PACKAGE)}: {text[match.start() : match.start() + 40]}")
    assert wrong == []

"""What comes with the package: the studies and the paper's numbers.

Their files lie in ``studies`` and ``analysis/paper`` of the source tree. Links lead there from this folder, and a wheel
holds in place of the links what they lead to.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
STUDIES = (_FOLDER / "studies").resolve()
"""The folder of the studies, ``<name>.yaml`` each."""
SCHEMA = STUDIES / "study.schema.json"
"""The JSON Schema of a study's file, as `lchp config schema` prints it."""
SCHEMA_LINE = "# yaml-language-server: $schema="
"""How the line at the head of a study begins that names its schema to editors."""
PAPER = (_FOLDER / "paper").resolve()
"""The folder of the paper's numbers, ``<table>.csv`` each."""


def study_names() -> list[str]:
    """The names of the studies, sorted."""
    return sorted(file.stem for file in STUDIES.glob("*.yaml"))


def study_file(given: Path) -> Path:
    """The file of a study: ``given`` where such a file is there, else that of the study that comes with the package and
    has this name, whose own results may lie in a folder so called; ``given`` where there is neither.

    >>> study_file(Path("quickstart")).name
    'quickstart.yaml'
    """
    named = len(given.parts) == 1 and str(given) in study_names() and not given.is_file()
    return STUDIES / f"{given}.yaml" if named else given

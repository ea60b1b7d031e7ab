"""The records of the kinds: complete, and light enough for the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from lchp.data.config import DatasetConfig, FilesDataset, SyntheticDataset
from lchp.data.kinds import KINDS
from tests.data.layouts import draw_cub, draw_table

FILES = [name for name, kind in KINDS.items() if not kind.drawn]


def imported(code: str, *heavy: str) -> str:
    code = f"import sys\n{code}\nprint(sorted({set(heavy)} & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_kinds_records_import_the_standard_library_alone() -> None:
    assert imported("import lchp.data.kinds", "torch", "pydantic", "numpy", "PIL") == "[]"


def test_kinds_configurations_and_published_counts_need_no_torch() -> None:
    code = "from lchp.data.config import FilesDataset; assert FilesDataset(kind='cub').published.classes == 200"
    assert imported(code, "torch", "numpy") == "[]"


@pytest.mark.parametrize("kind", ["cub", "table"])
def test_kinds_a_dataset_is_opened_without_torch(kind: str, tmp_path: Path) -> None:
    path = {"cub": draw_cub, "table": draw_table}[kind](tmp_path / "set")
    code = (
        "from pathlib import Path; from lchp.data.config import FilesDataset; from lchp.data.reading import *\n"
        f"assert open_dataset(FilesDataset(kind={kind!r}, path={str(path)!r}), Path({str(tmp_path)!r})).train"
    )
    assert imported(code, "torch") == "[]"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_kinds_every_record_has_a_reader_and_a_layout(kind: object) -> None:
    reader = kind.reader()  # type: ignore[attr-defined]
    assert callable(reader.read)
    assert callable(reader.read_boxes)
    assert kind.layout  # type: ignore[attr-defined]


def test_kinds_are_the_choices_of_the_configuration() -> None:
    assert list(get_args(FilesDataset.model_fields["kind"].annotation)) == FILES
    adapter: TypeAdapter[DatasetConfig] = TypeAdapter(DatasetConfig)
    assert [adapter.validate_python({"kind": name}).kind for name in KINDS] == list(KINDS)
    with pytest.raises(ValidationError, match="cub"):
        adapter.validate_python({"kind": "birds"})


def test_kinds_published_counts_are_those_of_the_original_datasets() -> None:
    found = {name: FilesDataset(kind=name).published for name in FILES}
    counts = {name: (c.train, c.test, c.classes) if c else None for name, c in found.items()}
    assert counts == {
        "cub": (5994, 5794, 200),
        "tiny-imagenet": (100_000, 10_000, 200),
        "imagenet": (1_281_167, 50_000, 1000),
        "table": None,
    }
    drawn = SyntheticDataset(train_per_class=2, test_per_class=3).published
    assert (drawn.train, drawn.test, drawn.classes) == (16, 24, 8)

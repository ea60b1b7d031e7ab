from __future__ import annotations

import io
from collections.abc import Iterable

import pytest

from lchp.data import progress as module
from lchp.data.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("images", "shown"), [(1, "0/47 ["), (64, "0/3008 [")])
def test_progress_of_several_images_an_item_counts_images(
    images: int, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    bar = str(progress(range(47), "resizing", images=images))
    assert shown in bar
    assert "? images/s" in bar


def told(items: Iterable[int], monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], str]:
    """What progress gives and says where standard error is no terminal."""
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    return list(progress(items, "resizing", images=64)), out.getvalue()


def test_progress_in_a_log_is_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(range(3), monkeypatch) == ([0, 1, 2], "")
    monkeypatch.setattr(module, "_DELAY", 0.0)
    assert told(range(3), monkeypatch) == ([0, 1, 2], "resizing: 0 done\n")
    monkeypatch.setattr(module, "_BETWEEN", 0.0)
    assert told(range(2), monkeypatch) == ([0, 1], "resizing: 0 done\nresizing: 64 done\n")

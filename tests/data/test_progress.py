from __future__ import annotations

import io
from collections.abc import Iterable

import pytest

from lchp.at_work import fresh_signs, keep_quiet
from lchp.data import progress as module
from lchp.data.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("images", "shown"), [(1, "0/47 ["), (64, "0/3008 [")])
def test_progress_of_several_images_an_item_counts_images(
    images: int, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(module, "FIRST", 0.0)
    assert list(progress(range(47), "resizing", images=images)) == list(range(47))
    assert shown in terminal.getvalue()
    assert "? images/s" in terminal.getvalue()


def told(items: Iterable[int], monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], str]:
    """What progress gives and says where standard error is no terminal."""
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    return list(progress(items, "resizing", images=64)), out.getvalue()


def test_progress_in_a_log_is_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(range(3), monkeypatch) == ([0, 1, 2], "")
    monkeypatch.setattr(module, "FIRST", 0.0)
    assert told(range(3), monkeypatch) == ([0, 1, 2], "resizing: 64 done\n")
    monkeypatch.setattr(module, "between", lambda _: 0.0)
    assert told(range(3), monkeypatch) == ([0, 1, 2], "resizing: 64 done\nresizing: 128 done\n")


def test_progress_says_nothing_where_nobody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 0.0)
    keep_quiet()
    try:
        assert told(range(3), monkeypatch) == ([0, 1, 2], "")
    finally:
        fresh_signs()

from __future__ import annotations

import errno
import json
import tempfile
from pathlib import Path

import pytest

from lchp.errors import Refusal, answer, is_bug, message, refusing


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


class Unnamed(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (Refusal("tau = 2: must be at most 1"), "tau = 2: must be at most 1", 2),
        (Refusal("one\ntwo"), "one\ntwo", 2),
        (ValueError("images.txt:3: no label"), "images.txt:3: no label", 1),
        (FloatingPointError("the loss is nan"), "the loss is nan", 1),
        (
            OSError(errno.ENOSPC, "No space left on device", "results.csv"),
            "results.csv: No space left on device: free space there, or name another place",
            1,
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device: free space", 1),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied: make it readable", 1),
        (ConnectionRefusedError("nobody\nanswers"), "nobody answers", 1),
        (MemoryError(), "out of memory: make the batch sizes, view.crop or resources.concurrent smaller", 1),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "out of memory ([enforce fail] DefaultCPUAllocator",
            1,
        ),
    ],
)
def test_answer_error_for_people_is_its_message(temporary: Path, error: Exception, text: str, code: int) -> None:
    assert not is_bug(error)
    said, given = answer(error)
    assert (said[: len(text)], given) == (text, code)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        Unnamed("a\nb"),
        KeyError("x"),
        RecursionError(),
        SystemExit(3),
        EOFError("ended before the marker"),
        json.JSONDecodeError("Expecting value", "[", 1),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
def test_answer_bug_is_one_line_that_names_the_traceback(temporary: Path, error: BaseException) -> None:
    said, code = answer(error)
    assert code == 1
    assert said.startswith(f"internal error: {type(error).__name__}")
    file = next(temporary.iterdir())
    assert said.endswith(f": this is a bug of lchp; details: {file}")
    assert "\n" not in said
    assert type(error).__name__ in file.read_text(encoding="utf-8")


def test_answer_bug_with_a_log_names_the_log(temporary: Path) -> None:
    error = Unnamed("text")
    error.add_note("details: out/tiny/log.txt")
    assert answer(error)[0] == "internal error: Unnamed: text: this is a bug of lchp; details: out/tiny/log.txt"
    assert list(temporary.iterdir()) == []


def test_answer_bug_whose_details_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert "this is a bug of lchp; its details could not be written (" in answer(Unnamed())[0]


def test_refusing_turns_what_a_reader_raises_into_a_refusal_with_the_file() -> None:
    with pytest.raises(Refusal, match=r"^/x: Permission denied: make it"), refusing():
        raise PermissionError(errno.EACCES, "Permission denied", "/x")
    with pytest.raises(Refusal, match=r"^kept$"), refusing():
        raise Refusal("kept")
    for bug in (KeyError("a bug stays one"), json.JSONDecodeError("Expecting value", "[", 1)):
        with pytest.raises(type(bug)), refusing():
            raise bug


def test_message_where_the_working_folder_is_gone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError) as error:
        Path.cwd()
    assert message(error.value) == "the working folder is gone: change into one that is there"


def test_message_long_text_of_a_bug_is_cut() -> None:
    assert len(message(Unnamed("x" * 5000))) < 400


def test_is_bug_own_kinds_of_value_error_are_for_people() -> None:
    from lchp.data.archives import _Unacceptable
    from lchp.store.checks import Damaged

    for kind in (_Unacceptable, Damaged):
        assert issubclass(kind, ValueError)
        assert not is_bug(kind.__new__(kind))


def test_answer_to_a_database_of_searches_that_fails_says_why_and_names_the_remedy() -> None:
    from optuna.exceptions import StorageInternalError

    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = RuntimeError("the server is gone")
    text, code = answer(error)
    assert code == 1
    assert text.startswith("the database of searches failed (the server is gone): see that it can be reached")


def test_answer_to_a_tracking_store_that_fails_names_the_remedy() -> None:
    from mlflow.exceptions import MlflowException

    text, code = answer(MlflowException("the server is gone"))
    assert code == 1
    assert "the tracking store failed (the server is gone): see that it can be reached" in text

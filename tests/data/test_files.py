"""Files written whole or not at all, and text that must be UTF-8."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lchp.data.files import left_parts, read_json, read_utf8, replacing, write_json, write_text


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_write_json_keeps_all_digits_and_refuses_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    value = {"score": 0.1 + 0.2, "list": [1, None, "ü"]}
    write_json(path, value)
    assert read_json(path) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"score": float("nan")})
    assert read_json(path) == value
    assert names(tmp_path) == ["scores.json"]


def test_write_text_replaces_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "per_image.csv"
    write_text(path, "old\n")
    with path.open(encoding="utf-8") as reader:
        write_text(path, "new\n")
        assert reader.read() == "old\n"
    assert path.read_text(encoding="utf-8") == "new\n"
    assert names(tmp_path) == ["per_image.csv"]


def test_replacing_makes_the_folder_and_shows_nothing_before_its_end(tmp_path: Path) -> None:
    path = tmp_path / "new/deep/picture.png"
    with replacing(path) as part:
        part.write_bytes(b"whole")
        assert part.parent == path.parent
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert names(path.parent) == ["picture.png"]


def test_replacing_folder_or_pipe_is_refused_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("folder", "Is a directory"), ("pipe", "Is no plain file")):
        with pytest.raises(OSError, match=reason) as caught, replacing(tmp_path / name):
            pytest.fail("nothing is to be written")
        assert caught.value.filename == str(tmp_path / name)
    assert sorted(names(tmp_path)) == ["folder", "pipe"]
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_replacing_on_a_full_disk_names_the_file(number: int, tmp_path: Path) -> None:
    path = tmp_path / "tiny.zip"
    with pytest.raises(OSError, match=os.strerror(number)) as caught, replacing(path):
        raise OSError(number, os.strerror(number))
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="of another") as caught, replacing(path):
        raise OSError(number, "of another", "other.csv")
    assert caught.value.filename == "other.csv"
    with pytest.raises(OSError, match="no file") as caught, replacing(path):
        raise OSError(errno.EPIPE, "no file")
    assert caught.value.filename is None


def test_replacing_names_no_temporary_file_where_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    with pytest.raises(FileNotFoundError) as caught, replacing(path) as part:
        part.unlink()
    assert caught.value.filename == str(path)


KILLED = """
import os, signal, sys
from pathlib import Path
from lchp.data.files import replacing
with replacing(Path(sys.argv[1])) as part:
    part.write_text("half of what a killed process wrote")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_replacing_again_leaves_nothing_of_a_process_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "tiny.zip"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert [part.name for part in left_parts(tmp_path)] == [left]
    with replacing(path) as part:
        assert (part.name, part.stat().st_size) == (left, 0)
        assert left_parts(tmp_path) == []
        part.write_text("whole", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "whole"
    assert names(tmp_path) == ["tiny.zip"]


@pytest.mark.skipif(not Path("/proc/sys/kernel").exists(), reason="elsewhere a machine is known by its name")
def test_replacing_in_another_container_of_this_machine_takes_up_what_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for host in ("1f0c9e0a3b2d", "9b7a6c5d4e3f"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        with replacing(tmp_path / "table.csv") as part:
            found.append(part)
    assert found[0] == found[1]


def test_replacing_twice_at_once_keeps_both_apart_and_the_last_in_place(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with replacing(path) as last:
        last.write_text("last", encoding="utf-8")
        with replacing(path) as first:
            first.write_text("first", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "first"
    assert path.read_text(encoding="utf-8") == "last"
    assert names(tmp_path) == ["table.csv"]


def test_replacing_where_files_cannot_be_held_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(path: Path, _: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("lchp.data.files.hold", held)
    write_text(tmp_path / "table.csv", "whole")
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == "whole"
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replacing_interrupted_leaves_the_old_file_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "digests.json"
    path.write_text("old", encoding="utf-8")

    def dying() -> None:
        with replacing(path) as part:
            part.write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        dying()
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["digests.json"]


def test_read_utf8_names_file_line_and_remedy_of_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "images.txt"
    path.write_text("1 a.jpg\n2 M\u00f6we.jpg\n", encoding="utf-8")
    assert read_utf8(path) == "1 a.jpg\n2 M\u00f6we.jpg\n"
    path.write_text("1 a.jpg\n2 M\u00f6we.jpg\n", encoding="latin1")
    with pytest.raises(ValueError, match=r"images\.txt, line 2: the byte 0xf6 is not UTF-8: save the file in UTF-8"):
        read_utf8(path)
    path.write_text("1 a.jpg", encoding="utf-16")
    with pytest.raises(ValueError, match=r"images\.txt, line 1: is text in UTF-16: save the file in UTF-8"):
        read_utf8(path)


@pytest.mark.parametrize("content", ["", '{"score": 1', "no JSON", "[" * 100_000, "\udcff"])
def test_read_json_cut_or_damaged_is_refused_by_name(content: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"scores\.json is cut or damaged, it is no JSON \(.*\): train it again"):
        read_json(path, "train it again")


def test_read_json_missing_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scores\.json cannot be read \(No such file .*\): restore it, or run"):
        read_json(tmp_path / "scores.json")

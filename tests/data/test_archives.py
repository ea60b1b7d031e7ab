"""Extraction: once, whole, and without trust."""

from __future__ import annotations

import bz2
import io
import os
import random
import re
import stat
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest

from lchp.data import archives
from lchp.data.archives import extracted
from tests.data.layouts import draw_cub

SUFFIXES = (".tar", ".tgz", ".tar.gz", ".zip")


def pack(folder: Path, file: Path) -> Path:
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(file, "w:" if file.suffix == ".tar" else "w:gz") as archive:
            archive.add(folder, folder.name)
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_extracted_every_format_gives_the_same_files_once(suffix: str, tmp_path: Path) -> None:
    folder = draw_cub(tmp_path / "birds")
    archive = pack(folder, tmp_path / f"set{suffix}")
    found = extracted(archive, tmp_path / "cache")
    assert contents(found / "birds") == contents(folder)
    assert found.parent == tmp_path / "cache/extracted"
    assert found.name.startswith("set-")
    (found / "mark").touch()
    assert (extracted(archive, tmp_path / "cache") / "mark").exists()


def test_extracted_changed_archive_is_extracted_again(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds/a").write_text("a")
    first = extracted(pack(tmp_path / "birds", tmp_path / "set.tar"), tmp_path / "cache")
    (tmp_path / "birds/b").write_text("b")
    archive = pack(tmp_path / "birds", tmp_path / "set.tar")
    os.utime(archive, ns=(1, 1))
    second = extracted(archive, tmp_path / "cache")
    assert first != second
    assert set(contents(second)) == {"birds/a", "birds/b"}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.95])
def test_extracted_cut_archive_is_refused_and_leaves_nothing(suffix: str, kept: float, tmp_path: Path) -> None:
    archive = pack(draw_cub(tmp_path / "birds"), tmp_path / f"set{suffix}")
    whole = archive.read_bytes()
    # The end of a tar is padding: cut from what comes before it.
    end = len(whole.rstrip(b"\0")) if suffix == ".tar" else len(whole)
    archive.write_bytes(whole[: int(end * kept)])
    with pytest.raises(
        ValueError, match=r"set.*(: the archive is corrupt .*: fetch it again| is empty: fetch the archive again)"
    ):
        extracted(archive, tmp_path / "cache")
    assert [path.name[:5] for path in (tmp_path / "cache/extracted").iterdir()] == [".set-"]
    assert not list((tmp_path / "cache/extracted").glob("*.part"))


def test_extracted_tar_cut_between_members_is_refused(tmp_path: Path) -> None:
    """tarfile itself takes this for a complete archive."""
    archive = pack(draw_cub(tmp_path / "birds"), tmp_path / "set.tar")
    with tarfile.open(archive) as opened:
        middle = opened.getmembers()[9].offset
    archive.write_bytes(archive.read_bytes()[:middle])
    with pytest.raises(ValueError, match="corrupt"):
        extracted(archive, tmp_path / "cache")


def test_extracted_tar_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    archive = pack(draw_cub(tmp_path / "birds"), tmp_path / "set.tar")
    with tarfile.open(archive) as opened:
        middle = opened.getmembers()[9].offset
    data = bytearray(archive.read_bytes())
    data[middle + 20] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(ValueError, match="corrupt"):
        extracted(archive, tmp_path / "cache")


def test_extracted_zip_with_damaged_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds/a").write_bytes(b"unmistakable")
    archive = pack(tmp_path / "birds", tmp_path / "set.zip")
    archive.write_bytes(archive.read_bytes().replace(b"unmistakable", b"unmistakeble"))
    with pytest.raises(ValueError, match="corrupt"):
        extracted(archive, tmp_path / "cache")


def small_set(folder: Path) -> Path:
    """A folder of three small files, one of them with an incompressible content."""
    (folder / "birds/deep").mkdir(parents=True)
    (folder / "birds/a.jpg").write_bytes(random.Random(0).randbytes(300))
    (folder / "birds/deep/b.jpg").write_bytes(b"pixels" * 40)
    (folder / "birds/deep/empty").write_bytes(b"")
    return folder / "birds"


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
def test_extracted_flipped_byte_anywhere_is_refused_or_changes_nothing(suffix: str, tmp_path: Path) -> None:
    folder = small_set(tmp_path)
    archive = pack(folder, tmp_path / f"set{suffix}")
    whole, expected = archive.read_bytes(), contents(folder)
    refusals = []
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF if place % 2 else 0x01
        archive.write_bytes(damaged)
        try:
            found = extracted(archive, tmp_path / f"cache-{place}")
        except ValueError as error:
            refusals.append(str(error))
        else:
            assert contents(found / "birds") == expected, place
    assert len(refusals) > len(whole) / 5 / 2
    assert all(f"set{suffix}" in refusal for refusal in refusals)


@pytest.mark.parametrize("large", [False, True])
def test_extracted_zip_that_lists_fewer_members_than_it_says_is_refused(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comment's length in the directory takes the entries behind it for the comment. Large: as 64-bit zips end."""
    if large:
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name in "abc":
            opened.writestr(name, name)
    assert len(contents(extracted(archive, tmp_path / "cache"))) == 3
    data = bytearray(archive.read_bytes())
    first = data.index(b"PK\x01\x02")
    data[first + 32] = data.index(b"PK\x01\x02", first + 1) - first
    archive.write_bytes(data)
    with pytest.raises(ValueError, match="its directory lists 2 members of 3"):
        extracted(archive, tmp_path / "other")


def test_extracted_gzip_with_a_wrong_checksum_behind_a_whole_tar_is_refused(tmp_path: Path) -> None:
    """tarfile stops at its end mark, before gzip's checksum."""
    archive = pack(small_set(tmp_path), tmp_path / "set.tgz")
    data = bytearray(archive.read_bytes())
    data[-6] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=r"set\.tgz: the archive is corrupt \(CRC check failed .*\): fetch it again"):
        extracted(archive, tmp_path / "cache")


@pytest.mark.parametrize(
    ("suffix", "more", "reason"),
    [
        (".tgz", b"garbage", "Not a gzipped file"),
        (".tar", b"garbage", "something follows its end"),
        (".tgz", None, "something follows its end: two archives in one file?"),
        (".tar", None, "something follows its end: two archives in one file?"),
        (".zip", None, "something precedes its first member: two archives in one file?"),
    ],
)
def test_extracted_archive_with_something_behind_it_is_refused(
    suffix: str, more: bytes | None, reason: str, tmp_path: Path
) -> None:
    """None: the same archive again, of which only one would be read."""
    archive = pack(small_set(tmp_path), tmp_path / f"set{suffix}")
    whole = archive.read_bytes()
    archive.write_bytes(whole + (whole if more is None else more))
    with pytest.raises(ValueError, match=rf"the archive is corrupt \({re.escape(reason)}.*\): fetch it again"):
        extracted(archive, tmp_path / "cache")


@pytest.mark.parametrize(("named", "is_a"), [(".tar", ".tgz"), (".tgz", ".tar"), (".zip", ".tgz"), (".tgz", ".zip")])
def test_extracted_follows_the_content_and_not_the_name(named: str, is_a: str, tmp_path: Path) -> None:
    folder = small_set(tmp_path)
    archive = pack(folder, tmp_path / f"made{is_a}").rename(tmp_path / f"set{named}")
    assert contents(extracted(archive, tmp_path / "cache") / "birds") == contents(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: fetch the archive again"),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page, not an archive: open it"),
        (bz2.compress(bytes(10_240)), r"is none of the archives that are read \(.tar, .tgz, .tar.gz, .zip\)"),
        (b"GIF89a" * 100, "is none of the archives that are read"),
        (bytes(10_240), "is none of the archives that are read"),
    ],
)
def test_extracted_file_that_is_no_archive_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "set.tgz").write_bytes(content)
    with pytest.raises(ValueError, match=rf"set\.tgz {message}"):
        extracted(tmp_path / "set.tgz", tmp_path / "cache")


def hostile_tar(file: Path, name: str, kind: bytes, target: str) -> Path:
    with tarfile.open(file, "w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        member.size = 4 if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(b"evil"))
    return file


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("../evil", tarfile.REGTYPE, ""),
        ("/evil", tarfile.REGTYPE, ""),
        ("a/../../evil", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, "/etc/passwd"),
        ("link", tarfile.SYMTYPE, "inside"),
        ("link", tarfile.LNKTYPE, "../../evil"),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("device", tarfile.CHRTYPE, ""),
    ],
)
def test_extracted_hostile_tar_is_refused_by_member(name: str, kind: bytes, target: str, tmp_path: Path) -> None:
    archive = hostile_tar(tmp_path / "set.tar", name, kind, target)
    with pytest.raises(ValueError, match=rf"set\.tar: refused, its member '{name}' (leaves|is neither)"):
        extracted(archive, tmp_path / "cache")
    assert not [path for path in tmp_path.rglob("*") if path.name in ("evil", "link", "pipe", "device")]


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_extracted_hostile_zip_path_is_refused_by_member(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(name, "evil")
    with pytest.raises(ValueError, match=r"set\.zip: refused, its member '.*evil' leaves the folder"):
        extracted(tmp_path / "set.zip", tmp_path / "cache")
    assert not list(tmp_path.rglob("evil"))


def test_extracted_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(ValueError, match="member 'link' is neither a file nor a folder"):
        extracted(tmp_path / "set.zip", tmp_path / "cache")


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
def test_extracted_bomb_is_refused(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SMALL", 2**16)
    (tmp_path / "zeros").mkdir()
    (tmp_path / "zeros/zeros").write_bytes(bytes(2**22))
    archive = tmp_path / f"set{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.write(tmp_path / "zeros/zeros", "zeros")
    else:
        pack(tmp_path / "zeros", archive)
    with pytest.raises(ValueError, match=r"set.*would grow to more than 100 times its length"):
        extracted(archive, tmp_path / "cache")


def test_extracted_without_room_on_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(draw_cub(tmp_path / "birds"), tmp_path / "set.zip")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(ValueError, match=r"extracting takes [\d,]+ bytes, .* has 10 left: make room"):
        extracted(archive, tmp_path / "cache")


RACER = """
import sys
from pathlib import Path
from lchp.data.archives import extracted
folder = extracted(Path(sys.argv[1]), Path(sys.argv[2]))
print(folder, sum(file.is_file() for file in folder.rglob("*")))
"""


def test_extracted_two_processes_at_once_both_get_the_whole(tmp_path: Path) -> None:
    folder = draw_cub(tmp_path / "birds", train=30, test=30)
    archive = pack(folder, tmp_path / "set.tgz")
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, archive, tmp_path / "cache"], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (racer.communicate(timeout=60)[0].split() for racer in racers)
    assert first == second
    assert int(first[1]) == len(contents(folder)) == 125


def test_extracted_encrypted_zip_is_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.zip: the archive is encrypted: extract it yourself, and give the folder"):
        extracted(tmp_path / "a.zip", tmp_path / "cache")


def test_extracted_zip_may_list_a_folder_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("a/", "a/", "a/b.txt"):
            archive.writestr(name, "b" if name.endswith("txt") else "")
    folder = extracted(tmp_path / "a.zip", tmp_path / "cache")
    assert [path.name for path in folder.rglob("*.txt")] == ["b.txt"]


def test_extracted_zip_with_a_member_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a.txt", "a")
        archive.writestr("a.txt", "b")
    with pytest.raises(ValueError, match=r"a\.zip: holds a\.txt twice, and does not say which counts: extract it"):
        extracted(tmp_path / "a.zip", tmp_path / "cache")

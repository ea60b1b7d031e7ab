"""Extraction: once, whole, and without trust."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
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

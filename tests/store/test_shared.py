from __future__ import annotations

import errno
import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from lchp.store import file_system, shared
from lchp.store.checks import described
from lchp.store.shared import SharedFolder, StoreAway, require_store, resolved, shown

FILES = {"a.json": b"{}", "b.pt": bytes(range(256)) * 9}


STORE = os.environ.get("LCHP_TEST_STORE", "")
"""A URI in which folders may be made: `s3://BUCKET?endpoint_override=...`, for instance."""


@pytest.fixture(
    params=[
        "file",
        "memory",
        pytest.param("given", marks=pytest.mark.skipif(not STORE, reason="LCHP_TEST_STORE names no store")),
    ]
)
def there(request: pytest.FixtureRequest, tmp_path: Path) -> SharedFolder:
    """A folder of a store on a mount, or at a URI that fsspec alone knows."""
    place, _, query = STORE.partition("?")
    uri = {
        "file": str(tmp_path / "store"),
        "memory": f"memory://{uuid.uuid4().hex}",
        "given": f"{place}/{uuid.uuid4().hex}?{query}".rstrip("?"),
    }[request.param]
    require_store(uri)
    return SharedFolder(uri, "trial/abc")


def made(folder: Path, **others: bytes) -> Path:
    folder.mkdir()
    for name, data in {**FILES, **{name.replace("_", "."): data for name, data in others.items()}}.items():
        (folder / name).write_bytes(data)
    return folder


def stored(there: SharedFolder, name: str) -> tuple[object, str]:
    files, root = file_system.opened(there.uri)
    return files, f"{root}/{there.place}/{name}"


def test_bring_gives_what_was_left_and_the_pointer_last(there: SharedFolder, tmp_path: Path) -> None:
    said: list[str] = []
    assert not there.bring(tmp_path / "new", "all.json", said.append)
    assert not there.has("all.json")
    there.leave(made(tmp_path / "old"), "all.json", list(FILES))
    assert there.has("all.json")
    assert there.bring(tmp_path / "new", "all.json", said.append)
    assert {name: (tmp_path / "new" / name).read_bytes() for name in FILES} == FILES
    written = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "new").iterdir()}
    assert written.keys() == {*FILES, "all.json"}
    assert said == []


def test_leave_again_replaces_what_has_changed_alone(there: SharedFolder, tmp_path: Path) -> None:
    old = made(tmp_path / "old")
    there.leave(old, "all.json", list(FILES))
    before = set(there.names())
    (old / "a.json").write_bytes(b"[1]")
    there.leave(old, "all.json", list(FILES))
    assert len(before - set(there.names())) == 1
    assert there.bring(tmp_path / "new", "all.json", print)
    assert (tmp_path / "new/a.json").read_bytes() == b"[1]"
    there.drop("all.json")
    assert there.names() == []


def test_two_machines_that_leave_the_same_stage_leave_one_of_theirs_whole(there: SharedFolder, tmp_path: Path) -> None:
    one, other = made(tmp_path / "one", a_json=b"1"), made(tmp_path / "other", a_json=b"2")
    there.leave(one, "all.json", list(FILES))
    listed = {name: described(other / name) for name in FILES}
    there.leave(other, "of other.json", list(FILES))
    assert {shared._stored(name, described(one / name)) for name in FILES} <= set(there.names())
    assert {shared._stored(name, file) for name, file in listed.items()} <= set(there.names())
    assert there.bring(tmp_path / "new", "all.json", print)
    assert (tmp_path / "new/a.json").read_bytes() == b"1"


@pytest.mark.parametrize("how", ["flipped", "cut", "removed", "pointer"])
def test_bring_of_what_is_damaged_says_so_and_sets_it_aside_until_it_is_left_again(
    there: SharedFolder, tmp_path: Path, how: str
) -> None:
    old, said = made(tmp_path / "old"), list[str]()
    there.leave(old, "all.json", list(FILES))
    name = "all.json" if how == "pointer" else shared._stored("b.pt", described(old / "b.pt"))
    files, path = stored(there, name)
    if how == "removed":
        files.delete_file(path)  # type: ignore[attr-defined]
    else:
        data = FILES["b.pt"]
        damaged = {"flipped": bytes([data[0] ^ 1]) + data[1:], "cut": data[:5], "pointer": b"{"}[how]
        with files.open_output_stream(path) as stream:  # type: ignore[attr-defined]
            stream.write(damaged)
    assert not there.bring(tmp_path / "new", "all.json", said.append)
    assert list((tmp_path / "new").glob("*")) == []
    (line,) = said
    assert line.startswith(f"{shown(there.uri)}/trial/abc: {'all.json' if how == 'pointer' else 'b.pt'} ")
    assert line.endswith(": set aside there, made again")
    assert "all.json.damaged-1" in there.names()
    assert not there.has("all.json")
    there.leave(old, "all.json", list(FILES))
    assert there.bring(tmp_path / "new", "all.json", said.append)
    assert (tmp_path / "new/b.pt").read_bytes() == FILES["b.pt"]


def test_a_store_that_is_away_is_asked_again_and_then_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def away(uri: str) -> None:
        asked.append(uri)
        raise OSError("no route to host\nat all")

    monkeypatch.setattr("lchp.store.shared._PAUSES", (0.0, 0.0))
    monkeypatch.setattr("lchp.store.file_system.opened", away)
    with pytest.raises(StoreAway, match=r"the shared store s3://\*\*\*@bucket/x cannot be used \(no route to host\)$"):
        SharedFolder("s3://key:secret@bucket/x?region=a", "trial/abc").has("all.json")
    assert len(asked) == 3


def test_require_store_refuses_what_cannot_be_used_with_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for uri in (str(tmp_path / "file/store"), "nonsense://x"):
        with pytest.raises(ValueError, match=r"--store .*: cannot be used \(.*give a folder that all machines have"):
            require_store(uri)
    assert resolved("a/b") == str(Path("a/b").absolute())
    assert resolved("s3://a/b") == "s3://a/b"


def test_leave_that_is_ended_in_between_leaves_nothing_under_a_files_own_name(
    there: SharedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = made(tmp_path / "old")
    there.leave(old, "first.json", list(FILES))
    (old / "b.pt").write_bytes(FILES["b.pt"][::-1])

    def cut(path: Path) -> Any:
        yield path.read_bytes()[:5]
        raise KeyboardInterrupt

    before = there.names()
    with monkeypatch.context() as patch:
        patch.setattr("lchp.store.file_system.blocks", cut)
        with pytest.raises(KeyboardInterrupt):
            there.leave(old, "second.json", list(FILES))
    # An object store has the object that was begun; who leaves it again sees its size.
    if "s3://" not in there.uri:
        assert there.names() == before
    there.leave(old, "second.json", list(FILES))
    assert there.bring(tmp_path / "new", "second.json", print)


def test_bring_finds_the_files_of_the_pointer_that_took_the_place_of_the_one_it_read(
    there: SharedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = made(tmp_path / "old")
    there.leave(old, "all.json", list(FILES))
    copy, copied = SharedFolder._copy, list[object]()

    def replaced_meanwhile(self: SharedFolder, *arguments: Any) -> None:
        if not copied:
            (old / "b.pt").write_bytes(b"later")
            there.leave(old, "all.json", list(FILES))
        copied.append(arguments)
        copy(self, *arguments)

    monkeypatch.setattr(SharedFolder, "_copy", replaced_meanwhile)
    assert there.bring(tmp_path / "new", "all.json", pytest.fail)
    assert (tmp_path / "new/b.pt").read_bytes() == b"later"
    assert not any("damaged" in name for name in there.names())

    def dropped_meanwhile(self: SharedFolder, *arguments: Any) -> None:
        there.drop("all.json")
        copy(self, *arguments)

    monkeypatch.setattr(SharedFolder, "_copy", dropped_meanwhile)
    assert not there.bring(tmp_path / "newer", "all.json", pytest.fail)


def test_a_disk_of_this_machine_that_is_full_is_not_told_as_the_stores_fault(
    there: SharedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.leave(made(tmp_path / "old"), "all.json", list(FILES))
    monkeypatch.setattr("lchp.store.shared._PAUSES", ())

    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    opened = Path.open

    def met(path: Path, mode: str = "r", **how: Any) -> Any:
        return Full() if mode == "wb" else opened(path, mode, **how)

    monkeypatch.setattr(Path, "open", met)
    with pytest.raises(OSError, match="No space left on device") as caught:
        there.bring(tmp_path / "new", "all.json", pytest.fail, with_pointer=False)
    assert not isinstance(caught.value, StoreAway)
    assert str(caught.value.filename).startswith(str(tmp_path / "new"))
    assert there.has("all.json")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://bucket/x?endpoint_overide=http://here", r"Unexpected query parameter in S3 URI: 'endpoint_overide'"),
        ("s3://key:sec/ret@bucket/x", r"s3://\*\*\*@bucket/x: .*Cannot parse URI: 's3://\*\*\*@bucket/x'"),
    ],
)
def test_require_store_names_what_is_wrong_with_a_uri_and_not_its_keys(uri: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        require_store(uri)
    assert "sec/ret" not in str(caught.value)


def test_leave_sweeps_what_others_were_killed_at_a_day_ago(tmp_path: Path) -> None:
    there, old = SharedFolder(str(tmp_path / "store"), "trial/abc"), made(tmp_path / "old")
    there.leave(old, "all.json", list(FILES))
    parts = [tmp_path / f"store/trial/abc/0123.b.pt.{letter * 32}" for letter in "ab"]
    for part, hours in zip(parts, (25, 23), strict=True):
        part.write_bytes(b"cut")
        os.utime(part, (time.time() - 3600 * hours,) * 2)
    there.leave(old, "all.json", list(FILES))
    assert [part.exists() for part in parts] == [False, True]

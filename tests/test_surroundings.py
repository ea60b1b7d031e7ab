from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from lchp.surroundings import settle, unproxied


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No home folder in the environment, and a user whom the system does not know; gives the temporary folder."""

    def unknown(uid: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_settle_without_home_and_user_takes_a_folder_of_its_own_and_says_so(nobody: Path) -> None:
    environment: dict[str, str] = {}
    said = settle(environment)
    home = nobody / f"lchp-{os.getuid()}"
    assert environment == {"HOME": str(home)}
    assert len(said) == 1
    assert str(home) in said[0]
    assert home.stat().st_mode & 0o777 == 0o700
    assert settle({}) == said, "the same folder at every start: the cache lies there"


def test_settle_empty_home_counts_as_none(nobody: Path) -> None:
    environment = {"HOME": ""}
    assert len(settle(environment)) == 1
    assert environment["HOME"].startswith(str(nobody))


def test_settle_folder_that_others_may_write_is_not_taken(nobody: Path) -> None:
    planted = nobody / f"lchp-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    environment: dict[str, str] = {}
    settle(environment)
    assert environment["HOME"] == f"{planted}-1"
    assert settle({})[0].count(f"{planted}-1") == 1, "the same at every start: nobody removes it"


def test_settle_file_or_link_where_the_folder_would_be_is_passed_over(nobody: Path) -> None:
    planted = nobody / f"lchp-{os.getuid()}"
    planted.touch()
    planted.with_name(f"{planted.name}-1").symlink_to(nobody)
    environment: dict[str, str] = {}
    settle(environment)
    assert environment["HOME"] == f"{planted}-2"


@pytest.mark.parametrize("told", [0o40777, 0o40700], ids=["rights of everybody", "another owner"])
def test_settle_where_new_folders_do_not_look_like_ones_own_is_refused_and_leaves_none(
    told: int, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.getuid() if told == 0o40777 else 65534
    monkeypatch.setattr(Path, "lstat", lambda path: os.stat_result((told, 0, 0, 1, owner, owner, 0, 0, 0, 0)))
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"temporary folder {nobody} does not tell whose .*: set HOME .* TMPDIR"):
            settle({})
    assert list(nobody.iterdir()) == []


def test_settle_where_every_name_is_somebody_elses_is_refused(nobody: Path) -> None:
    for number in range(10):
        (nobody / (f"lchp-{os.getuid()}-{number}" if number else f"lchp-{os.getuid()}")).touch()
    with pytest.raises(ValueError, match=r"those with a number after it are not this user's alone: set HOME to a fold"):
        settle({})
    assert len(list(nobody.iterdir())) == 10


def test_settle_with_a_home_changes_nothing() -> None:
    environment = {"HOME": "/somewhere"}
    assert settle(environment) == []
    assert environment == {"HOME": "/somewhere"}


def test_unproxied_loopback_is_added_to_what_the_user_names() -> None:
    found = unproxied({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "intranet, localhost"})
    assert found == dict.fromkeys(("no_proxy", "NO_PROXY"), "intranet,localhost,127.0.0.1,::1")


def test_unproxied_without_a_proxy_adds_nothing() -> None:
    assert unproxied({"HOME": "/somewhere", "http_proxy": ""}) == {}


def test_unproxied_is_enough_for_urllib(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert not urllib.request.proxy_bypass("127.0.0.1")
    for name, value in unproxied(os.environ).items():
        monkeypatch.setenv(name, value)
    assert urllib.request.proxy_bypass("127.0.0.1")
    assert not urllib.request.proxy_bypass("tracking.example")

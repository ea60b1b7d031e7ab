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

from __future__ import annotations

import ctypes
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lchp.errors import Refusal
from lchp.study.run import fitness
from lchp.study.run.fitness import cluster_address, fit, short_folder, temporary_folders

LONG = "x" * 91


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for Ray; pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def own_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)


def folders(place: Path) -> dict[str, Path]:
    return {"--output": place / "out", "--cache": place / "cache"}


def look(*asked: Any, **more: Any) -> None:
    with fit(*asked, **more):
        pass


def refused(place: Path, **asked: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        look(folders(place), **asked)
    return str(refusal.value)


def driver(monkeypatch: pytest.MonkeyPatch, found: int, code: int = 0) -> None:
    """A CUDA driver that shows so many devices, or answers ``cuInit`` with an error."""

    def count(place: Any) -> int:
        place._obj.value = found
        return 0

    driver = SimpleNamespace(cuInit=lambda _: code, cuDeviceGetCount=count)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)


def test_look_where_all_is_well_says_nothing(tmp_path: Path) -> None:
    look(folders(tmp_path), tracked=True, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", in_ray=True)
    assert not (tmp_path / "mlflow.db").exists(), "MLflow makes the store"


def test_fit_block_that_fails_leaves_no_empty_folder(tmp_path: Path) -> None:
    def failing() -> None:
        with fit(folders(tmp_path), tracked=True, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="birds"):
            assert (tmp_path / "out").is_dir()
            (tmp_path / "cache/made").touch()
            raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        failing()
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "cache", tmp_path / "cache/made"]


def test_look_tells_all_that_is_wrong_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, 0)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / LONG))
    for name in ("out", "cache", "mlartifacts"):
        (tmp_path / name).write_text("", encoding="utf-8")
    said = refused(
        tmp_path, device="cuda", tracked=True, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", in_ray=True
    ).splitlines()
    assert said[0] == "5 things stand in the way:"
    starts = (f"--output {tmp_path}", f"--cache {tmp_path}", f"{tmp_path}/mlartifacts", "--device cuda", "Ray needs a ")
    assert [line.strip().startswith(start) for line, start in zip(said[1:], starts, strict=True)] == [True] * 5
    for line in said[1:]:
        assert ": " in line, "a remedy stands behind a colon"


def test_look_imports_neither_torch_nor_ray_nor_mlflow(tmp_path: Path) -> None:
    heavy = {"torch", "ray", "mlflow", "pandas", "numpy"}
    code = (
        "import sys; from pathlib import Path; from lchp.study.run.fitness import fit; "
        f"fit({{'--output': Path({str(tmp_path)!r})}}, tracked=True, tracking_uri='sqlite:///{tmp_path}/m.db', "
        f"in_ray=True).__enter__(); print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_look_nearly_full_file_system_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10 << 30, free=90 << 20))
    said = refused(tmp_path, tracked=True, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert said.startswith(f"--output {tmp_path}/out: 90 MB are free on its file system")
    assert len(said.splitlines()) == 1
    look(folders(tmp_path), trains=False)


def test_look_file_system_that_tells_no_size_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=0, free=0))
    look(folders(tmp_path))
    assert (tmp_path / "cache").is_dir()


def test_look_spent_quota_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "unwritable", lambda folder: "Disk quota exceeded" if "out" in str(folder) else None)
    assert f"--output {tmp_path}/out: is no folder that can be written (Disk quota exceeded)" in refused(tmp_path)


def test_look_cuda_without_a_device_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert refused(tmp_path, device="cuda") == (
        "--device cuda: this machine has no usable CUDA device: use --device cpu"
    )


def test_look_cuda_without_a_driver_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert "no usable CUDA device" in refused(tmp_path, device="cuda")


def test_look_hidden_cuda_device_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, 0, code=100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "(CUDA_VISIBLE_DEVICES = '')" in refused(tmp_path, device="cuda")


@pytest.mark.parametrize("address", [None, "127.0.0.1:6379"])
def test_look_cuda_device_here_or_perhaps_in_a_cluster_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    driver(monkeypatch, 0 if address else 2)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr("lchp.study.run.fitness._about_ray", lambda: ())
    look(folders(tmp_path), "cuda", in_ray=address is not None)
    assert cluster_address() == address


def test_look_cuda_device_of_a_cluster_does_not_serve_what_runs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(monkeypatch, 0)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert "has no usable CUDA device" in refused(tmp_path, device="cuda")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_look_fewer_gpus_than_a_trial_takes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    driver(monkeypatch, 2)
    assert refused(tmp_path, device=device, in_ray=True, gpus=4) == (
        "resources.gpus = 4: the machine has 2: lower it with --set resources.gpus=..., or --device cpu"
    )


@pytest.mark.parametrize(("device", "gpus", "found"), [("auto", 2, 2), ("auto", 4, 0), ("cpu", 4, 2), ("cuda", 0.5, 1)])
def test_look_gpus_that_are_there_or_not_wanted_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, gpus: float, found: int
) -> None:
    driver(monkeypatch, found)
    look(folders(tmp_path), device, in_ray=True, gpus=gpus)
    assert (tmp_path / "out").is_dir()


def test_look_gpus_of_a_cluster_are_not_counted_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, 1)
    monkeypatch.setattr("lchp.study.run.fitness._about_ray", lambda: ())
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    look(folders(tmp_path), in_ray=True, gpus=8)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert "resources.gpus = 8: the machine has 1" in refused(tmp_path, in_ray=True, gpus=8)


def test_look_without_a_temporary_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert "No usable temporary directory found): set TMPDIR to one" in refused(tmp_path)


def test_short_folder_passes_over_a_long_tmpdir(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = short / LONG
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    assert short_folder() == Path("/tmp")


def test_short_folder_tmpdir_that_is_short_is_taken(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    assert short_folder() == short


@pytest.mark.parametrize("name", ["é", "a b", "it's"])
def test_short_folder_passes_over_a_tmpdir_that_ray_would_stumble_over(
    name: str, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(short / name))
    assert short_folder() == Path("/tmp")


def test_short_folder_longest_that_is_taken_holds_the_socket_of_ray(short: Path) -> None:
    longest = fitness._SOCKET - fitness._SESSION
    session = "lchp-tmp-ab_d3fgh/session_2026-11-25_20-54-27_179841_4194304"
    assert len(f"{'x' * longest}/{session}/sockets/plasma_store") == 107


def test_short_folder_ray_tmpdir_alone_counts_where_it_is_set(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    assert short_folder() == short
    monkeypatch.setenv("RAY_TMPDIR", str(short / LONG))
    with pytest.raises(Refusal, match=r"\(/tmp/t.*x: \d+ bytes, \d+ at most\): set RAY_TMPDIR to one"):
        short_folder()


def test_short_folder_ray_tmpdir_that_is_no_ascii_is_refused(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a b", "é"):
        (short / name).mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(short / "a b"))
    assert short_folder() == short / "a b"
    monkeypatch.setenv("RAY_TMPDIR", str(short / "é"))
    with pytest.raises(Refusal, match=r"é: holds spaces, or letters that are not plain ASCII.*: set RAY_TMPDIR to one"):
        short_folder()


def test_temporary_folders_hold_those_that_cannot_be_written_now(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(short))
    assert {short, tmp_path / "missing", Path("/tmp"), Path("/dev/shm")} <= set(temporary_folders())
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert temporary_folders() == [short, Path("/tmp"), tmp_path]


def test_short_folder_where_nothing_can_be_written_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "unwritable", lambda _: "Read-only file system")
    with pytest.raises(Refusal, match=r"/tmp: Read-only file system; /dev/shm: .*: set RAY_TMPDIR to one"):
        short_folder()


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_look_cluster_that_nobody_serves_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = form.format(f"127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("RAY_ADDRESS", address)
        look(folders(tmp_path))
        said = refused(tmp_path, in_ray=True)
        assert said.startswith(f"Ray cluster {address}: cannot be reached (Connection refused): start one with")
        taken.listen()
        look(folders(tmp_path), in_ray=True)


@pytest.mark.parametrize("address", ["cluster", "cluster:", ":6379", "cluster:port", "cluster:99999"])
def test_look_address_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert f"Ray cluster {address}: is no HOST:PORT" in refused(tmp_path, in_ray=True)


def test_cluster_address_local_means_one_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert cluster_address() is None


def test_look_at_a_cache_that_is_read_only_refuses_an_empty_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    # A read-only file system is full, too; root may write into any folder of another.
    monkeypatch.setattr(fitness, "unwritable", lambda folder: "Read-only file system" if folder == cache else None)
    free = SimpleNamespace(total=1 << 30, free=0)
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free if folder == cache else usage(folder))
    assert f"--cache {cache}: is no folder that can be written (Read-only file system)" in refused(tmp_path)
    (cache / "resized").mkdir()
    look(folders(tmp_path))

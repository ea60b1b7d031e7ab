"""One look at the environment before anything starts.

It takes a second where all is well, imports neither torch nor Ray nor MLflow, and tells all that stands in the way at
once, each with its remedy.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lchp.data.files import unwritable
from lchp.errors import Refusal, refusing
from lchp.store.shared import require_store
from lchp.store.shared import resolved as shared_uri
from lchp.tracking.address import ARTIFACTS, obstacles, resolved, sqlite_file
from lchp.training.environment import cuda_devices

_SPACE = 200 << 20
"""Bytes that must be free in every folder where something is trained: less holds no initialization's checkpoint."""
_SOCKET = 107
"""Bytes that the path of a socket may have on Linux."""
_SESSION = len("/lchp-tmp-12345678/session_2026-11-25_20-54-27_179841_4194304/sockets/plasma_store")
"""Bytes of the longest path of a socket below Ray's temporary folder."""
_CONNECT_SECONDS = 5.0


@contextmanager
def fit(
    folders: Mapping[str, Path],
    device: str = "auto",
    *,
    trains: bool = True,
    tracked: bool = False,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    in_ray: bool = False,
    gpus: float = 0,
    store: str | None = None,
) -> Iterator[None]:
    """See that a command can do what it is about to do in the block.

    If it cannot, or the block fails, folders that were made for it and hold nothing are removed again.

    Args:
        folders: the folders that it writes, by the option that names them; they are made where they are missing. A
            cache may be read-only where it is filled.
        device: as of ``--device``.
        trains: whether it trains, for which much room is needed; what else is written is told of when a disk is full.
        tracked: whether it writes runs, into ``experiment`` (None where it is not known yet) of the store at
            ``tracking_uri`` (None as for :func:`lchp.tracking.address.resolved`).
        in_ray: whether it trains under Ray.
        gpus: how many GPUs one of its trials takes where it trains on them.
        store: the URI of a store that machines share.

    Raises:
        Refusal: something stands in the way; one line for each thing, with its remedy.
    """
    folders = {option: folder for option, folder in folders.items() if not _serves_unwritten(option, folder)}
    written: dict[str, Path] = dict(folders)
    with refusing():
        runs = resolved(tracking_uri, Path.cwd()) if tracked else None
    database = sqlite_file(runs) if runs else None
    if database is not None:
        written["--tracking-uri"] = database.parent
    artifacts = [database.parent / ARTIFACTS / (experiment or "")] if database else []
    with _leaving_no_folder([*written.values(), *artifacts]):
        with refusing():
            told = [
                *_about_folders(folders),
                *(obstacles(runs, experiment) if runs else ()),
                *(_about_space(written) if trains else ()),
                *_about_device(device, in_ray),
                *_about_gpus(device, gpus),
                *_about_temporary(),
                *(_about_ray() if in_ray else ()),
                *(_about_store(store) if store else ()),
            ]
        if told:
            raise Refusal(told[0] if len(told) == 1 else "\n  ".join([f"{len(told)} things stand in the way:", *told]))
        yield


@contextmanager
def _leaving_no_folder(folders: Iterable[Path]) -> Iterator[None]:
    """Remove again, if the block fails, which of the folders and those around them it made and nothing lies in."""
    around = {path for folder in folders for path in (folder.absolute(), *folder.absolute().parents)}
    missing = [path for path in around if not os.path.lexists(path)]
    try:
        yield
    except Exception:
        for path in sorted(missing, key=lambda path: -len(path.parts)):
            with suppress(OSError):
                path.rmdir()
        raise


def cluster_address() -> str | None:
    """The Ray cluster that somebody has started, as ``--address`` or RAY_ADDRESS gives it; None for one of our own."""
    address = os.environ.get("RAY_ADDRESS")
    return address if address and address != "local" else None


def short_folder() -> Path:
    """A folder for Ray's session whose sockets' paths are short enough and plain, as Ray wants them: RAY_TMPDIR alone,
    which may hold spaces, where that is set.

    Raises:
        Refusal: there is none.
    """
    reasons = []
    for folder in _tried():
        name, length = str(folder), len(os.fsencode(folder))
        if length > _SOCKET - _SESSION:
            reason: str | None = f"{length} bytes, {_SOCKET - _SESSION} at most"
        elif not (name.isascii() if os.environ.get("RAY_TMPDIR") else shlex.quote(name) == name):
            reason = "holds spaces, or letters that are not plain ASCII"
        else:
            reason = unwritable(folder)
        if reason is None:
            return folder
        reasons.append(f"{folder}: {reason}")
    raise Refusal(
        f"Ray needs a temporary folder with a short, plain path that can be written ({'; '.join(reasons)}): "
        "set RAY_TMPDIR to one"
    )


def _tried() -> dict[Path, None]:
    asked = os.environ.get("RAY_TMPDIR")
    tried = [asked] if asked else [os.environ.get("TMPDIR"), "/tmp", "/dev/shm", os.environ.get("XDG_RUNTIME_DIR")]
    return dict.fromkeys(Path(name).absolute() for name in tried if name)


def temporary_folders() -> list[Path]:
    """Where this command, started earlier, may have made scratch folders: one that is full by now, or was full then,
    is passed over when it makes some.
    """
    return [*dict.fromkeys([Path(tempfile.gettempdir()), Path("/tmp"), *_tried()])]


def _serves_unwritten(option: str, folder: Path) -> bool:
    """Whether a folder is a cache that cannot be written and holds something: what lies there is used as it is, and
    what is missing is refused by who would make it (``lchp.data.once``), before anything trains.
    """
    return option == "--cache" and folder.is_dir() and any(folder.iterdir()) and unwritable(folder) is not None


def _about_folders(folders: Mapping[str, Path]) -> Iterator[str]:
    for option, folder in folders.items():
        reason = unwritable(folder)
        if reason:
            yield f"{option} {folder}: is no folder that can be written ({reason}): give another with {option} DIR"


def _about_space(folders: Mapping[str, Path]) -> Iterator[str]:
    """One line for each nearly full file system."""
    seen = set()
    for option, folder in folders.items():
        if not folder.is_dir() or folder.stat().st_dev in seen:
            continue
        seen.add(folder.stat().st_dev)
        usage = shutil.disk_usage(folder)
        # Some network file systems tell no size at all.
        if usage.total and usage.free < _SPACE:
            yield (
                f"{option} {folder}: {usage.free >> 20} MB are free on its file system, a study wants at least "
                f"{_SPACE >> 20} MB: make room, or give another with {option}"
            )


def _about_device(device: str, in_ray: bool) -> Iterator[str]:
    # The workers of somebody's cluster have devices of their own.
    if device == "cuda" and not (in_ray and cluster_address()) and cuda_devices() == 0:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES = {hidden!r})"
        yield f"--device cuda: this machine has no usable CUDA device{shown}: use --device cpu"


def _about_gpus(device: str, gpus: float) -> Iterator[str]:
    # Without any device trials take none: --device auto is the CPU then, and --device cuda is refused.
    there = cuda_devices() if gpus > 1 and device != "cpu" and not cluster_address() else None
    if there and gpus > there:
        yield too_few("gpu", gpus, there)


def too_few(resource: str, wanted: float, there: float) -> str:
    """What a study is told whose trials take more of a resource, ``cpu`` or ``gpu``, than there is."""
    remedy = f"lower it with --set resources.{resource}s=..." + (", or --device cpu" if resource == "gpu" else "")
    return f"resources.{resource}s = {wanted:g}: the machine has {there:g}: {remedy}"


def _about_temporary() -> Iterator[str]:
    try:
        tempfile.gettempdir()
    except OSError as error:
        yield f"no temporary folder can be written ({error.strerror or error}): set TMPDIR to one"


def _about_ray() -> Iterator[str]:
    address = cluster_address()
    if address is None:
        try:
            short_folder()
        except Refusal as error:
            yield str(error)
    elif address != "auto":
        reason = _unreachable(address.partition("://")[2] or address)
        if reason:
            yield (
                f"Ray cluster {address}: {reason}: start one with `ray start --head` and give its HOST:PORT, or leave "
                "--address and RAY_ADDRESS out for a cluster of this study's own"
            )


def _about_store(uri: str) -> Iterator[str]:
    try:
        require_store(shared_uri(uri))
    except ValueError as error:
        yield str(error)


def _unreachable(address: str) -> str | None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        return "is no HOST:PORT"
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        return f"cannot be reached ({error.strerror or error})"
    return None

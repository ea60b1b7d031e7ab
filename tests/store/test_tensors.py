from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from lchp.store.checks import Damaged
from lchp.store.tensors import load_tensors, save_tensors


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_save_tensors_gives_back_bits_types_and_layouts(tmp_path: Path) -> None:
    last = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    payload = {"state": {"last": last, "half": torch.ones(2).bfloat16(), "epoch": 3}, "text": "[]", "rng": [1, 0.1]}
    save_tensors(tmp_path / "checkpoint.pt", payload)
    found = load_tensors(tmp_path / "checkpoint.pt")
    assert torch.equal(found["state"]["last"], last)
    assert found["state"]["last"].is_contiguous(memory_format=torch.channels_last)
    assert found["state"]["half"].dtype == torch.bfloat16
    assert (found["state"]["epoch"], found["text"], found["rng"]) == (3, "[]", [1, 0.1])
    assert names(tmp_path) == ["checkpoint.pt"]


def test_save_tensors_interrupted_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_tensors(path, {"epoch": 1})

    def dying(part: Path, data: bytes) -> None:
        with part.open("wb") as file:
            file.write(data[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", dying)
    with pytest.raises(KeyboardInterrupt):
        save_tensors(path, {"epoch": 2})
    assert load_tensors(path) == {"epoch": 1}
    assert names(tmp_path) == ["checkpoint.pt"]


def test_save_tensors_without_room_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_tensors(tmp_path / "checkpoint.pt", {"weights": torch.randn(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "missing", "pickled", "flipped"])
def test_load_tensors_of_a_damaged_file_is_refused_with_the_remedy(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_tensors(path, {"weights": torch.randn(1000)})
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "pickled":
        torch.save({"path": tmp_path}, path)
    elif damage == "flipped":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"this is no checkpoint", "empty": b""}[damage])
    fault = r"is not what was written \(the checksum" if damage == "flipped" else r"cannot be read \(\w"
    with pytest.raises(Damaged, match=rf"checkpoint\.pt {fault}.*: run the study again") as caught:
        load_tensors(path)
    assert "weights_only" not in str(caught.value)

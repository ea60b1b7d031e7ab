"""Which files images are, told by lengths and times: against the text that names all of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lchp.data import identities
from lchp.data.identities import identity_of, states_of
from lchp.data.records import ImageRecord, Records


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_identity_is_that_of_every_path_and_state_in_their_order(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "_CHUNK", chunk)
    names = [f"{number}.png" for number in range(7)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes(number))
    records = Records.of(ImageRecord(name, 0) for name in names)
    states = states_of(tmp_path, records)
    text = ""
    for name, state in zip(names, states.tolist(), strict=True):
        status = (tmp_path / name).stat()
        assert state == [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        text += f"{name}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"
    assert identity_of(records, states) == hashlib.sha256(text.encode()).hexdigest()
    assert identity_of(records[::2], states[::2]) != identity_of(records, states)


def test_states_of_a_missing_image_name_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"0\.png: the image cannot be read \(No such file .*put it back"):
        states_of(tmp_path, Records.of([ImageRecord("0.png", 0)]))

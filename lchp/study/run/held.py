"""What a study's folder says that it holds, in a file that tells of a change."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lchp.data.files import read_json, write_text
from lchp.data.fingerprint import fingerprint
from lchp.errors import Refusal, refusing
from lchp.store.study_folder import SEARCH_KEY, StudyFolder
from lchp.study.run.cards import OWN, Cards
from lchp.study.spec.load import Study

_SEAL = "fingerprint"
"""The field of study.json that tells of a changed one."""


@dataclass(frozen=True)
class Held:
    """What a study's folder says that it holds."""

    identity: dict[str, Any]
    data: dict[str, str]
    run: str
    search_key: str | None
    current: bool
    """Whether this version wrote it: older ones neither sealed it nor gave a search its key."""

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that the study varied."""
        search, configurations = self.identity.get("search"), self.identity.get("configurations")
        return tuple((search or {}).get("space") or (configurations or [{}])[0])


def held_by(folder: Path) -> Held | None:
    """What a study's folder holds; None where the study was never run.

    Raises:
        Refusal: the file is damaged, or another's.
    """
    file = StudyFolder(folder).configuration
    if not file.exists():
        return None
    remedy = "delete it, and run the study again"
    with refusing():
        plain = read_json(file, remedy)
    if not isinstance(plain, dict):
        raise Refusal(f"{file} is not what a study writes there, it holds no object: {remedy}")
    seal = plain.pop(_SEAL, None)
    with refusing():
        if seal is not None and seal != fingerprint(plain):
            raise ValueError(f"{file} is not what was written there (its {_SEAL} differs): {remedy}")
    data, run, key = plain.pop("data", None), plain.pop("run", None), plain.pop(SEARCH_KEY, None)
    current = seal is not None and (key is not None or not plain.get("search"))
    if not isinstance(run, str):
        # Version 0.2 named the run by the identity, which did not change; a card beside it knows better.
        run = Cards(folder).own_key() or f"{OWN}{fingerprint(plain)}"
    return Held(plain, data if isinstance(data, dict) else {}, run, key, current)


def write_held(study: Study, folder: Path, data: Mapping[str, str], run: str, search_key: str | None) -> None:
    """Write what a study's folder holds: its identity, its data, the key of its run and, of a search, the key by which
    databases know it; none is made twice.

    Raises:
        OSError: as :func:`lchp.data.files.replacing`.
    """
    search = {SEARCH_KEY: search_key or uuid.uuid4().hex} if study.search else {}
    plain = json.loads(json.dumps({**study.identity(), "data": data, "run": run, **search}))
    write_text(StudyFolder(folder).configuration, json.dumps({**plain, _SEAL: fingerprint(plain)}, indent=1))

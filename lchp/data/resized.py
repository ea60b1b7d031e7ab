"""The file of a split's resized images in the cache: where it lies and what it holds, told without torch, which a study
whose images are there need not import for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ResizedFile:
    """The images that ``identity`` names (``lchp.data.identities.identity_of``), ``count`` of them below ``root``, as
    uint8 (count, 3, size, size) in one file of the folder ``cache``, unless they take more than ``budget`` bytes.
    """

    root: Path
    count: int
    size: int
    cache: Path
    budget: int
    identity: str

    @property
    def path(self) -> Path:
        """Its name holds all that it depends on."""
        depends = f"{self.root.resolve()}\n{self.size}\n{self.identity}"
        key = hashlib.sha256(depends.encode(errors="surrogateescape")).hexdigest()[:32]
        return self.cache / "resized" / f"{key}.u8"

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return self.count * 3 * self.size * self.size

    @property
    def is_used(self) -> bool:
        """Whether the images are few enough for it, and any."""
        return 0 < self.nbytes <= self.budget

    def fault(self, file: Path) -> str | None:
        """What is wrong with the file that is there, in a few words."""
        found = file.stat().st_size
        return None if found == self.nbytes else f"{found:,} bytes of {self.nbytes:,}"

    @property
    def is_there(self) -> bool:
        """Whether it is there, whole."""
        return self.path.exists() and self.fault(self.path) is None

"""What finished trainings have left for longer ones: everything that the next epoch depends on, by finished epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lchp.data.files import set_aside
from lchp.store.checks import Damaged
from lchp.store.shared import SharedFolder
from lchp.store.tensors import load_tensors


@dataclass(frozen=True)
class Milestones:
    """The last checkpoints of trainings that are alike but for their length, one file for each number of epochs."""

    path: Path
    shared: SharedFolder | None = None
    """Where other machines leave and find theirs."""

    def after(self, epochs: int) -> Path:
        """Where the last checkpoint of a training lies that was finished after so many epochs."""
        return self.path / f"{epochs}.pt"

    def longest(self, epochs: int, say: Callable[[str], None]) -> dict[str, Any] | None:
        """The checkpoint after the most epochs, of ``epochs`` at most, on the CPU; None where there is none. A damaged
        one is told of and set aside.
        """
        self._bring(epochs, say)
        lengths = sorted(int(file.stem) for file in self.path.glob("*.pt") if file.stem.isdecimal())
        for length in reversed([length for length in lengths if length <= epochs]):
            try:
                return load_tensors(self.after(length))
            except Damaged as damage:
                # Another training may have found it damaged at the same time, or somebody has removed it.
                if not self.after(length).exists():
                    continue
                aside = set_aside(self.after(length)).name
                say(f"{self.path}: {damage.fault}: set aside as {aside}, what it spared is trained again")
        return None

    def leave(self, epochs: int) -> None:
        """Let other machines go on from the end of the training that was finished here after so many epochs.

        Raises:
            StoreAway: the shared store does not take it.
        """
        if self.shared is not None and self.after(epochs).exists():
            self.shared.leave(self.path, f"{epochs}.json", [self.after(epochs).name])

    def offer(self, epochs: int) -> None:
        """As :meth:`leave`, of a training that may have been finished before machines shared a store."""
        if self.shared is not None and self.after(epochs).exists() and not self.shared.has(f"{epochs}.json"):
            self.leave(epochs)

    def _bring(self, epochs: int, say: Callable[[str], None]) -> None:
        """The longest that other machines have left, if it is longer than what is here."""
        if self.shared is None:
            return
        there = (name.removesuffix(".json") for name in self.shared.names() if name.endswith(".json"))
        lengths = [int(length) for length in there if length.isdecimal() and int(length) <= epochs]
        for length in sorted(lengths, reverse=True):
            if self.after(length).exists() or self.shared.bring(self.path, f"{length}.json", say, with_pointer=False):
                return

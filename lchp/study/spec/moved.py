"""Where the files of a run that is repeated lie now: all that may be set of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lchp.data.fingerprint import flatten
from lchp.errors import Refusal
from lchp.study.spec.parse import Location
from lchp.study.spec.source import options
from lchp.training.given_paths import DATA_PATH, PATHS


@dataclass(frozen=True)
class Moved:
    """Absolute paths by dotted key, and the options that gave them."""

    paths: dict[str, Path]
    places: dict[Location, str]


def moved_paths(sets: Sequence[str], data: Path | None) -> Moved:
    """What ``--set KEY=PATH`` and ``--data`` say; ``--data`` wins.

    Raises:
        Refusal: an option for anything but a path; names it.
    """
    source = options(sets)
    if data is not None:
        source = source.put(tuple(DATA_PATH.split(".")), str(data), f"--data {data}")
    paths = {}
    for key, value in flatten(source.values).items():
        place = source.place(tuple(key.split(".")))
        if not any(key == path or key.startswith(f"{path}.") for path in PATHS):
            raise Refusal(f"{place}: a run is repeated as it was: only {', '.join(PATHS)} may be set")
        if key not in PATHS or not isinstance(value, str) or not value:
            raise Refusal(f"{place}: must be a path: write it as KEY=PATH, a number in quotes")
        paths[key] = Path(value).absolute()
    return Moved(paths, source.places)

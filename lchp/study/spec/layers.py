"""What is laid over what: ``--data`` over ``--set`` over the file over its preset; and which of them set a key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from lchp.data.files import read_json
from lchp.data.kinds import KINDS
from lchp.errors import Refusal
from lchp.store.study_folder import StudyFolder
from lchp.study.spec.complaints import TRUTH, unknown_key
from lchp.study.spec.parse import Location, shortened
from lchp.study.spec.source import Source, options
from lchp.training.config import Precision, TrialConfig
from lchp.training.environment import automatic_precision
from lchp.training.presets import PRESETS

PRECISION = ("compute", "precision")


@dataclass(frozen=True)
class Layers:
    """The layers of a configuration, the uppermost first."""

    options: Source
    file: Source
    preset: Source

    @property
    def laid(self) -> Source:
        """All of them, laid over one another; only what a person wrote has places."""
        source = self.options.over(self.file)
        return Source(source.over(self.preset).values, source.places, self.file.whole)

    def origin(self, location: Location, value: Any) -> str | None:
        """Who set the key at ``location``, which has the plain ``value``: an option, a line of the file, the preset;
        None where nobody did.
        """
        for layer in (self.options, self.file, self.preset):
            if _sets(layer.values, location, value):
                return layer.whole if layer is self.preset else layer.place(location)
        return None


def _sets(values: Any, location: Location, value: Any) -> bool:
    if location[0] == "dataset" and isinstance(values.get("dataset"), str):
        values = {"dataset": {"kind": values["dataset"]}}
    for part in location:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    # What a layer says of another kind of dataset than the one that is laid over it counts no more.
    return location[0] != "dataset" or values == value


def layers(
    file: Source, sets: Sequence[str], data: Path | None, device: str = "auto", output: Path | None = None
) -> Layers:
    """The layers of a file's values. An option that gives ``vary`` as a whole replaces the file's; the precision
    ``auto`` becomes what it was for the study of this name that was begun in ``output``, else what it is for
    ``device`` (``cpu``, ``cuda`` or ``auto``) on this machine.

    Raises:
        Refusal: an option that is none, or an unknown preset.
    """
    given = options(sets)
    if ("vary",) in given.places:
        kept = {at: place for at, place in file.places.items() if at[0] != "vary"}
        file = Source({key: value for key, value in file.values.items() if key != "vary"}, kept, file.whole)
    elif "vary" in given.values and isinstance(file.values.get("vary"), list):
        place = next(place for at, place in given.places.items() if at[0] == "vary")
        raise Refusal(
            f"{place}: `vary` is a list of grids ({file.place(('vary',))}): give it as a whole: "
            "--set 'vary={delta: [...]}'"
        )
    found = _with_precision(Layers(given, file, _preset(given.over(file))), device, output)
    return found if data is None else _with_data(found, data)


def _with_precision(found: Layers, device: str, output: Path | None) -> Layers:
    """A precision decides results: trials are what it is here, and no ``auto`` is ever stored. A study that was begun
    keeps what it became, whoever asks for it, and where.
    """
    compute = found.laid.values.get("compute")
    if not isinstance(compute, Mapping) or compute.get(PRECISION[1]) != "auto":
        return found
    origin, begun = found.origin(PRECISION, "auto"), _begun(found.laid.values.get("name"), output)
    settled = automatic_precision(device) if begun is None else begun
    place = f"{origin}, auto {'on this machine' if begun is None else 'when the study was begun'}"
    return Layers(found.options.put(PRECISION, settled, place), found.file, found.preset)


def _begun(name: Any, output: Path | None) -> str | None:
    """The precision of the study of that name in ``output``; None where there is none that says it."""
    if output is None or not isinstance(name, str):
        return None
    try:
        held = read_json(StudyFolder(output / name).configuration, "")["base"]["compute"]["precision"]
    except (ValueError, OSError, LookupError, TypeError):
        return None
    return held if held in get_args(Precision) else None


def _preset(source: Source) -> Source:
    """The values of the preset that ``source`` names."""
    preset = source.values.get("preset")
    if preset is None:
        return Source({}, {}, source.whole)
    if isinstance(preset, str) and preset in PRESETS:
        return Source(PRESETS[preset], {}, f"preset {preset}")
    shown = shortened(preset if isinstance(preset, str) else json.dumps(preset))
    hint = unknown_key(str(preset), tuple(PRESETS)).replace("unknown key", "unknown preset")
    hint += f"; {TRUTH}" if isinstance(preset, bool) else ""
    raise Refusal(f"{source.place(('preset',))}: preset = {shown}: {hint}")


def _with_data(found: Layers, data: Path) -> Layers:
    """The path of the data laid over all, whose dataset must be one that has files."""
    place = f"--data {data}"
    dataset = found.laid.values.get("dataset", {"kind": TrialConfig().dataset.kind})
    kind = KINDS.get(str(dataset.get("kind"))) if isinstance(dataset, dict) else None
    if kind is not None and kind.drawn:
        raise Refusal(f"{place}: the {kind.name} dataset is drawn: leave the option out, or set dataset.kind")
    return Layers(found.options.put(("dataset", "path"), str(data), place), found.file, found.preset)

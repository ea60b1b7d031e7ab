"""A field that a later version might add to the configuration of refinement, in memory alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydantic.fields import FieldInfo

from lchp.training.config import TrialConfig
from lchp.training.identity import ADDED, Added
from lchp.training.stage_config import RefinementConfig

KEY = "refinement.patience"
DEFAULT = 7


@contextmanager
def added_field(*, in_the_table: bool = True) -> Iterator[None]:
    """``refinement.patience``, with its line in the table of added fields, or, as a mistake, without."""
    name = KEY.rpartition(".")[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RefinementConfig.__annotations__, name, int)
        patch.setitem(RefinementConfig.__pydantic_fields__, name, FieldInfo(annotation=int, default=DEFAULT))
        if in_the_table:
            patch.setitem(ADDED, KEY, Added("0.9", DEFAULT))
        _rebuild()
        try:
            yield
        finally:
            patch.undo()
            _rebuild()


def _rebuild() -> None:
    for model in (RefinementConfig, TrialConfig):
        model.model_rebuild(force=True)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from lchp.training.config import TrialConfig
from lchp.training.given_paths import PATHS, paths_of, with_paths
from lchp.training.identity import trial_form

from .tiny import tiny


def _path_fields(annotation: Any, key: str = "") -> Iterator[str]:
    """The dotted keys below a field's type at which a path may stand."""
    if annotation is Path:
        yield key
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from _path_fields(field.annotation, f"{key}.{name}" if key else name)
    for inner in get_args(annotation):
        yield from _path_fields(inner, key)


def test_paths_are_all_fields_of_a_trial_that_are_paths() -> None:
    assert set(_path_fields(TrialConfig)) == PATHS.keys()


def test_paths_of_are_those_that_a_config_has_and_may_be_others() -> None:
    weights = {"classifier": {"file": "w.pth"}, "regressor": "none"}
    one = tiny(dataset={"kind": "cub"}, weights=weights)
    assert {key: path for key, path in paths_of(one).items() if path} == {"weights.classifier.file": Path("w.pth")}
    assert "dataset.path" in paths_of(one)
    assert "dataset.path" not in paths_of(tiny())
    other = with_paths(one, {"dataset.path": Path("birds"), "weights.classifier.file": Path("v.pth")})
    found = paths_of(other)
    assert (found["dataset.path"], found["weights.classifier.file"]) == (Path("birds"), Path("v.pth"))
    assert trial_form(other) == trial_form(one)
    assert "pth" not in str(trial_form(one))

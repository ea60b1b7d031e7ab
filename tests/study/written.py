"""Studies as a person writes them, whose trials would train in a second; torch and Ray are not imported."""

from __future__ import annotations

from pathlib import Path

from lchp.study.spec.load import Study, load_study

TINY = """
name: tiny
question: does a study of four trials train?
preset: quickstart
dataset: {kind: synthetic, train_per_class: 6, test_per_class: 2, size: 40}
view: {resize: 40, crop: 32}
split: {val_per_class: 1}
initialization: {epochs: 2, regressor_start: 0, batch_size: 16, attention_maps: 2}
refinement: {epochs: 2, batch_size: 16}
"""
GRID = TINY + "vary: {delta: [0.4, 0.5], tau: [0.0, 0.5]}\n"


def load(folder: Path, text: str, *sets: str) -> Study:
    """The study that a text writes."""
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(path, sets)

"""Ten steps of each stage, held against a second run and against losses of another day.

Where the method changes its numbers on purpose, write them anew: ``python -m tests.training.test_golden``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lchp.training.initialization import Initialization
from lchp.training.refinement import Refinement

from .drawn import CLASSES, batch, config_of

GOLDEN = Path(__file__).with_name("golden.json")
STEPS = 10
CASES: dict[str, dict[str, Any]] = {
    "paper": {},
    "centre and size, attention, frozen teacher": {
        "box_format": "centre_size",
        "pseudo_boxes": {"maps": "attention"},
        "refinement": {"teacher": "frozen"},
    },
}


def ten_steps(changes: dict[str, Any]) -> dict[str, list[list[float]]]:
    """What every step of both stages gives, the refinement after the initialization."""
    torch.set_num_threads(1)
    config = config_of(**changes)
    first = Initialization(config, CLASSES, "cpu")
    first.networks.classifier.train()
    first.networks.regressor.train()
    found = {"initialization": [first._step(*batch(step)).tolist() for step in range(STEPS)]}
    second = Refinement(config, first.networks, "cpu")
    second.classifier.eval()
    found["refinement"] = [second._step(*batch(100 + step)).tolist() for step in range(STEPS)]
    return found


@pytest.mark.parametrize("case", CASES)
def test_ten_steps_equal_a_second_run_exactly_and_the_golden_losses_within_1e_4(case: str) -> None:
    found, again = ten_steps(CASES[case]), ten_steps(CASES[case])
    assert found == again
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[case]
    for stage in ("initialization", "refinement"):
        np.testing.assert_allclose(found[stage], golden[stage], rtol=0, atol=1e-4)
        losses = np.array(found[stage])[:, 0]
        assert np.ptp(losses) > 1e-3, "the losses are not of a network that learns"


if __name__ == "__main__":
    text = json.dumps({case: ten_steps(changes) for case, changes in CASES.items()}, indent=1)
    GOLDEN.write_text(text + "\n", encoding="utf-8")

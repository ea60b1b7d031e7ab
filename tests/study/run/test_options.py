from __future__ import annotations

from lchp.study.run.options import epoch_line
from lchp.training.stages import EpochReport


def test_epoch_line_refinement_tells_how_many_boxes_are_above_tau() -> None:
    metrics = {"train/refinement/loss": 0.0, "train/refinement/selected": 0.0, "lchp_r/val/gt_known": 0.25}
    assert epoch_line(EpochReport("refinement", 2, 9, metrics, 1.25)) == (
        "refinement 2  loss 0.0000  selected 0.0%  val GT-Known LCHP-R 0.250  1.2 s"
    )


def test_epoch_line_reused_initialization_without_val_shows_its_loss() -> None:
    metrics = {"train/initialization/loss": 1.5}
    assert epoch_line(EpochReport("initialization", 1, 1, metrics, 3.0, reused=True)) == (
        "initialization 1  loss 1.5000  reused"
    )

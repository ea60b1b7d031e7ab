"""What judges a trial without true boxes."""

from __future__ import annotations

import pytest
import torch

from lchp.method.confidence import crop
from lchp.store.folder import StageFolder
from lchp.store.per_image import CORNERS
from lchp.training.box_free import agreement, crop_classification, objective, stored_objective
from lchp.training.config import TrialConfig
from lchp.training.evaluation import Evaluator
from lchp.training.initialization import trained_networks
from lchp.training.material import Material, Runtime


def rows(**boxes: tuple[float, float, float, float]) -> list[dict[str, str]]:
    """Rows of per_image.csv: boxes by method and image."""
    found = []
    for name, box in boxes.items():
        method, path, split = name.split("__")
        corners = dict(zip(CORNERS, map(str, box), strict=True))
        found.append({"path": path, "split": split, "method": method, **corners})
    return found


def test_agreement_is_the_mean_iou_over_val_images_that_have_both_boxes() -> None:
    given = rows(
        pseudo_label__a__val=(0, 0, 10, 10),
        lchp_r__a__val=(0, 0, 5, 10),
        pseudo_label__b__val=(0, 0, 4, 4),
        lchp_r__b__val=(6, 6, 8, 8),
        lchp_r__c__val=(0, 0, 1, 1),
        pseudo_label__a__test=(0, 0, 1, 1),
        lchp_r__a__test=(0, 0, 1, 1),
    )
    assert agreement(given, "lchp_r") == 0.25
    assert agreement(given, "lchp_i") is None


def test_agreement_of_boxes_without_area_is_nothing() -> None:
    assert agreement(rows(pseudo_label__a__val=(1, 1, 1, 1), lchp_r__a__val=(1, 1, 1, 1)), "lchp_r") == 0


def test_objective_of_a_finished_trial_is_read_or_measured(finished: TrialConfig, shared: Runtime) -> None:
    material = Material.prepare(finished, shared)
    folder = StageFolder(material.trial_folder(finished))
    assert objective("lchp_r/val/gt_known", finished, material) == folder.scores()["lchp_r/val/gt_known"]
    agreed = objective("lchp_r/val/agreement", finished, material)
    assert agreed == stored_objective("lchp_r/val/agreement", folder) == agreement(folder.per_image(), "lchp_r")
    assert stored_objective("lchp_r/val/crop_cls", folder) is None
    assert objective("lchp_r/val/crop_cls", finished, material) == crop_classification(finished, material, "lchp_r")


@pytest.mark.parametrize("method", ["lchp_i", "lchp_r"])
def test_crop_classification_counts_crops_that_get_their_label(
    finished: TrialConfig, shared: Runtime, method: str
) -> None:
    material = Material.prepare(finished, shared)
    assert material.val is not None
    first = StageFolder(material.initialization_folder(finished)).networks()
    networks = trained_networks(finished, 8, first)
    if method == "lchp_r":
        networks.regressor.load_state_dict(StageFolder(material.trial_folder(finished)).networks()["regressor"])
    evaluator, source = Evaluator(finished, "cpu", 0), material.val.source
    boxes = evaluator.views(source, evaluator.localizing(networks.regressor))
    views = evaluator.views(source, lambda views, *_: views.flatten(1)).unflatten(1, (3, 32, 32))
    with torch.inference_mode():
        classes = networks.judge(crop(views, boxes)).logits.argmax(1)
    expected = float((classes == source.labels).float().mean())
    assert crop_classification(finished, material, method) == pytest.approx(expected)

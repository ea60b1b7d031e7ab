from __future__ import annotations

from lchp.tracking.shown import HEADLINE, shown_best, shown_metrics
from lchp.vocabulary import METRICS, SPLITS, VAL, Score, headline

SCORES = {
    Score(method, split, metric).key: 0.5
    for method in ("lchp_r", "whole_image")
    for split in SPLITS
    for metric in METRICS
}


def test_shown_metrics_of_final_scores_begin_with_the_headline_and_have_the_classification_once() -> None:
    shown = shown_metrics(SCORES)
    lead = [name for name in shown if name[0].isupper()]
    assert lead == [f"{title} test/LCHP-R" for title in ("GT-Known", "Top-1 Loc", "Top-5 Loc", "Mean IoU")]
    assert list(shown)[: len(lead)] == lead
    assert [name for name in shown if "cls" in name] == ["top1_cls/test", "top1_cls/val"]
    assert [name for name in shown if name.startswith("whole")] == [
        f"whole_image/{one}/gt_known" for one in SPLITS[::-1]
    ]
    assert not [name for name in shown if "box_acc" in name or "offset" in name]
    assert "lchp_r/val/mean_iou" in shown


def test_shown_metrics_of_an_epoch_of_a_search_are_series_of_its_headline() -> None:
    epoch = {"train/refinement/loss": 2.0, "lchp_r/val/box_acc_70": 0.25, "lchp_r/val/gt_known": 0.75}
    first = ("lchp_r/val/box_acc_70", *headline(VAL))
    assert list(shown_metrics(epoch, first).items()) == [
        ("Box accuracy at 0.7 val/LCHP-R", 0.25),
        ("GT-Known val/LCHP-R", 0.75),
        ("lchp_r/val/gt_known", 0.75),
        ("train/refinement/loss", 2.0),
    ]
    assert shown_metrics(epoch, HEADLINE).keys() == {"lchp_r/val/gt_known", "train/refinement/loss"}


def test_shown_best_is_of_gt_known_and_of_what_a_search_goes_by() -> None:
    best = {"lchp_r/val/gt_known": 0.5, "lchp_r/val/mean_iou": 0.4, "lchp_i/val/mean_iou": 0.3}
    assert shown_best(best) == {"best_lchp_r/val/gt_known": 0.5}
    assert shown_best(best, ("lchp_r/val/mean_iou",)).keys() == {"best_lchp_r/val/gt_known", "best_lchp_r/val/mean_iou"}

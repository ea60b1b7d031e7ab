from __future__ import annotations

from pathlib import Path

import pytest

from lchp.reporting.paper import PARAMETERS, load_paper

PAPER = Path(__file__).parents[2] / "analysis" / "paper"


@pytest.mark.parametrize("name", PARAMETERS)
def test_load_paper_every_shipped_table_is_read(name: str) -> None:
    table = load_paper(name, PAPER)
    assert table is not None
    assert table.reports("lchp_r", "gt_known")


@pytest.mark.parametrize(
    ("name", "value", "method", "metric", "number"),
    [
        ("table1_cub", None, "lchp_r", "top5_loc", 91.72),
        ("table1_cub", None, "pseudo_label", "gt_known", 72.44),
        ("table1_imagenet", None, "lchp_i", "top1_loc", 52.59),
        ("table2_tiny_imagenet", None, "lchp_r", "gt_known", 61.87),
        ("table2_tiny_imagenet", None, "lchp_r", "top5_loc", None),
        ("table3_delta", 0.6, "pseudo_label", "gt_known", 80.15),
        ("table3_delta", 0.65, "pseudo_label", "gt_known", None),
        ("table4_tau", 0.0, "lchp_r", "gt_known", "failed"),
        ("table4_tau", 0.9, "lchp_r", "gt_known", 94.36),
        ("table4_tau", 0.9, "selection", "selected", 1778.0),
        ("table4_tau", 0.5, "selection", "gt_known", 85.89),
        ("table5_backbone", "vgg19_bn", "lchp_i", "gt_known", 80.19),
        ("table5_backbone", "inception_v3", "lchp_r", "gt_known", 94.36),
        ("table6_augmentation", "scale+flip", "lchp_r", "gt_known", 93.02),
        ("table6_augmentation", "scale+translation+flip", "lchp_r", "gt_known", 94.36),
        ("table6_augmentation", "none", "lchp_r", "gt_known", None),
    ],
)
def test_load_paper_numbers_are_found_in_our_terms(
    name: str, value: object, method: str, metric: str, number: float | str | None
) -> None:
    table = load_paper(name, PAPER)
    assert table is not None
    assert table.number(value, method, metric) == number


def test_load_paper_cited_works_keep_backbone_and_gaps() -> None:
    table = load_paper("table1_cub", PAPER)
    assert table is not None
    assert table.cited["PSOL (DenseNet161)"] == {"top1_loc": 74.97, "top5_loc": 89.12, "gt_known": 92.54}
    assert table.cited["CAM (GoogLeNet-GAP)"] == {"gt_known": 41.0}
    assert not any(name.startswith(("LCHP", "Pseudo")) for name in table.cited)


def test_load_paper_missing_file_is_none(tmp_path: Path) -> None:
    assert load_paper("table3_delta", tmp_path) is None


def test_load_paper_unknown_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="paper = table7: the paper has no such table: choose one of table1_cub"):
        load_paper("table7", tmp_path)


def test_load_paper_changed_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table5_backbone.csv").write_text("backbone,lchp_i\nAlexNet,1.0\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"table5_backbone\.csv: not laid out.*AlexNet"):
        load_paper("table5_backbone", tmp_path)

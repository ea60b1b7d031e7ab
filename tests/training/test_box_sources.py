"""Where pseudo boxes come from: a fixed source's boxes are what is learned, and what Pseudo Label is measured by."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from lchp.method.pseudo_boxes import pseudo_boxes
from lchp.training import initialization
from lchp.training.box_sources import fixed_boxes
from lchp.training.config import TrialConfig
from lchp.training.initialization import Initialization, make_networks, stage_losses
from lchp.training.material import Material, Runtime
from lchp.training.trial import run_trial
from tests.data.layouts import draw_table

from .drawn import CLASSES, batch, config_of, views
from .tiny import folders, same_tensors, tiny

LABELS = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_table(tmp_path_factory.mktemp("own"), classes=2, train=5, test=2)


def from_file(table: Path, file: Path | None = None, **changes: Any) -> TrialConfig:
    """A tiny trial whose pseudo boxes are those of a file: the table's own true boxes, where no other is given."""
    boxes = {"source": "file", "file": file or table}
    return tiny(dataset={"kind": "table", "path": table}, pseudo_boxes=boxes, **changes)


def test_fixed_boxes_of_a_file_are_those_of_each_split_in_its_order(table: Path, runtime: Runtime) -> None:
    config = from_file(table)
    material = Material.prepare(config, runtime)
    found = fixed_boxes(config, material)
    assert found is not None
    with table.open(newline="", encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    for split in (material.train_split, *material.measured):
        boxes = found.of(split)
        assert boxes is not None
        for record, box in zip(split.source.records, boxes.tolist(), strict=True):
            row = rows[record.path]
            assert box == pytest.approx([float(row["x1"]) / 80, float(row["y1"]) / 64, float(row["x2"]) / 80,
                                         float(row["y2"]) / 64])  # fmt: skip
    assert fixed_boxes(tiny(dataset={"kind": "table", "path": table}), material) is None


def test_trial_from_the_true_boxes_has_pseudo_labels_that_all_hit(table: Path, runtime: Runtime) -> None:
    result = run_trial(from_file(table), runtime, lambda epoch: None)
    assert result.scores["pseudo_label/test/gt_known"] == result.scores["pseudo_label/val/mean_iou"] == 1
    assert result.scores["lchp_i/test/mean_iou"] < 1


def test_trial_whose_file_lacks_test_images_measures_no_pseudo_label_there(
    table: Path, tmp_path: Path, runtime: Runtime
) -> None:
    lines = table.read_text(encoding="utf-8").splitlines()
    file = tmp_path / "train.csv"
    file.write_text("\n".join(line for line in lines if ",test," not in line) + "\n", encoding="utf-8")
    result = run_trial(from_file(table, file), runtime, lambda epoch: None)
    assert "pseudo_label/test/gt_known" not in result.scores
    assert result.scores["pseudo_label/val/gt_known"] == 1
    assert "lchp_r/test/gt_known" in result.scores


def test_folders_depend_on_what_the_file_says_not_on_where_it_lies(
    table: Path, tmp_path: Path, runtime: Runtime
) -> None:
    copy = tmp_path / "copy.csv"
    copy.write_bytes(table.read_bytes())
    before = folders(from_file(table), runtime)
    assert folders(from_file(table, copy), runtime) == before
    copy.write_text(copy.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert not set(folders(from_file(table, copy), runtime)) & set(before)


def test_prepare_names_a_file_of_boxes_that_is_missing(table: Path, tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(ValueError, match=r"pseudo_boxes\.file .*none\.csv does not exist: correct the path, or choose"):
        Material.prepare(from_file(table, tmp_path / "none.csv"), runtime)


def test_config_with_source_file_needs_the_file() -> None:
    with pytest.raises(ValueError, match=r"pseudo_boxes\.source is file, but pseudo_boxes\.file names none"):
        tiny(pseudo_boxes={"source": "file"})


def test_stage_losses_with_fixed_boxes_regress_those_and_mask_the_same_region() -> None:
    config, images = config_of(), views(1)
    networks = make_networks(config, CLASSES)
    networks.classifier.train()
    given = torch.rand(8, 4, generator=torch.Generator().manual_seed(3))
    state = {name: value.clone() for name, value in networks.classifier.state_dict().items()}
    found = stage_losses(networks, images, LABELS, config, True, given)
    networks.classifier.load_state_dict(state)
    live = stage_losses(networks, images, LABELS, config, True)
    assert found[1] == live[1], "Eq. 1 does not depend on the source"
    expected = (networks.regressor(images) - given).square().sum(1).mean()
    torch.testing.assert_close(found[2], expected, rtol=1e-5, atol=1e-7)
    boxes = pseudo_boxes(lambda x: networks.momentum.maps(x, "features"), images, config.delta, "min_max").merged
    assert not torch.allclose(boxes, given)


def test_step_gives_every_view_the_part_of_its_own_images_box(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(view={"resize": 36, "crop": 32, "flip": 1.0})

    class Whole:
        train = torch.tensor([[0.0, 0.0, 0.5, 1.0]] * 7 + [[0.75, 0.25, 1.0, 0.5]])

    stage = Initialization(config, CLASSES, "cpu", Whole())  # type: ignore[arg-type]
    seen: list[torch.Tensor] = []

    def spied(*arguments: Any) -> torch.Tensor:
        seen.append(arguments[5])
        return stage_losses(*arguments)

    monkeypatch.setattr(initialization, "stage_losses", spied)
    images, labels, places = batch(0)
    stage._step(images, labels, places.flip(0))
    first = seen[0][0].tolist()
    # Mirrored, so that what was at the right is at the left, in a window of 32 of 36 pixels.
    assert first[2] - first[0] == pytest.approx(0.25 * 36 / 32, abs=0.13)
    assert first[0] < 0.15
    assert all(box[2] == 1 for box in seen[0][1:].tolist())


def test_fixed_source_continues_to_the_same_bits(table: Path, runtime: Runtime) -> None:
    config = from_file(table)
    material = Material.prepare(config, runtime)
    fixed = fixed_boxes(config, material)
    stages = [Initialization(config, 2, "cpu", fixed) for _ in range(2)]
    stages[0].train_epoch(material.train, 0)
    stages[1].load_state(stages[0].state())
    for stage in stages:
        stage.train_epoch(material.train, 0)
    assert same_tensors(
        dict(stages[0].networks.regressor.state_dict()), dict(stages[1].networks.regressor.state_dict())
    )

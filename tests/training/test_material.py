from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lchp.data import image_files, once
from lchp.data.columns import read_columns, write_columns
from lchp.data.config import SplitConfig, ViewConfig
from lchp.method.networks import make_classifier
from lchp.training.config import TrialConfig
from lchp.training.material import Material, Runtime
from lchp.training.stages import EpochReport
from lchp.training.trial import run_trial

from ..data.layouts import draw_table
from .tiny import folders, tiny


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A drawn dataset of PNG images with a table of boxes."""
    return draw_table(tmp_path / "data")


def of(table: Path, weights: Path | None = None) -> TrialConfig:
    """The tiny trial on a table, its classifier's weights from a file."""
    source = {"classifier": {"file": weights} if weights else "none"}
    return tiny(dataset={"kind": "table", "path": table}, weights=source)


def save_weights(file: Path, seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(make_classifier("small_cnn", 2, 2, 10.0, seed).trunk.state_dict(), file)
    return file


def test_folders_of_moved_data_and_weights_are_the_same(table: Path, tmp_path: Path, runtime: Runtime) -> None:
    weights = save_weights(tmp_path / "weights.pth")
    before = folders(of(table, weights), runtime)
    moved = Path(shutil.move(table.parent, tmp_path / "elsewhere")) / table.name
    (tmp_path / "other").mkdir()
    weights = Path(shutil.move(weights, tmp_path / "other/renamed.pth"))
    assert folders(of(moved, weights), runtime) == before


def test_folders_of_a_changed_image_box_or_weight_are_others(table: Path, tmp_path: Path, runtime: Runtime) -> None:
    weights = save_weights(tmp_path / "weights.pth")
    seen = [folders(of(table, weights), runtime)]
    picture = table.parent / "pictures/0_train_0.png"
    with Image.open(picture) as image:
        changed = image.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    changed.save(picture)
    seen.append(folders(of(table, weights), runtime))
    lines = table.read_text(encoding="utf-8").splitlines()
    *others, x2, y2 = lines[1].split(",")
    lines[1] = ",".join([*others, str(int(x2) - 1), y2])
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    seen.append(folders(of(table, weights), runtime))
    save_weights(weights, seed=1)
    seen.append(folders(of(table, weights), runtime))
    assert len({first for first, _ in seen}) == len({second for _, second in seen}) == 4


def test_folders_of_an_untouched_set_do_not_depend_on_times_or_runtime(
    table: Path, tmp_path: Path, runtime: Runtime
) -> None:
    before = folders(of(table), runtime)
    for picture in table.parent.glob("pictures/*"):
        os.utime(picture, (1, 1))
    elsewhere = Runtime(runtime.store, tmp_path / "cache", device="cuda:7", loader_workers=3, cache_bytes=0)
    assert folders(of(table), elsewhere) == before


def test_splits_are_disjoint_and_train_alone_is_a_source_without_boxes(table: Path, runtime: Runtime) -> None:
    material = Material.prepare(of(table), runtime)
    assert material.val is not None
    paths = [
        {record.path for record in source.records}
        for source in (material.train, material.val.source, material.test.source)
    ]
    assert [len(found) for found in paths] == [6, 2, 6]
    assert len(set.union(*paths)) == 14
    assert not hasattr(material.train, "true_boxes")
    assert material.train_split.source is material.train
    assert [split.name for split in material.measured] == ["val", "test"]


def test_splits_without_val_measure_test_alone(table: Path, runtime: Runtime) -> None:
    config = tiny(dataset={"kind": "table", "path": table}, split={"val_per_class": 0})
    material = Material.prepare(config, runtime)
    assert material.val is None
    assert [split.name for split in material.measured] == ["test"]
    assert len(material.train) == 8


def test_prepare_names_weights_that_are_missing(table: Path, tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(ValueError, match=r"weights\.classifier\.file .*missing\.pth does not exist: correct the path"):
        Material.prepare(of(table, tmp_path / "missing.pth"), runtime)


def test_prepare_names_weights_of_another_hash(table: Path, tmp_path: Path, runtime: Runtime) -> None:
    source = {"file": save_weights(tmp_path / "weights.pth"), "sha256": "0" * 64}
    config = tiny(dataset={"kind": "table", "path": table}, weights={"classifier": source})
    with pytest.raises(
        ValueError, match=r"weights\.pth hashes to [0-9a-f]{64}, not to weights\.classifier\.sha256 000"
    ):
        Material.prepare(config, runtime)


def test_prepare_names_data_that_is_missing(tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(ValueError, match=r"dataset table: .*missing\.csv does not exist. Give --data PATH"):
        Material.prepare(of(tmp_path / "missing.csv"), runtime)


def test_serving_another_configuration_reads_nothing_and_has_the_folders_of_a_fresh_one(
    table: Path, runtime: Runtime
) -> None:
    material = Material.prepare(of(table), runtime)
    other = of(table).model_copy(update={"delta": 0.1, "view": ViewConfig(resize=40, crop=32)})
    expected = folders(other, runtime)
    shutil.move(table.parent, table.parent.with_name("elsewhere"))
    served = material.serving(other, runtime)
    assert (served.initialization_folder(other), served.trial_folder(other)) == expected
    assert served.config.view == other.view
    assert material.serving(of(table).model_copy(update={"tau": 0.1}), runtime) is material


@pytest.mark.parametrize("name", ["dataset", "split", "weights", "runtime"])
def test_serving_other_data_is_a_mistake_of_the_caller(name: str, table: Path, runtime: Runtime) -> None:
    material = Material.prepare(of(table), runtime)
    if name == "runtime":
        with pytest.raises(AssertionError, match="one runtime"):
            material.serving(of(table), replace(runtime, cache=runtime.store))
        return
    others = {"dataset": of(table.parent / "other.csv").dataset, "split": SplitConfig(seed=1)}
    others["weights"] = of(table, table.parent / "weights.pth").weights
    with pytest.raises(AssertionError, match="another dataset, split or weights"):
        material.serving(of(table).model_copy(update={name: others[name]}), runtime)


def test_a_changed_file_is_seen_between_two_trials_of_one_process(table: Path, runtime: Runtime) -> None:
    first = Material.prepare(of(table), runtime).trial_folder(of(table))
    shutil.copy(table.parent / "pictures/0_train_1.png", table.parent / "pictures/0_train_0.png")
    assert Material.prepare(of(table), runtime).trial_folder(of(table)) != first


def test_prepare_carries_what_is_found_in_the_data(table: Path, runtime: Runtime) -> None:
    shutil.copy(table.parent / "pictures/0_train_1.png", table.parent / "pictures/0_test_1.png")
    lines = table.read_text(encoding="utf-8").splitlines()
    kept = [line if "0_test_0" not in line else ",".join([*line.split(",")[:3], "", "", "", ""]) for line in lines]
    table.write_text("\n".join(kept) + "\n", encoding="utf-8")
    missing, repeated = Material.prepare(of(table), runtime).data.findings
    assert missing == "test: 1 of 6 images have no true box"
    assert repeated.startswith("one image in several splits: pictures/0_train_1.png (")


def test_prepare_of_sound_data_has_no_findings(table: Path, runtime: Runtime) -> None:
    assert Material.prepare(of(table), runtime).data.findings == ()


def test_prepare_refuses_boxes_as_fractions(table: Path, runtime: Runtime) -> None:
    first, *rows = (line.split(",") for line in table.read_text(encoding="utf-8").splitlines())
    rows = [[*row[:3], *(str(int(cell) / 100) for cell in row[3:])] for row in rows]
    table.write_text("\n".join(",".join(row) for row in [first, *rows]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"look like fractions of the image: .*table\.csv, line \d+: .*multiply x by"):
        Material.prepare(of(table), runtime)


def spoil(image: Path) -> None:
    """Leaves two thirds of an image's file, its header among them."""
    image.write_bytes(image.read_bytes()[: image.stat().st_size * 2 // 3])


def test_prepare_the_second_time_reads_no_image(table: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Material.prepare(of(table), runtime)
    monkeypatch.setattr(image_files, "_read", lambda file: pytest.fail(f"{file} is read again"))
    monkeypatch.setattr(Image, "open", lambda file: pytest.fail(f"{file} is opened again"))
    second = Material.prepare(of(table), runtime)
    assert np.array_equal(second.data.opened.headers, first.data.opened.headers)
    assert second.digest.total == first.digest.total


def test_sizes_are_those_of_the_images_of_each_split(table: Path, runtime: Runtime) -> None:
    material = Material.prepare(of(table), runtime)
    assert material.val is not None
    for split in (material.train_split, material.val, material.test):
        assert len(split.sizes) == len(split.source)
        for path, size in zip(split.source.records.paths, split.sizes.tolist(), strict=True):
            with Image.open(table.parent / path) as image:
                assert tuple(size) == image.size


def test_prepare_names_an_image_without_a_header(table: Path, runtime: Runtime) -> None:
    (table.parent / "pictures/0_train_0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"0_train_0\.png: this is no image that is known: replace or remove it"):
        Material.prepare(of(table), runtime)


def test_prepare_from_a_filled_cache_writes_nothing(
    table: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    Material.prepare(of(table), runtime).open_images()
    monkeypatch.setattr(once, "_locked", lambda target: pytest.fail(f"{target} is locked"))
    monkeypatch.setattr(image_files, "write_columns", lambda file, *_: pytest.fail(f"{file} is written"))
    Material.prepare(of(table), runtime).open_images()


def test_prepare_takes_a_header_that_was_not_readable_when_it_was_remembered(
    table: Path, tmp_path: Path, runtime: Runtime
) -> None:
    """Another version of Pillow may have read the image without knowing its format."""
    runtime = replace(runtime, cache=tmp_path / "cache")
    image = "pictures/0_test_0.png"
    expected = Material.prepare(of(table), runtime)
    (remembered,) = (runtime.cache / "digests").glob("*.columns")
    about, columns = read_columns(remembered)
    headers = columns["headers"].copy()
    headers[list(expected.dataset.images.paths).index(image)] = 0
    write_columns(remembered, about, {**columns, "headers": headers})
    found = Material.prepare(of(table), runtime)
    assert np.array_equal(found.data.opened.headers, expected.data.opened.headers)


@pytest.mark.parametrize("cached", [True, False])
def test_pickled_material_is_small_and_gives_the_same_folders_images_and_boxes(
    cached: bool, table: Path, runtime: Runtime
) -> None:
    runtime = replace(runtime, cache_bytes=10**9 if cached else 0)
    material = Material.prepare(of(table), runtime)
    material.open_images()
    order = torch.arange(6)
    images = material.train.batch(order)
    data = pickle.dumps(material)
    assert len(data) < 10_000 < images.numel()
    copy = pickle.loads(data)
    config = of(table)
    assert (copy.initialization_folder(config), copy.trial_folder(config)) == (
        material.initialization_folder(config),
        material.trial_folder(config),
    )
    assert torch.equal(copy.train.batch(order), images)
    for mine, theirs in zip(material.measured, copy.measured, strict=True):
        assert torch.equal(mine.source.batch(order[:2]), theirs.source.batch(order[:2]))
    assert material.true_boxes is not None
    assert np.array_equal(copy.true_boxes.ends, material.true_boxes.ends)
    assert np.array_equal(copy.true_boxes.corners, material.true_boxes.corners)
    assert copy.serving(config, runtime) is copy


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_open_images_names_a_broken_image_of_any_split(split: str, table: Path, runtime: Runtime) -> None:
    records = getattr(Material.prepare(of(table), runtime).splits, split)
    spoil(table.parent / records[-1].path)
    material = Material.prepare(of(table), runtime)
    with pytest.raises(ValueError, match=rf"{records[-1].path}: the image does not decode .*: replace or remove it"):
        material.open_images()


def test_open_images_of_a_split_beyond_the_budget_leaves_decoding_for_later(table: Path, runtime: Runtime) -> None:
    record = Material.prepare(of(table), runtime).splits.test[0]
    spoil(table.parent / record.path)
    material = Material.prepare(of(table), replace(runtime, cache_bytes=0))
    material.open_images()
    with pytest.raises(ValueError, match=rf"{record.path}: the image does not decode"):
        material.test.source.batch(torch.tensor([0]))


def test_run_trial_refuses_a_broken_test_image_before_anything_trains(table: Path, runtime: Runtime) -> None:
    spoil(table.parent / "pictures/1_test_2.png")
    reports: list[EpochReport] = []
    with pytest.raises(ValueError, match=r"1_test_2\.png: the image does not decode"):
        run_trial(of(table), runtime, reports.append)
    assert reports == []

"""Where pseudo boxes come from: a fixed source's boxes are what is learned, and what Pseudo Label is measured by."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from lchp.method.augmentation import normalise
from lchp.method.backbones import find_network
from lchp.method.lost import lost_boxes
from lchp.method.pseudo_boxes import Grid, Reading, activation, mask_out, pseudo_boxes, single_boxes, tightest_box
from lchp.method.tokencut import tokencut_boxes
from lchp.method.vit import last_keys
from lchp.training import frozen, initialization
from lchp.training.box_config import KEPT, READ
from lchp.training.box_sources import fixed_boxes, live_boxes
from lchp.training.config import TrialConfig
from lchp.training.initialization import Initialization, make_networks, stage_losses
from lchp.training.loop import autocast
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


@pytest.mark.parametrize("source", ["mask", "single"])
def test_live_boxes_under_bf16_are_those_of_fp32_unless_the_maps_are_asked_to_be_bf16(source: str) -> None:
    found = []
    for compute in ({}, {"precision": "bf16"}, {"precision": "bf16", "maps_precision": "bf16"}):
        config = config_of(compute=compute, pseudo_boxes={"source": source}, delta=0.5)
        network = make_networks(config, CLASSES).momentum
        with torch.no_grad(), autocast(config.compute, "cpu"):
            maps: list[torch.Tensor] = []
            network.trunk.register_forward_hook(lambda _, __, made, maps=maps: maps.append(made))
            boxes = live_boxes(config, network, views(3), LABELS)
        found.append((boxes.boxes, boxes.masked, {made.dtype for made in maps}))
    (plain, masked, types), (same, same_masked, same_types), (*_, low) = found
    assert types == same_types == {torch.float32}
    assert torch.equal(plain, same)
    assert torch.equal(masked, same_masked)
    assert low == {torch.bfloat16}


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
    boxes = pseudo_boxes(networks.momentum.trunk, images, config.delta).merged
    assert not torch.allclose(boxes, given)


def test_step_gives_every_view_the_part_of_its_own_images_box(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(view={"resize": 36, "crop": 32, "flip": 1.0})

    class Whole:
        train = torch.tensor([[0.0, 0.0, 0.5, 1.0]] * 7 + [[0.75, 0.25, 1.0, 0.5]])

    seen: list[torch.Tensor] = []

    def spied(*arguments: Any) -> torch.Tensor:
        seen.append(arguments[5])
        return stage_losses(*arguments)

    monkeypatch.setattr(initialization, "stage_losses", spied)
    stage = Initialization(config, CLASSES, "cpu", Whole())  # type: ignore[arg-type]
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


# A frozen network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights for the small network, with which its maps are not constant."""
    torch.manual_seed(5)
    file = tmp_path_factory.mktemp("weights") / "small_cnn.pth"
    torch.save(find_network("small_cnn").regressor.build().state_dict(), file)
    return file


def by_ddt(table: Path, weights: Path, **options: Any) -> TrialConfig:
    """A tiny trial by Deep Descriptor Transforming at 48 pixels a side."""
    boxes = {
        "source": "ddt",
        "network": "small_cnn",
        "weights": {"file": weights},
        "size": 48,
        "enlargement": "cells",
        **options,
    }
    return tiny(dataset={"kind": "table", "path": table}, pseudo_boxes=boxes)


def numpy_maps(config: TrialConfig, material: Material, split: str, size: int) -> list[np.ndarray]:
    """DDT's h of every image by its definition, in float64: at the map's resolution, or enlarged to ``size`` pixels."""
    options, network = config.pseudo_boxes, frozen.frozen_network(config)

    def descriptors(name: str, mirrored: bool = False) -> tuple[np.ndarray, np.ndarray, list[int]]:
        source = material.source(name, size)
        images = normalise(source.batch(torch.arange(len(source))))
        with torch.no_grad():
            maps = network(images.flip(3) if mirrored else images).double().numpy()
        norms = np.linalg.norm(maps, axis=1, keepdims=True)
        return maps / norms if options.descriptors == "unit" else maps, norms[:, 0], source.labels.tolist()

    train, norms, of_train = descriptors("train")
    (maps, _, labels), (mirror, *_) = descriptors(split), descriptors(split, True)
    found = []
    for image, mirrored, label in zip(maps, mirror, labels, strict=True):
        of_class = [other == label or options.axis == "all" for other in of_train]
        flat = train[of_class].transpose(0, 2, 3, 1).reshape(-1, maps.shape[1])
        mean, strong = flat.mean(0), norms[of_class].reshape(-1) ** 2
        axes = np.linalg.svd(flat - mean, full_matrices=False)[2][: options.axes]
        correlations = [np.corrcoef((flat - mean) @ axis, strong)[0, 1] for axis in axes]
        best = int(np.argmax(np.abs(correlations)))
        axis = axes[best] * np.sign(correlations[best])
        h = np.tensordot(image - mean[:, None, None], axis, (0, 0))
        if options.mirror:
            h = (h + np.tensordot(mirrored - mean[:, None, None], axis, (0, 0))[:, ::-1]) / 2
        if options.enlargement == "tiled":
            h = functional.interpolate(torch.from_numpy(h)[None, None], size=size, mode="bilinear")[0, 0].numpy()
        found.append(h)
    return found


def numpy_boxes(config: TrialConfig, material: Material, split: str) -> np.ndarray:
    """DDT by its definition, in float64, image by image."""
    sizes = config.pseudo_boxes.sizes
    by_size = [numpy_maps(config, material, split, size) for size in sizes]
    found = []
    for maps in zip(*by_size, strict=True):
        h = maps[0]
        if len(sizes) > 1:
            shares = [torch.from_numpy(one / one.max() if one.max() > 0 else 0 * one)[None, None] for one in maps]
            side = max(sizes)
            h = sum(functional.interpolate(one, size=side, mode="bilinear")[0, 0].numpy() for one in shares)
        mask = h > config.pseudo_boxes.threshold * max(h.max(), 0)
        parts, count = ndimage.label(mask, np.ones((3, 3)))
        if count == 0:
            found.append([0, 0, 1, 1])
            continue
        rows, columns = np.nonzero(parts == 1 + np.argmax(np.bincount(parts[parts > 0])[1:]))
        ends = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        found.append([end / len(h) for end in ends])
    return np.array(found)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"axis": "all"},
        {"threshold": 0.3},
        {"descriptors": "unit", "threshold": 0.4},
        {"mirror": True},
        {"enlargement": "tiled"},
        {"omit": 2},
        {"descriptors": "unit", "axis": "all", "axes": 3},
        {"enlargement": "tiled", "further_sizes": [64], "mirror": True, "threshold": 0.3},
    ],
)
def test_ddt_boxes_equal_their_definition_by_numpy(
    table: Path, weights: Path, runtime: Runtime, options: dict[str, Any]
) -> None:
    config = by_ddt(table, weights, **options)
    material = Material.prepare(config, runtime)
    fixed = fixed_boxes(config, material)
    assert fixed is not None
    for split in (material.train_split, *material.measured):
        found = fixed.of(split)
        assert found is not None
        np.testing.assert_allclose(found, numpy_boxes(config, material, split.name), atol=1e-6)
        assert len(np.unique(found.numpy(), axis=0)) > 1


def test_ddt_boxes_from_the_cache_equal_those_made_anew_and_thresholds_share_them(
    table: Path, weights: Path, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = by_ddt(table, weights)
    made = fixed_boxes(config, Material.prepare(config, runtime))
    fresh = Runtime(runtime.store, tmp_path / "fresh")
    anew = fixed_boxes(config, Material.prepare(config, fresh))
    monkeypatch.setitem(frozen.MAKERS, "ddt", lambda *_: pytest.fail("made again"))
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "_ddt_boxes", lambda *_: pytest.fail("read off again"))
        kept = fixed_boxes(config, Material.prepare(config, runtime))
    assert made is not None
    assert anew is not None
    assert kept is not None
    assert all(torch.equal(made.by_split[name], anew.by_split[name]) for name in ("train", "val", "test"))
    assert all(torch.equal(made.by_split[name], kept.by_split[name]) for name in ("train", "val", "test"))
    tighter = by_ddt(table, weights, threshold=0.5)
    boxes = fixed_boxes(tighter, Material.prepare(tighter, runtime))
    assert boxes is not None
    assert not torch.equal(boxes.train, made.train)


def test_ddt_boxes_of_pretrained_and_of_random_weights_are_kept_apart(
    table: Path, weights: Path, tmp_path: Path
) -> None:
    runtime = Runtime(tmp_path / "store", tmp_path / "cache")
    random = {"source": "ddt", "network": "small_cnn", "weights": "none", "size": 48}
    for config in (by_ddt(table, weights), tiny(dataset={"kind": "table", "path": table}, pseudo_boxes=random)):
        fixed_boxes(config, Material.prepare(config, runtime))
    assert len(list((runtime.cache / "pseudo_boxes").glob("*.pt"))) == 4  # projections and boxes of either


@pytest.mark.parametrize(
    ("changes", "names", "file"),
    [
        ({"pseudo_boxes": {"source": "ddt"}}, KEPT["ddt"], "859966b818fe2d41"),
        ({"pseudo_boxes": {"source": "ddt"}}, READ["ddt"], "45123a835410611e"),
        ({"pseudo_boxes": {"source": "tokencut"}}, KEPT["tokencut"], "8acae1deac6a7604"),
        (
            {"pseudo_boxes": {"source": "ddt", "axes": 2, "further_sizes": [320]}, "compute": {"onednn": True}},
            READ["ddt"],
            "a3bf07dea3d0b0da",
        ),
        (
            {
                "pseudo_boxes": {"source": "ddt", "descriptors": "unit"},
                "compute": {"channels_last": True, "precision": "bf16", "compile": "graphs"},
            },
            KEPT["ddt"],
            "0d9265e9f5473104",
        ),
    ],
)
def test_boxes_that_are_kept_already_are_found_by_the_name_that_they_have(
    changes: dict[str, Any], names: tuple[str, ...], file: str, tmp_path: Path
) -> None:
    runtime = SimpleNamespace(cache=tmp_path, device="cpu")
    material: Any = SimpleNamespace(digest=SimpleNamespace(total="d" * 64), given_digests={}, runtime=runtime)
    boxes = {"train": torch.tensor([[0.0, 0.0, 1.0, 1.0]])}
    found = frozen._stored(TrialConfig.model_validate(changes), material, names, lambda: boxes)
    assert torch.equal(found["train"], boxes["train"])
    assert [kept.name for kept in tmp_path.glob("pseudo_boxes/*.pt")] == [f"{file}.pt"]


def test_ddt_boxes_whose_cache_is_damaged_are_made_again(
    table: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, runtime = by_ddt(table, weights), Runtime(tmp_path / "store", tmp_path / "cache")
    made = fixed_boxes(config, Material.prepare(config, runtime))
    files = list((runtime.cache / "pseudo_boxes").glob("*.pt"))
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    again = fixed_boxes(config, Material.prepare(config, runtime))
    assert made is not None
    assert again is not None
    assert torch.equal(made.train, again.train)
    told = capsys.readouterr().err
    assert len(files) == 2
    assert all(f"{file} is damaged" in told for file in files)


def test_trial_by_ddt_learns_its_boxes_and_measures_them(table: Path, weights: Path, runtime: Runtime) -> None:
    config = by_ddt(table, weights)
    result = run_trial(config, runtime, lambda epoch: None)
    material = Material.prepare(config, runtime)
    fixed = fixed_boxes(config, material)
    assert fixed is not None
    with (result.folder / "per_image.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["method"], row["split"]) == ("pseudo_label", "test")]
    found = [
        [float(row["x1"]) / 80, float(row["y1"]) / 64, float(row["x2"]) / 80, float(row["y2"]) / 64] for row in rows
    ]
    np.testing.assert_allclose(found, fixed.by_split["test"], atol=1e-6)


def test_frozen_network_without_its_file_is_refused_by_its_key(table: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"pseudo_boxes\.weights\.file .*none\.pth does not exist: correct the path, or "
    ):
        frozen.frozen_network(by_ddt(table, tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("count", "message"),
    [(5, "5 of the 5 blocks cannot be left out"), (3, "leaves out the trunk's last stride of 8 px")],
)
def test_frozen_network_without_too_many_blocks_is_refused(
    table: Path, weights: Path, count: int, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"pseudo_boxes\.omit = {count}:? {message}"):
        frozen.frozen_network(by_ddt(table, weights, omit=count))


def test_config_of_a_network_without_imagenet_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pseudo_boxes\.weights is pretrained, but small_cnn has no such weights"):
        tiny(pseudo_boxes={"source": "ddt", "network": "small_cnn"})


@pytest.mark.parametrize("source", ["tokencut", "lost"])
def test_boxes_by_a_transformer_are_those_of_each_image_alone_and_kept(
    source: str, table: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"source": source, "size": 64, "weights": "none", "similarity": 0.9, "patches": 5}
    config = tiny(dataset={"kind": "table", "path": table}, pseudo_boxes=options)
    material = Material.prepare(config, runtime)
    network = frozen.frozen_network(config)
    with torch.no_grad():
        # So that what a patch shows outweighs where it lies.
        network.conv_proj.weight.mul_(100)  # type: ignore[operator, union-attr]
    monkeypatch.setattr(frozen, "frozen_network", lambda config: network)
    made = fixed_boxes(config, material)
    monkeypatch.setitem(frozen.MAKERS, source, lambda *_: pytest.fail("made again"))
    kept = fixed_boxes(config, material)
    assert made is not None
    assert kept is not None
    assert torch.equal(kept.train, made.train)
    test = material.source("test", 64)
    for index, box in enumerate(made.by_split["test"]):
        with torch.no_grad():
            keys, grid = last_keys(network, normalise(test.batch(torch.tensor([index]))))
        alone = tokencut_boxes(keys, grid, 0.9) if source == "tokencut" else lost_boxes(keys, grid, 5)
        assert torch.equal(box, alone[0])
    assert len(made.train.unique(dim=0)) > 1


def test_config_of_a_transformer_whose_patches_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a view of 450 px is no whole number of dino_vits16's patches of 16 px"):
        tiny(pseudo_boxes={"source": "lost", "size": 450})


# Live sources


def maps_by(config: TrialConfig, network: Any, images: torch.Tensor) -> torch.Tensor:
    if config.pseudo_boxes.maps == "cam":
        return network.class_activation(network.trunk(images), LABELS)  # type: ignore[no-any-return]
    return network.maps(network.trunk(images), config.pseudo_boxes.maps)  # type: ignore[no-any-return]


@pytest.mark.parametrize("maps", ["features", "cam"])
@pytest.mark.parametrize("component", ["all", "largest"])
def test_live_boxes_of_single_are_the_first_region_and_those_of_mask_hold_it(maps: str, component: str) -> None:
    options = {"maps": maps, "component": component, "normalization": "max"}
    mask, single = (config_of(delta=0.6, pseudo_boxes={"source": name, **options}) for name in ("mask", "single"))
    network, images = make_networks(mask, CLASSES).momentum, views(4)
    with torch.no_grad():
        foreground = activation(lambda x: maps_by(mask, network, x), images, Reading("max")) > 0.6
        if component == "largest":
            parts = [ndimage.label(image, np.ones((3, 3))) for image in foreground.numpy()]
            largest = [labels == (np.bincount(labels[labels > 0]).argmax() if count else -1) for labels, count in parts]
            foreground = torch.from_numpy(np.stack(largest))
    region = tightest_box(foreground)
    found = live_boxes(single, network, images, LABELS)
    assert torch.equal(found.boxes, region)
    assert torch.equal(found.masked, mask_out(images, region))
    whole = live_boxes(mask, network, images, LABELS)
    assert torch.equal(whole.masked, found.masked)
    assert (whole.boxes[:, :2] <= region[:, :2]).all()
    assert (whole.boxes[:, 2:] >= region[:, 2:]).all()
    assert not torch.equal(whole.boxes, region)


@pytest.mark.parametrize("mirror", [False, True])
def test_live_boxes_of_evidence_hold_the_label_and_mask_the_papers_region(mirror: bool) -> None:
    options = {"source": "evidence", "threshold": 0.4, "enlargement": "centred", "component": "largest"}
    config = config_of(delta=0.7, pseudo_boxes={**options, "mirror": mirror})
    network, images = make_networks(config, CLASSES).momentum, views(4)
    reading = Reading("max", "largest", "centred", Grid(0, 8), mirror)
    expected = single_boxes(lambda x: network.class_evidence(network.trunk(x), LABELS), images, 0.4, reading)
    found = live_boxes(config, network, images, LABELS)
    assert torch.equal(found.boxes, expected)
    region = single_boxes(network.trunk, images, 0.7)
    assert torch.equal(found.masked, mask_out(images, region))
    assert not torch.equal(expected, region)
    assert not torch.equal(live_boxes(config, network, images, LABELS.roll(1)).boxes, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"source": "single"},
        {"source": "evidence", "threshold": 0.4},
        {"maps": "cam", "normalization": "max"},
        {"enlargement": "centred", "mirror": True},
    ],
)
def test_trial_by_another_live_source_has_other_pseudo_labels(
    options: dict[str, Any], finished: TrialConfig, shared: Runtime
) -> None:
    usual = run_trial(finished, shared, lambda epoch: None)
    other = run_trial(tiny(pseudo_boxes=options), shared, lambda epoch: None)
    boxes = [(folder / "per_image.csv").read_text(encoding="utf-8") for folder in (usual.folder, other.folder)]
    assert boxes[0] != boxes[1]

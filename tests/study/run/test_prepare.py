"""What is refused while a study's data are prepared, before any network exists."""

from __future__ import annotations

import pickle
from pathlib import Path

import pandas as pd
import pytest

import tests.study.small as small
from lchp.data.opened import ReadDataset
from lchp.errors import Refusal
from lchp.study.run.materials import Materials
from lchp.study.run.prepare import prepare, require_batches
from lchp.training import environment
from lchp.training.material import Material, Runtime
from tests.data.layouts import draw_table


@pytest.fixture
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    folder = tmp_path_factory.getbasetemp() / "prepare"
    return Runtime(folder / "store", folder / "cache")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("initialization.batch_size=41", "initialization.batch_size = 41: there are 40 training images (val is drawn"),
        ("refinement.batch_size=1000", "refinement.batch_size = 1000: there are 40 training images (val is drawn from"),
        ("vary={refinement.batch_size: [8, 64]}", "split.val_per_class = 1): write at most 40"),
        ("search={trials: 2, space: {refinement.batch_size: [64, 8]}}", "refinement.batch_size = 64: there are 40"),
        (
            "vary={confidence.score: [max_softmax, out_of_fold], initialization.batch_size: [27]}",
            "initialization.batch_size = 27: a classifier of confidence.score = out_of_fold is trained on 26 images, "
            "all 40 but a fold of confidence.folds = 3: write at most 26",
        ),
        (
            "search={trials: 2, space: {initialization.batch_size: {low: 8, high: 48}}}",
            "initialization.batch_size = 48: there are 40",
        ),
    ],
)
def test_prepare_batch_larger_than_the_training_images_is_refused(
    tmp_path: Path, runtime: Runtime, text: str, message: str
) -> None:
    with pytest.raises(Refusal) as caught:
        prepare(small.load(tmp_path, small.TINY, text), runtime)
    assert message in str(caught.value)


def test_prepare_trials_that_differ_by_the_names_of_equal_files_are_refused(tmp_path: Path, runtime: Runtime) -> None:
    names = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for name in names:
        name.write_bytes(b"weights")
    vary = ", ".join(f"{{file: {name}}}" for name in names)
    with pytest.raises(Refusal) as caught:
        prepare(small.load(tmp_path, small.TINY, f"vary={{weights.classifier: [{vary}]}}"), runtime)
    assert "are one: what they differ by are names of files that hold the same: vary one of them" in str(caught.value)
    assert str(names[0]) in str(caught.value)


def test_prepare_tells_of_a_precision_that_is_slow_here(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_cpu_info", lambda: {"model name": "AMD EPYC", "flags": "avx2"})
    vary = "vary={compute.precision: [fp32, bf16]}"
    (told,) = set(prepare(small.load(tmp_path, small.TINY, vary), runtime).findings) - set(
        prepare(small.load(tmp_path, small.TINY), runtime).findings
    )
    assert told.startswith("compute.precision is bf16, but this processor (AMD EPYC)")


def test_prepare_references_without_true_boxes_are_refused(tmp_path: Path, runtime: Runtime) -> None:
    images = draw_table(tmp_path / "data")
    pd.read_csv(images)[["path", "label", "split"]].to_csv(images, index=False)
    study = small.load(
        tmp_path, small.TINY, f"dataset={{kind: table, path: {images}}}", "references=[supervised]",
        "split.val_per_class=0", "initialization.batch_size=2", "refinement.batch_size=2",
    )  # fmt: skip
    with pytest.raises(Refusal, match="references: need true boxes of training images, and the table data have none"):
        prepare(study, runtime)


def test_require_batches_as_large_as_the_training_images_pass(tmp_path: Path, runtime: Runtime) -> None:
    config = small.load(tmp_path, small.TINY, "initialization.batch_size=40", "refinement.batch_size=40").base
    material = Materials(runtime).of(config)
    require_batches([(config, material)])
    assert len(material.splits.train) == 40


def test_materials_read_a_dataset_once_for_all_splits_weights_and_views(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, split = [], ReadDataset.split
    monkeypatch.setattr(ReadDataset, "split", lambda data, config: read.append(data) or split(data, config))
    (tmp_path / "weights.pth").write_bytes(b"weights")
    sets = ("", "split.val_per_class=2", f"weights.classifier={{file: {tmp_path / 'weights.pth'}}}", "view.crop=36")
    configs = [small.load(tmp_path, small.TINY, *sets[1:number]).base for number in range(1, 5)]
    materials = Materials(runtime)
    found = [materials.of(config) for config in configs]
    assert len(read) == 2
    assert read[0] is read[1]
    assert len({id(material.data.opened) for material in found}) == 1
    for config, material in zip(configs, found, strict=True):
        assert material.trial_folder(config) == Material.prepare(config, runtime).trial_folder(config)
    ((dataset, part),) = materials.by_dataset().items()
    assert dataset == configs[0].dataset
    one = len(pickle.dumps({Material.key(configs[0]): found[0]}))
    assert len(part) == 3
    assert len(pickle.dumps(part)) < 2 * one

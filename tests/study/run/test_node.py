from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lchp.study.run import node
from lchp.study.run.node import limit_memory, material_here
from lchp.training.material import Material, Runtime
from tests.training.tiny import tiny


def test_material_lies_in_the_nodes_own_folder_and_is_drawn_there_where_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    driver = Runtime(tmp_path / "driver/store", tmp_path / "driver/cache", shared=str(tmp_path / "shared"))
    material = Material.prepare(config, driver)
    assert material_here(material, config, driver) is material
    monkeypatch.setenv("LCHP_NODE_FOLDER", str(tmp_path / "node"))
    here = replace(driver, store=tmp_path / "node/store", cache=tmp_path / "node/cache")
    moved = material_here(material, config, driver)
    assert (moved.runtime, moved.dataset.root) == (here, material.dataset.root)
    assert moved.trial_folder(config) == tmp_path / "node/store/trial" / material.trial_folder(config).name
    alone = replace(material, runtime=replace(driver, shared=None))
    assert material_here(alone, config, alone.runtime).runtime.store == driver.store, (
        "nothing would come back from there"
    )
    shutil.rmtree(tmp_path / "driver")
    drawn = material_here(material, config, driver)
    assert drawn.dataset.root.is_relative_to(tmp_path / "node/cache")
    assert drawn.trial_folder(config) == moved.trial_folder(config)


def test_material_of_other_images_is_refused_by_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny()
    fewer = {"kind": "synthetic", "train_per_class": 6, "test_per_class": 1, "size": 40}
    runtime = Runtime(tmp_path / "store", tmp_path / "cache", shared=str(tmp_path / "shared"))
    other, material = Material.prepare(tiny(dataset=fewer), runtime), Material.prepare(config, runtime)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(node, "_materials", {})
    monkeypatch.setattr(Material, "prepare", lambda *_: other)
    with pytest.raises(ValueError, match="has other images than the one on which the study was started"):
        material_here(material, config, runtime)


@pytest.mark.parametrize(
    ("device", "gpus", "limits"), [("cuda", 0.5, [0.5]), ("cuda", 1.0, []), ("cuda", 2.0, []), ("cpu", 0.0, [])]
)
def test_limit_memory_is_of_those_alone_that_share_a_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: float, limits: list[float]
) -> None:
    found: list[float] = []
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", found.append)
    limit_memory(device, gpus)
    assert found == limits

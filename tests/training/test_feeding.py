"""Batches on a device are those of the source. What is CUDA's own of it is tested where there is one."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from lchp.data.loader import ImageSource
from lchp.training import feeding
from lchp.training.material import Material, Runtime

from .tiny import tiny

ORDER = torch.randperm(20, generator=torch.Generator().manual_seed(0))


def source_of(cache: Path) -> ImageSource:
    """The training images of the tiny trial, by a source of the test's own."""
    return Material.prepare(tiny(), Runtime(cache / "store", cache)).source("train", 36)


def same(found: list[feeding.Batch], expected: list[feeding.Batch]) -> bool:
    return [len(batch) for batch in found] == [len(batch) for batch in expected] and all(
        torch.equal(one.cpu(), other)
        for batch, wanted in zip(found, expected, strict=True)
        for one, other in zip(batch, wanted, strict=True)
    )


@pytest.mark.parametrize("drop_last", [True, False])
def test_batches_of_images_held_by_a_device_are_those_of_the_source(drop_last: bool, cache: Path) -> None:
    source = source_of(cache)
    images = feeding._uploaded(source, "cpu")
    for size in (6, 10, 32):
        found = list(feeding._picked(images, source.labels, ORDER, size, drop_last))
        assert same(found, list(source.batches(ORDER, size, drop_last, workers=0)))
        assert same(
            list(feeding.batches(source, ORDER, size, drop_last=drop_last, workers=0, device="cpu")),
            list(source.batches(ORDER, size, drop_last, workers=0)),
        )


def test_images_are_held_where_all_sources_together_take_no_more_than_their_share(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(feeding, "CHUNK", 7)
    first, second, third = (source_of(cache) for _ in range(3))
    room = 2.5 * first.nbytes / feeding.HELD_SHARE
    monkeypatch.setattr(feeding, "_memory", lambda device: room)
    held = feeding.images_on(first, "cpu")
    assert held is not None
    assert torch.equal(held, first.batch(torch.arange(len(first))))
    assert feeding.images_on(first, "cpu") is held
    assert feeding.images_on(second, "cpu") is not None
    assert feeding.images_on(third, "cpu") is None
    del first, held
    gc.collect()
    assert feeding._taken("cpu") == second.nbytes
    assert feeding.images_on(third, "cpu") is None, "what was said of a source holds for all its epochs"


def test_images_held_from_an_evaluation_may_be_trained_on(cache: Path) -> None:
    with torch.inference_mode():
        images = feeding._uploaded(source_of(cache), "cpu")
    assert not images.is_inference()


def test_images_that_are_decoded_when_asked_for_are_not_held(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(feeding, "_memory", lambda device: 1e12)
    source = source_of(cache)
    source.is_cached = False
    assert feeding.images_on(source, "cpu") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("share", [0.25, 0.0])
def test_batches_on_cuda_are_those_of_the_source(share: float, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(feeding, "HELD_SHARE", share)
    source = source_of(cache)
    found = list(feeding.batches(source, ORDER, 6, drop_last=False, workers=0, device="cuda"))
    assert all(part.is_cuda for batch in found for part in batch)
    assert same(found, list(source.batches(ORDER, 6, drop_last=False, workers=0)))

"""Both stages' losses on a GPU: the host queues work and waits for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from lchp.method import augmentation
from lchp.training import initialization, refinement

from .drawn import CLASSES, config_of, fold_judges_of, views

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: only there does the host wait for one"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]

DEVICE = "cuda"
FORMATS = ["corners", "centre_size"]
CONFIDENCES = [{}, {"score": "contrast", "keep": 0.5}, {"score": "equivariance"}, {"score": "out_of_fold"}]


@contextmanager
def without_synchronisation() -> Iterator[None]:
    """Within the block an operation that waits for the device raises RuntimeError."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_without_synchronisation_refuses_what_waits() -> None:
    number = torch.ones((), device=DEVICE)
    with without_synchronisation(), pytest.raises(RuntimeError, match="synchronizing"):
        number.item()


@pytest.mark.parametrize("box_format", FORMATS)
@pytest.mark.parametrize("maps", ["features", "attention"])
def test_stage_losses_of_the_initialization_wait_for_nothing(box_format: str, maps: str) -> None:
    config = config_of(box_format=box_format, pseudo_boxes={"maps": maps})
    networks = initialization.Initialization(config, CLASSES, DEVICE).networks
    images, labels = views(0).to(DEVICE), (torch.arange(8) % CLASSES).to(DEVICE)
    for with_regressor in (False, True):
        # Once before, so that libraries have been loaded.
        initialization.stage_losses(networks, images, labels, config, with_regressor)
        with without_synchronisation():
            values = initialization.stage_losses(networks, images, labels, config, with_regressor)
        assert values.isfinite().all()


@pytest.mark.parametrize("box_format", FORMATS)
@pytest.mark.parametrize("teacher", ["online", "frozen", "ema"])
@pytest.mark.parametrize("options", CONFIDENCES, ids=str)
def test_stage_losses_of_the_refinement_wait_for_nothing(
    box_format: str, teacher: str, options: dict[str, object]
) -> None:
    # What tau rejects is counted before it is dropped; of a share that is kept the count is known.
    rejected = "drop" if "keep" in options else "mask"
    stage_options = {"teacher": teacher, "rejected": rejected}
    config = config_of(box_format=box_format, refinement=stage_options, confidence=options)
    networks, judges = initialization.make_networks(config, CLASSES), fold_judges_of(config, DEVICE)
    stage = refinement.Refinement(config, networks, DEVICE, judges)
    images, labels = views(0).to(DEVICE), (torch.arange(8) % CLASSES).to(DEVICE)
    places = torch.arange(8).to(DEVICE)
    drawn = augmentation.draw_strong(8, 32, "scale+translation+flip", torch.Generator().manual_seed(0)).to(DEVICE)
    stage.classifier.eval()
    arguments = stage.regressor, stage.teacher, stage.confidence, images, labels, places, drawn, config
    refinement.stage_losses(*arguments)
    with without_synchronisation():
        values = refinement.stage_losses(*arguments)
    assert values.isfinite().all()

"""The networks of a stored model, placed as they were trained."""

from __future__ import annotations

import pytest
import torch

from lchp.method.networks import make_classifier, make_regressor
from lchp.store.localizer import Localizer
from lchp.store.model import Design, Model
from lchp.store.placement import place
from lchp.training.config import TrialConfig


@pytest.mark.parametrize("onednn", [False, True])
def test_localizer_computes_small_batches_as_the_trial_did(onednn: bool) -> None:
    torch.set_num_threads(1)
    config = TrialConfig.model_validate(
        {"backbone": "mobilenet_v2", "classifier": "mobilenet_v2", "compute": {"onednn": onednn}}
    )
    regressor = make_regressor("mobilenet_v2", "corners", 0).eval()
    classifier = make_classifier("mobilenet_v2", 2, config.initialization.attention_maps, 10.0, 0)
    model = Model(
        Design.of(config.model_dump(mode="json")), None, dict(regressor.state_dict()), dict(classifier.state_dict())
    )
    localizer = Localizer(model, "cpu")
    place(regressor, config.compute, "cpu")
    views = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(localizer._regressor.maps(views), regressor.maps(views))
        place(regressor, config.compute.model_copy(update={"onednn": True}), "cpu")
        assert torch.equal(localizer._regressor.maps(views), regressor.maps(views)) is onednn

from __future__ import annotations

from pathlib import Path

import pytest

from lchp.method.backbones import NETWORKS
from lchp.training import downloads
from lchp.training.config import TrialConfig
from lchp.training.downloads import hub_folder, torchvision_url, unavailable, wanted

URL = "https://example.invalid/models/net-0a1b.pth"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a network and without anything fetched before."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(downloads, "_unreachable", lambda host: "no network")


def test_torchvision_url_is_that_of_the_library_for_every_network() -> None:
    from torchvision.models import get_weight

    known = [network.imagenet for network in NETWORKS.values() if network.imagenet]
    assert len(known) > 4
    assert {weights: torchvision_url(weights) for weights in known} == {
        weights: get_weight(weights).url for weights in known
    }


def test_hub_folder_is_that_of_the_library() -> None:
    from torch import hub

    assert str(hub_folder()) == f"{hub.get_dir()}/checkpoints"


def test_wanted_are_the_pretrained_weights_that_are_read() -> None:
    plain = wanted(TrialConfig())
    assert set(plain) == {"weights.classifier", "weights.regressor"}
    assert plain["weights.classifier"].endswith(".pth")
    none = TrialConfig.model_validate({"weights": {"classifier": "none", "regressor": "classifier"}})
    assert wanted(none) == {}
    boxes = none.model_copy(update={"pseudo_boxes": none.pseudo_boxes.model_copy(update={"source": "lost"})})
    assert list(wanted(boxes)) == ["pseudo_boxes.weights"]


def test_unavailable_is_what_is_neither_fetched_nor_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    told = unavailable(URL)
    assert told == f"{hub_folder() / 'net-0a1b.pth'} is not there, and example.invalid cannot be reached (no network)"
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    assert unavailable(URL) is None
    monkeypatch.delenv("https_proxy")
    hub_folder().mkdir(parents=True)
    (hub_folder() / "net-0a1b.pth").write_bytes(b"")
    assert unavailable(URL) is None


def test_unreachable_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def refuse(*_: object) -> None:
        raise OSError(111, "Connection refused")

    monkeypatch.setattr("socket.create_connection", refuse)
    assert downloads._unreachable("one.invalid") == "Connection refused"

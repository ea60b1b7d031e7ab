from __future__ import annotations

import hashlib
import io
import os
import shutil
from email.message import Message
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model

from lchp.method.networks import BapClassifier, BoxRegressor, make_classifier, make_regressor
from lchp.training.config import WeightsFile
from lchp.training.weights import IMAGENET, load_weights, sha256_of


def _network(role: str, name: str) -> BapClassifier | BoxRegressor:
    if role == "classifier":
        return make_classifier(name, classes=5, attention_maps=4, scale=10.0, seed=0)
    return make_regressor(name, "corners", seed=0)


def _whole_state(name: str) -> dict[str, Tensor]:
    """A state dict of torchvision's whole network, every tensor another constant; only one number of each is stored."""
    with torch.device("meta"):
        state = get_model(
            name, weights=None, **({"init_weights": False} if name == "inception_v3" else {})
        ).state_dict()
    return {key: torch.tensor(float(i)).expand(value.shape) for i, (key, value) in enumerate(state.items())}


def _saved(folder: Path, content: Any) -> WeightsFile:
    torch.save(content, folder / "weights.pth")
    return WeightsFile(file=folder / "weights.pth")


def _assert_holds(network: BapClassifier | BoxRegressor, state: dict[str, Tensor]) -> None:
    for key, value in network.trunk.state_dict().items():
        assert torch.equal(value, state[key].to(value.dtype)), key


def _refusal(source: WeightsFile, name: str = "mobilenet_v2", role: str = "classifier") -> str:
    network = _network(role, name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"weights\.") as caught:
        load_weights(network, name, source)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize("role", ["classifier", "regressor"])
@pytest.mark.parametrize("name", ["inception_v3", "resnet50", "vgg19_bn", "mobilenet_v2"])
def test_load_weights_file_of_the_whole_network_fills_the_trunk(name: str, role: str, tmp_path: Path) -> None:
    state, network = _whole_state(name), _network(role, name)
    head = {key: value.clone() for key, value in network.head.state_dict().items()}
    load_weights(network, name, _saved(tmp_path, state))
    _assert_holds(network, state)
    assert all(torch.equal(value, head[key]) for key, value in network.head.state_dict().items())


@pytest.mark.parametrize("role", ["classifier", "regressor"])
def test_load_weights_file_of_a_small_cnn_regressor_fills_either_role(role: str, tmp_path: Path) -> None:
    trained, network = make_regressor("small_cnn", "corners", seed=1), _network(role, "small_cnn")
    load_weights(network, "small_cnn", _saved(tmp_path, trained.trunk.state_dict()))
    _assert_holds(network, trained.trunk.state_dict())


def test_load_weights_file_without_batch_counts_fills_the_rest(tmp_path: Path) -> None:
    state, network = _whole_state("mobilenet_v2"), _network("regressor", "mobilenet_v2")
    load_weights(
        network, "mobilenet_v2", _saved(tmp_path, {key: v for key, v in state.items() if "num_batches" not in key})
    )
    filled = network.trunk.state_dict()
    assert filled["features.0.1.num_batches_tracked"] == 0
    assert torch.equal(filled["features.18.1.running_var"], state["features.18.1.running_var"])


def test_load_weights_none_changes_nothing() -> None:
    network, fresh = _network("classifier", "small_cnn"), _network("classifier", "small_cnn")
    load_weights(network, "small_cnn", "none")
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in network.state_dict().items())


def test_load_weights_right_hash_passes_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    state = _whole_state("mobilenet_v2")
    file = _saved(tmp_path, state).file
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert sha256_of(file) == digest
    network = _network("regressor", "mobilenet_v2")
    load_weights(network, "mobilenet_v2", WeightsFile(file=file, sha256=digest))
    _assert_holds(network, state)
    message = _refusal(WeightsFile(file=file, sha256="0" * 64), role="regressor")
    assert str(file) in message
    assert digest in message
    assert f"weights.regressor.sha256 {'0' * 64}" in message


def test_load_weights_missing_file_is_refused(tmp_path: Path) -> None:
    message = _refusal(WeightsFile(file=tmp_path / "absent.pth"))
    assert message.startswith(f"weights.classifier.file {tmp_path / 'absent.pth'} does not exist")


@pytest.mark.parametrize("content", [b"", b"not a state dict at all", b"PK\x03\x04broken"])
def test_load_weights_unreadable_file_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    message = _refusal(WeightsFile(file=file))
    assert f"{file} cannot be read as plain tensors" in message
    assert "torch.save" in message


def test_load_weights_pickled_network_is_refused_unread(tmp_path: Path) -> None:
    message = _refusal(_saved(tmp_path, torch.nn.Linear(2, 2)))
    assert "cannot be read as plain tensors (UnpicklingError): save the state_dict()" in message
    assert "weights_only" not in message


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {"a": torch.zeros(1)}}, {0: torch.zeros(1)}])
def test_load_weights_something_else_than_a_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    assert "holds no state dict" in _refusal(_saved(tmp_path, content))


def test_load_weights_keys_that_do_not_fit_are_named_and_counted(tmp_path: Path) -> None:
    state = _whole_state("mobilenet_v2")
    for i in range(1, 6):
        del state[f"features.{i}.conv.1.weight" if i == 1 else f"features.{i}.conv.2.weight"]
    state["extra.weight"] = torch.zeros(1)
    state["features.0.0.weight"] = torch.zeros(32, 1, 3, 3)
    message = _refusal(_saved(tmp_path, state))
    assert "does not fit mobilenet_v2" in message
    assert "missing features.1.conv.1.weight, features.2.conv.2.weight, features.3.conv.2.weight and 2 more" in message
    assert "unknown extra.weight" in message
    assert "mismatching features.0.0.weight (32, 1, 3, 3) instead of (32, 3, 3, 3)" in message


def test_load_weights_of_another_network_is_refused(tmp_path: Path) -> None:
    message = _refusal(_saved(tmp_path, _whole_state("resnet50")))
    assert "missing features.0.0.weight" in message
    assert "unknown conv1.weight" in message


def test_load_weights_imagenet_downloads_torchvisions_first_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, asked = _whole_state("mobilenet_v2"), []
    file = _saved(tmp_path, state).file

    def download(url: str, target: str, hash_prefix: str | None, progress: bool) -> None:
        asked.append((url.rpartition("/")[2], hash_prefix))
        shutil.copy(file, target)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    for role in ("classifier", "regressor"):
        network = _network(role, "mobilenet_v2")
        load_weights(network, "mobilenet_v2", "imagenet")
        _assert_holds(network, state)
    assert asked == [("mobilenet_v2-b0353104.pth", "b0353104")], "the second network must find the first one's download"
    assert [IMAGENET[name].name for name in sorted(IMAGENET)] == ["IMAGENET1K_V1"] * 4


def test_load_weights_imagenet_without_a_network_says_which_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> NoReturn:
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(
        ValueError, match=r"resnet50 weights.*resnet50-0676ba61\.pth.*no route.*weights\.regressor\.file"
    ):
        load_weights(_network("regressor", "resnet50"), "resnet50", "imagenet")


def test_load_weights_imagenet_with_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(io.BytesIO):
        def info(self) -> Message:
            return Message()

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: Answer(b"other bytes"))
    with pytest.raises(ValueError, match=r"mobilenet_v2 weights could not be had.*invalid hash value"):
        load_weights(_network("classifier", "mobilenet_v2"), "mobilenet_v2", "imagenet")
    assert not list(tmp_path.rglob("*.pth"))


def test_load_weights_imagenet_of_the_small_cnn_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"weights\.regressor is 'imagenet', but there are no ImageNet weights of small_"
    ):
        load_weights(_network("regressor", "small_cnn"), "small_cnn", "imagenet")


def test_load_weights_imagenet_that_is_no_plain_tensors_is_refused_without_torchs_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    pickled = _saved(tmp_path, torch.nn.Linear(2, 2)).file
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda url, target, *_, **__: shutil.copy(pickled, target))
    with pytest.raises(ValueError, match=r"mobilenet_v2 weights could not be had.*\(UnpicklingError\)") as caught:
        load_weights(_network("classifier", "mobilenet_v2"), "mobilenet_v2", "imagenet")
    assert "weights_only" not in str(caught.value)


@pytest.mark.skipif("LCHP_TEST_MOBILENET_V2" not in os.environ, reason="LCHP_TEST_MOBILENET_V2 names no state dict")
@pytest.mark.parametrize("role", ["classifier", "regressor"])
def test_load_weights_real_mobilenet_v2_gives_both_roles_its_values(role: str) -> None:
    file = Path(os.environ["LCHP_TEST_MOBILENET_V2"])
    network = _network(role, "mobilenet_v2")
    load_weights(network, "mobilenet_v2", WeightsFile(file=file))
    _assert_holds(network, torch.load(file, map_location="cpu", weights_only=True))

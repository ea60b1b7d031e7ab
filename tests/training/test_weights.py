from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import warnings
import zipfile
from email.message import Message
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model, get_model_weights

from lchp.method.backbones import NETWORKS
from lchp.method.networks import BapClassifier, BoxRegressor, make_classifier, make_regressor
from lchp.training.network_config import WeightsFile
from lchp.training.weight_files import digest_of, given_weights, sha256_of
from lchp.training.weights import imagenet_weights, load_weights

PRETRAINED = tuple(name for name, network in NETWORKS.items() if network.imagenet)


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
@pytest.mark.parametrize("name", PRETRAINED)
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


def _zipped(names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"0")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"", "is empty, 0 bytes: fetch it again", id="empty"),
        pytest.param(b"not a state dict\nat all", "is text that begins 'not a state dict'", id="text"),
        pytest.param("Gewichte für ResNet".encode(), "is text that begins 'Gewichte für ResNet'", id="utf-8"),
        pytest.param(b"<!DOCTYPE html>\n", "is text that begins '<!DOCTYPE html>', perhaps a page", id="page"),
        pytest.param(b"PK\x03\x04broken", "is cut short or damaged, 10 bytes without the end", id="archive"),
        pytest.param(
            _zipped(["a.npy"]), "is a zip archive, but not one of torch.save: save the state_dict()", id="npz"
        ),
        pytest.param(_zipped(["a/data.pkl", "a/constants.pkl"]), "is a TorchScript network: save", id="script"),
        pytest.param(b"\x1f\x8b\x08\x00", "is packed by gzip: unpack it", id="gzip"),
        pytest.param(b'\x08\0\0\0\0\0\0\0{"a": 0}', "is a safetensors file: read it", id="safetensors"),
        pytest.param(b"\x80\x02\xff\xfe", "cannot be read as plain tensors (UnpicklingError): save", id="other"),
    ],
)
def test_load_weights_alien_file_is_refused_as_what_it_is(content: bytes, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    assert _refusal(WeightsFile(file=file), "small_cnn").startswith(f"weights.classifier.file {file} {fault}")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_load_weights_file_cut_short_is_refused(share: float, zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(
        make_regressor("small_cnn", "corners", seed=1).trunk.state_dict(), file, _use_new_zipfile_serialization=zipped
    )
    load_weights(_network("classifier", "small_cnn"), "small_cnn", WeightsFile(file=file))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert "is cut short" in _refusal(WeightsFile(file=file), "small_cnn")


def test_load_weights_file_with_one_byte_flipped_is_refused(tmp_path: Path) -> None:
    source = _saved(tmp_path, make_regressor("small_cnn", "corners", seed=1).trunk.state_dict())
    content = bytearray(source.file.read_bytes())
    content[len(content) // 2] ^= 1
    source.file.write_bytes(content)
    message = _refusal(source, "small_cnn")
    assert re.search(r"is damaged \(the checksum of its record 'weights/data/\d+' differs\): fetch it again", message)


def test_digest_of_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, fault in {
        tmp_path: "is a folder: name a file",
        tmp_path / "pipe": "is no regular file: name a file",
        tmp_path / "absent.pth": "does not exist: correct the path",
        tmp_path / ("a" * 300): "cannot be read (File name too long): correct the path",
    }.items():
        with pytest.raises(ValueError, match=re.escape(f"weights.regressor.file {path} {fault}")):
            digest_of(given_weights(WeightsFile(file=path), "weights.regressor"))


def test_load_weights_pickled_network_is_refused_unread(tmp_path: Path) -> None:
    message = _refusal(_saved(tmp_path, torch.nn.Linear(2, 2)))
    assert "cannot be read as plain tensors (UnpicklingError): save the state_dict()" in message
    assert "weights_only" not in message


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([1, 2], "holds no state dict, a mapping of names to tensors, but a value of type list: save the state_dict()"),
        (torch.zeros(1), "holds no state dict, a mapping of names to tensors, but a tensor"),
        ({}, "holds an empty state dict: save the state_dict()"),
        (
            {"epoch": 3, "state_dict": {"a": torch.zeros(1)}},
            "holds no state dict, but a checkpoint with one under the key 'state_dict': "
            "save that alone, torch.load(FILE)['state_dict'], with torch.save",
        ),
        ({"model": {"a": torch.zeros(1)}}, "holds no state dict, but a checkpoint with one under the key 'model'"),
        ({"a": torch.zeros(1), "b": [1.0]}, "holds no state dict, a mapping of names to tensors: at 'b' is a value of"),
        ({0: torch.zeros(1)}, "holds no state dict, a mapping of names to tensors: at 0 is a tensor"),
        ({"a": {}}, "holds no state dict, a mapping of names to tensors: at 'a' is a value of type dict"),
    ],
)
def test_load_weights_something_else_than_a_state_dict_is_refused(content: Any, fault: str, tmp_path: Path) -> None:
    source = _saved(tmp_path, content)
    assert _refusal(source, "small_cnn").startswith(f"weights.classifier.file {source.file} {fault}")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "net.trunk."])
def test_load_weights_of_a_wrapped_network_are_refused_with_the_prefix(prefix: str, tmp_path: Path) -> None:
    state = make_regressor("small_cnn", "corners", seed=1).trunk.state_dict()
    message = _refusal(_saved(tmp_path, {prefix + key: value for key, value in state.items()}), "small_cnn")
    assert f"has the names of small_cnn with {prefix!r} before them" in message
    assert message.endswith(f"save its tensors under name.removeprefix({prefix!r})")


def _with(value: float, position: int) -> Tensor:
    tensor = torch.ones(24, 3, 3, 3)
    tensor.view(-1)[position] = value
    return tensor


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (torch.ones(24, 3, 3, 3, dtype=torch.int64), "is of torch.int64 where torch.float32 is wanted: save"),
        (torch.ones(24, 3, 3, 3, dtype=torch.bool), "is of torch.bool where torch.float32 is wanted: save"),
        (torch.ones(24, 3, 3, 3, dtype=torch.complex64), "is of torch.complex64 where torch.float32 is wanted: save"),
        (_with(torch.nan, 7), "has 1 of 648 values that are not finite: give"),
        (_with(-torch.inf, 0), "has 1 of 648 values that are not finite: give"),
        (torch.full((24, 3, 3, 3), 1e300, dtype=torch.float64), "has 648 of 648 values that are not finite: give"),
        (torch.ones(24, 3, 3, 3).to_sparse(), "is sparse (torch.sparse_coo): save it after to_dense()"),
        (torch.empty(24, 3, 3, 3, device="meta"), "has no values (device meta): save"),
    ],
    ids=["int64", "bool", "complex", "nan", "inf", "overflow", "sparse", "meta"],
)
def test_load_weights_tensor_that_cannot_start_a_training_is_named(value: Tensor, fault: str, tmp_path: Path) -> None:
    state = make_regressor("small_cnn", "corners", seed=1).trunk.state_dict()
    state["block1.conv.weight"] = value
    source = _saved(tmp_path, state)
    message = _refusal(source, "small_cnn")
    assert message.startswith(
        f"weights.classifier.file {source.file} has no weights to start from: block1.conv.weight {fault}"
    )


def test_load_weights_quantized_tensor_is_named(tmp_path: Path) -> None:
    state = make_regressor("small_cnn", "corners", seed=1).trunk.state_dict()
    with warnings.catch_warnings(action="ignore"):
        state["block2.conv.weight"] = torch.quantize_per_tensor(state["block2.conv.weight"], 0.1, 0, torch.qint8)
    message = _refusal(_saved(tmp_path, state), "small_cnn")
    assert "block2.conv.weight is quantized (torch.qint8): save it after dequantize()" in message


def test_load_weights_of_integers_alone_are_refused_and_counted(tmp_path: Path) -> None:
    state = make_regressor("small_cnn", "corners", seed=1).trunk.state_dict()
    message = _refusal(_saved(tmp_path, {key: value.long() for key, value in state.items()}), "small_cnn")
    assert "block1.conv.weight is of torch.int64" in message
    assert message.endswith("(24 more tensors have faults)")


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_load_weights_in_another_precision_become_float32(precision: torch.dtype, tmp_path: Path) -> None:
    state = {
        key: value.to(precision) for key, value in make_regressor("small_cnn", "corners", 1).trunk.state_dict().items()
    }
    network = _network("regressor", "small_cnn")
    load_weights(network, "small_cnn", _saved(tmp_path, state))
    _assert_holds(network, state)
    assert network.trunk.get_parameter("block1.conv.weight").dtype == torch.float32


def test_load_weights_of_densenet_under_its_older_names_fill_the_trunk(tmp_path: Path) -> None:
    state, network = _whole_state("densenet161"), _network("regressor", "densenet161")
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    load_weights(network, "densenet161", _saved(tmp_path, older))
    _assert_holds(network, state)


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


@pytest.mark.parametrize("name", NETWORKS)
def test_imagenet_weights_are_torchvisions_first_of_the_same_network(name: str) -> None:
    weights = imagenet_weights(name)
    if NETWORKS[name].imagenet is None:
        assert weights is None
    else:
        assert weights in get_model_weights(name)
        assert weights.name == "IMAGENET1K_V1"


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
    with pytest.raises(ValueError, match=r"weights\.regressor: there are no ImageNet weights of small_"):
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

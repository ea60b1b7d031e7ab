from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import pytest
import torch
from torch import Tensor

from lchp.method.vit import TRANSFORMERS, make_transformer, torchvision_names
from lchp.training.network_config import WeightsFile
from lchp.training.weights import load_transformer_weights
from tests.method.tiny_transformer import TINY, dino_state


@pytest.fixture(autouse=True)
def with_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSFORMERS, "tiny", TINY)


def _saved(folder: Path, content: Any) -> WeightsFile:
    torch.save(content, folder / "dino.pth")
    return WeightsFile(file=folder / "dino.pth")


def _assert_holds(network: torch.nn.Module, state: dict[str, Tensor]) -> None:
    expected = torchvision_names(state)
    assert network.state_dict().keys() == expected.keys()
    for key, value in network.state_dict().items():
        assert torch.equal(value, expected[key].float()), key


def _refusal(source: WeightsFile) -> str:
    network = make_transformer("tiny", seed=0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"pseudo_boxes\.weights") as caught:
        load_transformer_weights(network, "tiny", source, "pseudo_boxes.weights")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    return str(caught.value)


def test_load_transformer_weights_file_under_dinos_names_fills_it(tmp_path: Path) -> None:
    state, network = dino_state(seed=1), make_transformer("tiny", seed=0)
    load_transformer_weights(network, "tiny", _saved(tmp_path, state), "pseudo_boxes.weights")
    _assert_holds(network, state)


def test_load_transformer_weights_file_under_torchvisions_names_with_its_head_fills_it(tmp_path: Path) -> None:
    state, network = dino_state(seed=1), make_transformer("tiny", seed=0)
    whole = torchvision_names(state) | {"heads.head.weight": torch.zeros(5, 12), "heads.head.bias": torch.zeros(5)}
    load_transformer_weights(network, "tiny", _saved(tmp_path, whole), "pseudo_boxes.weights")
    _assert_holds(network, state)


def test_load_transformer_weights_none_changes_nothing() -> None:
    network, fresh = make_transformer("tiny", seed=0), make_transformer("tiny", seed=0)
    load_transformer_weights(network, "tiny", "none", "pseudo_boxes.weights")
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), fresh.parameters(), strict=True))


def test_load_transformer_weights_of_a_whole_checkpoint_are_refused_with_the_way_out(tmp_path: Path) -> None:
    wrapped = dino_state(seed=1, prefix="module.backbone.")
    assert "a checkpoint with one under the key 'teacher'" in _refusal(_saved(tmp_path, {"teacher": wrapped}))
    message = _refusal(_saved(tmp_path, wrapped))
    assert message.endswith("save its tensors under name.removeprefix('module.backbone.')")


def test_load_transformer_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = dino_state(seed=1)
    state["pos_embed"] = torch.zeros(1, 5, 12)
    del state["norm.bias"]
    state["mask_token"] = torch.zeros(1)
    message = _refusal(_saved(tmp_path, state))
    assert "does not fit tiny: missing encoder.ln.bias; unknown mask_token; " in message
    assert "mismatching encoder.pos_embedding (1, 5, 12) instead of (1, 17, 12)" in message


def test_load_transformer_weights_missing_file_and_no_finite_numbers_are_refused(tmp_path: Path) -> None:
    message = _refusal(WeightsFile(file=tmp_path / "absent.pth"))
    assert message.endswith("does not exist: correct the path, or set pseudo_boxes.weights to pretrained")
    state = dino_state(seed=1)
    state["blocks.0.attn.qkv.weight"][0, 0] = torch.nan
    message = _refusal(_saved(tmp_path, state))
    assert (
        "encoder.layers.encoder_layer_0.self_attention.in_proj_weight has 1 of 432 values that are not fin" in message
    )


def test_load_transformer_weights_dino_downloads_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSFORMERS, "tiny", replace(TINY, url="https://example.org/dino/tiny.pth"))
    state, asked = dino_state(seed=1), []
    file = _saved(tmp_path, state).file

    def download(url: str, target: str, hash_prefix: str | None, progress: bool) -> None:
        asked.append((url, hash_prefix))
        shutil.copy(file, target)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    for _ in range(2):
        network = make_transformer("tiny", seed=0)
        load_transformer_weights(network, "tiny", "dino", "pseudo_boxes.weights")
        _assert_holds(network, state)
    assert asked == [("https://example.org/dino/tiny.pth", None)]


def test_load_transformer_weights_dino_without_a_network_or_an_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> NoReturn:
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(ValueError, match=re.escape("pseudo_boxes.weights: there are no DINO weights of tiny")):
        load_transformer_weights(make_transformer("tiny", 0), "tiny", "dino", "pseudo_boxes.weights")
    with pytest.raises(
        ValueError,
        match=r"dino_vits16 weights could.*no route.*pseudo_boxes\.weights\.file.*another pseudo_boxes\.source",
    ):
        load_transformer_weights(torch.nn.Identity(), "dino_vits16", "dino", "pseudo_boxes.weights")

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lchp.method.vit import (
    TRANSFORMERS,
    check_transformer_view,
    find_transformer,
    last_keys,
    make_transformer,
    position_embedding,
    torchvision_names,
)
from tests.method.tiny_transformer import TINY, dino_state


@pytest.fixture
def with_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSFORMERS, "tiny", TINY)


def keys_by_definition(state: dict[str, np.ndarray], image: np.ndarray, heads: int) -> np.ndarray:
    """The keys of the last block for one image (3, s, s) of the learned size, from DINO's own names, in NumPy."""
    width, patch = state["patch_embed.proj.weight"].shape[0], state["patch_embed.proj.weight"].shape[2]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-6)
        return unit * state[f"{name}.weight"] + state[f"{name}.bias"]

    rows = [state["cls_token"][0, 0]]
    for i in range(0, image.shape[1], patch):
        for j in range(0, image.shape[2], patch):
            cell = image[:, i : i + patch, j : j + patch].reshape(-1)
            rows.append(state["patch_embed.proj.weight"].reshape(width, -1) @ cell + state["patch_embed.proj.bias"])
    x = np.stack(rows) + state["pos_embed"][0]
    blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    erf = np.vectorize(lambda value: float(torch.erf(torch.tensor(value, dtype=torch.float64))))
    for block in range(blocks):
        q, k, v = np.split(linear(norm(x, f"blocks.{block}.norm1"), f"blocks.{block}.attn.qkv"), 3, axis=1)
        if block == blocks - 1:
            return np.asarray(k[1:])
        mixed = []
        for a, b, c in zip(*(np.split(part, heads, axis=1) for part in (q, k, v)), strict=True):
            scores = np.exp(a @ b.T / np.sqrt(a.shape[1]))
            mixed.append(scores / scores.sum(1, keepdims=True) @ c)
        x = x + linear(np.concatenate(mixed, 1), f"blocks.{block}.attn.proj")
        hidden = linear(norm(x, f"blocks.{block}.norm2"), f"blocks.{block}.mlp.fc1")
        x = x + linear(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, f"blocks.{block}.mlp.fc2")
    raise AssertionError("no block")


@pytest.mark.usefixtures("with_tiny")
def test_last_keys_under_dinos_names_equal_numpy() -> None:
    state = dino_state(seed=1)
    network = make_transformer("tiny", seed=0).double()
    network.load_state_dict(torchvision_names(state))
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keys, grid = last_keys(network, images)
    assert grid == (4, 4)
    arrays = {key: value.numpy() for key, value in state.items()}
    expected = [keys_by_definition(arrays, image, TINY.heads) for image in images.numpy()]
    np.testing.assert_allclose(keys.numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("with_tiny")
@pytest.mark.parametrize("size", [(24, 40), (48, 48), (8, 8)])
def test_last_keys_any_multiple_of_the_patch_has_one_per_patch(size: tuple[int, int]) -> None:
    network = make_transformer("tiny", seed=0)
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))
    keys, grid = last_keys(network, images)
    assert grid == (size[0] // 8, size[1] // 8)
    assert keys.shape == (3, grid[0] * grid[1], 12)
    assert not keys.requires_grad
    torch.testing.assert_close(last_keys(network, images[1:2])[0], keys[1:2], rtol=0, atol=1e-5)


def cubic_by_definition(line: np.ndarray, size: int) -> np.ndarray:
    """Bicubic interpolation (a = -0.75) of a line between cell centres, its ends repeated."""

    def weight(d: float) -> float:
        a, d = -0.75, abs(d)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    out = np.zeros(size)
    for i in range(size):
        x = (i + 0.5) * len(line) / size - 0.5
        for j in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            out[i] += weight(x - j) * line[min(max(j, 0), len(line) - 1)]
    return out


def test_position_embedding_is_interpolated_bicubically_but_for_the_class_token() -> None:
    learned = torch.randn(1, 17, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(position_embedding(learned, (4, 4)), learned)
    result = position_embedding(learned, (7, 3))
    assert torch.equal(result[:, 0], learned[:, 0])
    for channel in range(3):
        square = learned[0, 1:, channel].reshape(4, 4).numpy()
        wide = np.stack([cubic_by_definition(row, 3) for row in square])
        expected = np.stack([cubic_by_definition(column, 7) for column in wide.T], 1)
        np.testing.assert_allclose(result[0, 1:, channel].reshape(7, 3).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("with_tiny")
def test_make_transformer_is_frozen_its_weights_depend_on_the_seed_and_draw_nothing_else() -> None:
    before = torch.get_rng_state()
    first, again, other = (make_transformer("tiny", seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not first.training
    assert not any(value.requires_grad for value in first.parameters())

    def projection(network: torch.nn.Module) -> Tensor:
        return network.get_parameter("conv_proj.weight")

    assert torch.equal(projection(first), projection(again))
    assert not torch.equal(projection(first), projection(other))
    assert not [key for key in first.state_dict() if key.startswith("heads")]


@pytest.mark.parametrize(("name", "millions"), [("dino_vits16", 21.7), ("dino_vits8", 21.7), ("dino_vitb16", 85.8)])
def test_transformers_have_the_size_that_dino_states(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = make_transformer(name, seed=0)
    assert round(sum(value.numel() for value in network.parameters()) / 1e6, 1) == millions


def test_transformers_have_dinos_addresses_and_positions() -> None:
    for name, known in TRANSFORMERS.items():
        assert name == f"dino_vit{'s' if known.width == 384 else 'b'}{known.patch}"
        assert known.url is not None
        assert known.url.startswith("https://dl.fbaipublicfiles.com/dino/dino_")
        assert known.url.endswith(f"{known.patch}_pretrain.pth")
        assert known.width == 64 * known.heads


def test_find_transformer_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="no transformer 'dino_vits14': choose one of dino_vits16, dino_vits8"):
        find_transformer("dino_vits14")


@pytest.mark.parametrize("size", [0, 8, 200, 225])
def test_check_transformer_view_no_whole_number_of_patches_is_refused(size: int) -> None:
    check_transformer_view("dino_vits16", 224)
    with pytest.raises(ValueError, match=rf"a view of {size} px is no whole number of dino_vits16's patches of 16 px"):
        check_transformer_view("dino_vits16", size)

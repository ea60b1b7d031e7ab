"""Initial weights of the networks: torchvision's download, a local state dict, or none."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.models import Inception_V3_Weights, MobileNet_V2_Weights, ResNet50_Weights, VGG19_BN_Weights

from lchp.method.networks import BapClassifier, BoxRegressor
from lchp.store.tensors import reading_fault
from lchp.training.config import WeightsFile

IMAGENET = {
    "inception_v3": Inception_V3_Weights.IMAGENET1K_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "vgg19_bn": VGG19_BN_Weights.IMAGENET1K_V1,
    "mobilenet_v2": MobileNet_V2_Weights.IMAGENET1K_V1,
}
"""torchvision's first ImageNet weights of each network: the ones at hand when the paper was written."""

CUT_AWAY = {
    "inception_v3": ("AuxLogits.", "Mixed_7a.", "Mixed_7b.", "Mixed_7c.", "fc."),
    "resnet50": ("fc.",),
    "vgg19_bn": ("classifier.",),
    "mobilenet_v2": ("classifier.",),
    "small_cnn": ("block6.", "block7."),
}
"""What the state dict of a whole network may hold beyond a trunk's layers."""

NAMED_KEYS = 3
"""Keys that an error message names before it only counts."""


def load_weights(
    network: BapClassifier | BoxRegressor, name: str, source: Literal["imagenet", "none"] | WeightsFile
) -> None:
    """Gives the trunk of ``network``, which is the one called ``name``, its initial weights; the rest stays.

    ``imagenet`` downloads torchvision's weights once into torch.hub's folder and checks their hash; ``none`` changes
    nothing; a file holds a torchvision state dict of the whole network, or of the trunk. Raises ValueError, with what
    is wrong and the remedy, if there are no such weights, the download fails, or the file is missing, hashes to
    something else, cannot be read or does not fit.
    """
    if source == "none":
        return
    role = "classifier" if isinstance(network, BapClassifier) else "regressor"
    if isinstance(source, WeightsFile):
        where, state = f"weights.{role}.file {source.file}", _read(source, role)
    else:
        where, state = f"torchvision's {name} weights", _download(name, role)
    _fill(network, name, state, where)


def digest_of(source: str | WeightsFile, role: str) -> str | None:
    """The SHA-256 of a weight file; None of weights that lie in no file of the user's.

    Raises:
        ValueError: the file is missing, or hashes to something else than ``weights.<role>.sha256``.
    """
    if not isinstance(source, WeightsFile):
        return None
    where = f"weights.{role}.file {source.file}"
    if not source.file.is_file():
        raise ValueError(f"{where} does not exist: correct the path, or set weights.{role} to imagenet or none")
    found = sha256_of(source.file)
    if source.sha256 not in (None, found):
        raise ValueError(
            f"{where} hashes to {found}, not to weights.{role}.sha256 {source.sha256}: "
            "fetch the file again, or correct the hash"
        )
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in 64 lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(name: str, role: str) -> Mapping[str, Any]:
    remedy = f"give a local state dict under weights.{role}.file, or set weights.{role} to none"
    if name not in IMAGENET:
        raise ValueError(f"weights.{role} is 'imagenet', but there are no ImageNet weights of {name}: {remedy}")
    weights = IMAGENET[name]
    try:
        state: Mapping[str, Any] = weights.get_state_dict(
            progress=True, check_hash=True, weights_only=True, map_location="cpu"
        )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = reading_fault(error) if isinstance(error, pickle.UnpicklingError) else error
        raise ValueError(
            f"torchvision's {name} weights could not be had from {weights.url} ({reason}): {remedy}"
        ) from error
    return state


def _read(source: WeightsFile, role: str) -> Mapping[str, Any]:
    where = f"weights.{role}.file {source.file}"
    digest_of(source, role)
    remedy = "save the state_dict() of a torchvision network with torch.save"
    try:
        state = torch.load(source.file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever an alien file makes of the reader, it is the file that is at fault
        raise ValueError(f"{where} cannot be read as plain tensors ({reading_fault(error)}): {remedy}") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{where} holds no state dict, a mapping of names to tensors: {remedy}")
    return state


def _fill(network: BapClassifier | BoxRegressor, name: str, state: Mapping[str, Tensor], where: str) -> None:
    trunk = network.trunk.state_dict()
    # Files written before batch normalisation counted its batches lack these counts, and nothing here reads them.
    missing = [key for key in trunk if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in trunk and not key.startswith(CUT_AWAY[name])]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(trunk[key].shape)}"
        for key in trunk
        if key in state and state[key].shape != trunk[key].shape
    ]
    complaints = [
        f"{what} {_first(keys)}"
        for what, keys in (("missing", missing), ("unknown", unknown), ("mismatching", misshapen))
        if keys
    ]
    if complaints:
        raise ValueError(
            f"{where} does not fit {name}: {'; '.join(complaints)}. "
            f"Give the state dict of a {name}, its layers named as torchvision names them"
        )
    for key in trunk.keys() & state.keys():
        trunk[key].copy_(state[key])


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED_KEYS} more" if len(keys) > NAMED_KEYS else ""
    return ", ".join(keys[:NAMED_KEYS]) + more

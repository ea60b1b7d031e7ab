"""Initial weights of the networks: torchvision's download, a local state dict, or none."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn
from torch.hub import load_state_dict_from_url
from torchvision.models import WeightsEnum, get_weight

from lchp.at_work import doing, drawing_bar, is_quiet, on_terminal
from lchp.method.backbones import find_network
from lchp.method.networks import BapClassifier, BoxRegressor
from lchp.method.vit import find_transformer, torchvision_names
from lchp.store.tensors import reading_fault
from lchp.training.network_config import WeightsFile
from lchp.training.state_dicts import read_state_dict, tensor_fault
from lchp.training.weight_files import BOX_WEIGHTS, digest_of, given_weights

NAMED_KEYS = 3
"""Keys that an error message names before it only counts."""


def load_weights(
    network: BapClassifier | BoxRegressor, name: str, source: Literal["imagenet", "none"] | WeightsFile
) -> None:
    """Gives the trunk of ``network``, which is the one called ``name``, its initial weights; the rest stays.

    Sources and errors are those of :func:`load_trunk_weights`.
    """
    role = "classifier" if isinstance(network, BapClassifier) else "regressor"
    load_trunk_weights(network.trunk, name, source, f"weights.{role}")


def load_trunk_weights(
    trunk: nn.Module, name: str, source: Literal["imagenet", "none"] | WeightsFile, key: str
) -> None:
    """Gives ``trunk``, one of the network called ``name``, the weights that ``source``, the value of ``key``, asks for.

    ``imagenet`` downloads torchvision's weights once into torch.hub's folder and checks their hash; ``none`` changes
    nothing; a file holds a torchvision state dict of the whole network, or of the trunk. Raises ValueError, with what
    is wrong and the remedy, if there are no such weights, the download fails, or the file is missing, hashes to
    something else, cannot be read, does not fit or holds no finite numbers.
    """
    if source == "none":
        return
    network = find_network(name)
    if isinstance(source, WeightsFile):
        where, state = f"{key}.file {source.file}", _read(source, key)
    else:
        where, state = f"torchvision's {name} weights", _imagenet(name, key)
    pattern, today = network.old_names or ("$^", "")
    state = {re.sub(pattern, today, key): value for key, value in state.items()}
    _fill(trunk, name, network.cut_away, state, where)


def load_transformer_weights(
    transformer: nn.Module, name: str, source: Literal["dino", "none"] | WeightsFile, key: str
) -> None:
    """Gives ``transformer``, the one called ``name``, the weights that ``source``, the value of ``key``, asks for.

    ``dino`` downloads its authors' weights once into torch.hub's folder; their file names carry no hash to check. A
    file holds its state dict under DINO's or torchvision's names. Errors are those of :func:`load_trunk_weights`.
    """
    if source == "none":
        return
    if isinstance(source, WeightsFile):
        where, state = f"{key}.file {source.file}", _read(source, key)
    else:
        where, state = f"DINO's {name} weights", _dino(name, key)
    _fill(transformer, name, ("head.", "heads."), torchvision_names(state), where)


def imagenet_weights(name: str) -> WeightsEnum | None:
    """torchvision's ImageNet weights of a network, not downloaded yet; None where there are none."""
    known = find_network(name).imagenet
    return None if known is None else get_weight(known)


def _imagenet(name: str, key: str) -> Mapping[str, Tensor]:
    weights = imagenet_weights(name)
    if weights is None:
        raise ValueError(f"{key}: there are no ImageNet weights of {name}: {_without(key)}")
    return _downloaded(f"torchvision's {name} weights", weights.url, True, key)


def _dino(name: str, key: str) -> Mapping[str, Tensor]:
    url = find_transformer(name).url
    if url is None:
        raise ValueError(f"{key}: there are no DINO weights of {name}: {_without(key)}")
    return _downloaded(f"DINO's {name} weights", url, False, key)


def _downloaded(what: str, url: str, check_hash: bool, key: str) -> Mapping[str, Tensor]:
    """The state dict at ``url``, from torch.hub's folder if it was fetched before."""
    try:
        drawn = on_terminal() and not is_quiet()
        with drawing_bar() if drawn else doing(f"downloading {what}"):
            state: Mapping[str, Tensor] = load_state_dict_from_url(
                url, progress=drawn, check_hash=check_hash, weights_only=True, map_location="cpu"
            )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = reading_fault(error) if isinstance(error, pickle.UnpicklingError) else error
        raise ValueError(f"{what} could not be had from {url} ({reason}): {_without(key)}") from error
    return state


def _without(key: str) -> str:
    otherwise = "choose another pseudo_boxes.source" if key == BOX_WEIGHTS else f"set {key} to none"
    return f"give a local state dict under {key}.file, or {otherwise}"


def _read(source: WeightsFile, key: str) -> Mapping[str, Tensor]:
    digest_of(given_weights(source, key))
    try:
        return read_state_dict(source.file)
    except ValueError as error:
        raise ValueError(f"{key}.file {source.file} {error}") from error


def _fill(network: nn.Module, name: str, cut_away: tuple[str, ...], state: Mapping[str, Tensor], where: str) -> None:
    trunk = network.state_dict()
    if complaint := _misfit(trunk, name, cut_away, state) or _unfit_numbers(trunk, state):
        raise ValueError(f"{where} {complaint}")
    for key in trunk.keys() & state.keys():
        trunk[key].copy_(state[key])


def _misfit(
    trunk: Mapping[str, Tensor], name: str, cut_away: tuple[str, ...], state: Mapping[str, Tensor]
) -> str | None:
    """What of the names and shapes of ``state`` is not a trunk's, and the remedy."""
    # Files written before batch normalisation counted its batches lack these counts, and nothing here reads them.
    wanted = [key for key in trunk if not key.endswith("num_batches_tracked")]
    missing = [key for key in wanted if key not in state]
    prefix = next((key.removesuffix(wanted[0]) for key in state if key.endswith(f".{wanted[0]}")), None)
    if missing and prefix and all(prefix + key in state for key in wanted):
        return (
            f"has the names of {name} with {prefix!r} before them, as a wrapped network leaves them: "
            f"save its tensors under name.removeprefix({prefix!r})"
        )
    unknown = [key for key in state if key not in trunk and not key.startswith(cut_away)]
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
    if not complaints:
        return None
    return (
        f"does not fit {name}: {'; '.join(complaints)}. "
        f"Give the state dict of a {name}, its layers named as torchvision names them"
    )


def _unfit_numbers(trunk: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """What of the tensors of ``state`` cannot become a trunk's: the first of them and how many more there are."""
    faults = {key: fault for key in trunk if key in state and (fault := tensor_fault(state[key], trunk[key]))}
    if not faults:
        return None
    (key, fault), *others = faults.items()
    more = f" ({len(others)} more tensors have faults)" if others else ""
    return f"has no weights to start from: {key} {fault}{more}"


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED_KEYS} more" if len(keys) > NAMED_KEYS else ""
    return ", ".join(keys[:NAMED_KEYS]) + more

"""Whether pretrained weights can be had where they are not yet: told before anything starts, and without torch."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

from lchp.method.backbones import NETWORKS
from lchp.method.vit import TRANSFORMERS
from lchp.training.config import TrialConfig

_SECONDS = 4.0
"""How long a server may take to answer."""


def wanted(config: TrialConfig) -> dict[str, str]:
    """The key of every pretrained weights that a configuration starts from, and where they are to be had."""
    networks = {
        f"weights.{role}": NETWORKS[name].imagenet
        for role, name in (("classifier", config.classifier), ("regressor", config.backbone))
        if getattr(config.weights, role) == "imagenet"
    }
    found = {key: torchvision_url(weights) for key, weights in networks.items() if weights}
    boxes = config.pseudo_boxes
    if boxes.frozen and boxes.weights == "pretrained":
        weights = NETWORKS[boxes.network].imagenet if boxes.source == "ddt" else None
        url = torchvision_url(weights) if weights else TRANSFORMERS[boxes.transformer].url
        found["pseudo_boxes.weights"] = url
    return {key: url for key, url in found.items() if url}


@lru_cache
def torchvision_url(weights: str) -> str | None:
    """Where torchvision has weights (``MobileNet_V2_Weights.IMAGENET1K_V1``), as its source says, which is read and not
    imported; None where it says so no more.
    """
    spec = importlib.util.find_spec("torchvision")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    kind, member = weights.split(".")
    inside = r"(?:(?!^class ).*\n)*?"
    said = re.compile(
        rf'^class {kind}\(.*\n{inside}    {member} = Weights\(\s*(?:#.*\n\s*)*url="([^"]+)"', re.MULTILINE
    )
    for folder in folders:
        for file in sorted(Path(folder).glob("models/*.py")):
            if found := said.search(file.read_text(encoding="utf-8")):
                return found[1]
    return None


def unavailable(url: str) -> str | None:
    """Why the file at ``url`` can neither be found in torch.hub's folder nor fetched; None where it can."""
    file = hub_folder() / url.rpartition("/")[2]
    if file.is_file():
        return None
    host = urlsplit(url).hostname or ""
    reason = None if _proxied() else _unreachable(host)
    return f"{file} is not there, and {host} cannot be reached ({reason})" if reason else None


def hub_folder() -> Path:
    """Where torch.hub keeps what it has fetched."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"


def _proxied() -> bool:
    """Whether requests may go another way than straight to their server."""
    return any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"))


@lru_cache
def _unreachable(host: str) -> str | None:
    """Why nobody answers there. Looking a name up knows no limit of time: a thread of its own is not waited for."""
    answers: SimpleQueue[str | None] = SimpleQueue()

    def ask() -> None:
        try:
            socket.create_connection((host, 443), _SECONDS).close()
            answers.put(None)
        except OSError as error:
            answers.put(error.strerror or str(error))

    Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=_SECONDS)
    except Empty:
        return f"no answer in {_SECONDS:g} s"

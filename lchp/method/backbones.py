"""The names of the networks and the smallest view each can see.

Without torch, so that configurations are checked at once.
"""

from __future__ import annotations

MINIMUM_VIEW = {"inception_v3": 75, "resnet50": 32, "vgg19_bn": 32, "mobilenet_v2": 32, "small_cnn": 32}
"""Pixels of the smallest square view that leaves a regressor's last maps one cell: InceptionV3 pads nothing, so it
needs more."""


def check_network(name: str) -> None:
    """Raises ValueError if there is no network of this name."""
    if name not in MINIMUM_VIEW:
        raise ValueError(f"there is no network {name!r}: choose one of {', '.join(MINIMUM_VIEW)}")


def check_view(name: str, size: int) -> None:
    """Raises ValueError if a square view of ``size`` pixels is too small for the network, classifier or regressor."""
    check_network(name)
    if size < MINIMUM_VIEW[name]:
        raise ValueError(
            f"a view of {size} px is too small for {name}, which needs at least {MINIMUM_VIEW[name]} px: "
            "enlarge view.crop and view.resize, or choose another network"
        )

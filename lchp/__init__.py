"""LCHP: learning consistency from high-quality pseudo-labels (Sun & Zhu 2022), and a study platform around it.

``lchp.load_study``, ``run_study``, ``run_trial``, ``results``, ``per_image``, ``predict`` and ``compare`` are described
in ``lchp.api``, which is imported when one of them is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lchp.api import (
        Finished,
        Study,
        TrialConfig,
        compare,
        load_study,
        load_trial,
        per_image,
        predict,
        results,
        run_study,
        run_trial,
    )

__version__ = "0.3.0"
__all__ = [
    "Finished",
    "Study",
    "TrialConfig",
    "compare",
    "load_study",
    "load_trial",
    "per_image",
    "predict",
    "results",
    "run_study",
    "run_trial",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lchp import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

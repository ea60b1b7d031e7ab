"""One trial in this process, without Ray and without MLflow."""

from __future__ import annotations

from collections.abc import Callable

from lchp.errors import Refusal
from lchp.study.run.options import epoch_line
from lchp.study.run.prepare import require_images, require_weights
from lchp.training.config import TrialConfig
from lchp.training.material import Material, Runtime
from lchp.training.trial import TrialResult, run_trial


def run_single(config: TrialConfig, runtime: Runtime, echo: Callable[[str], None]) -> TrialResult:
    """Train one trial, or continue it, saying one line an epoch.

    Raises:
        Refusal: its data, an image or its weights cannot be used.
        ValueError, FloatingPointError: as ``lchp.training.trial.run_trial``.
    """
    try:
        material = Material.prepare(config, runtime)
    except (ValueError, OSError) as error:
        raise Refusal(str(error)) from error
    require_weights([(config, material)])
    require_images([(config, material)])
    return run_trial(config, runtime, lambda report: echo(epoch_line(report)), material, echo)

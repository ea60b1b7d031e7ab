"""One trial in this process, without Ray and without MLflow."""

from __future__ import annotations

from collections.abc import Callable

from lchp.at_work import doing
from lchp.reporting.evidence import read_evidence
from lchp.study.run.materials import Materials
from lchp.study.run.options import epoch_line, total_epochs
from lchp.study.run.prepare import require_batches, require_readable
from lchp.study.run.remaining import Pace
from lchp.training.config import TrialConfig
from lchp.training.material import Runtime
from lchp.training.stages import EpochReport
from lchp.training.trial import TrialResult, run_trial


def run_single(config: TrialConfig, runtime: Runtime, echo: Callable[[str], None]) -> TrialResult:
    """Train one trial, or continue it, saying one line an epoch.

    Raises:
        Refusal: its data, an image or its weights cannot be used, or a batch is larger than the data.
        ValueError, FloatingPointError: as ``lchp.training.trial.run_trial``.
    """
    materials = Materials(runtime)
    with doing("opening the data"):
        material = materials.of(config)
    for finding in materials.findings:
        echo(f"warning: {finding}")
    require_batches([(config, material)])
    with doing("looking at weights and images"):
        require_readable([(config, material)])
    pace, epochs, done = Pace(), total_epochs(config), 0

    def tell(report: EpochReport) -> None:
        nonlocal done
        done = report.step
        left = "" if report.reused else pace.left(0, epochs - report.step, report.seconds)
        echo(f"{epoch_line(report)}{left}")

    with doing(lambda: f"training, epoch {min(done + 1, epochs)} of {epochs}"):
        return run_trial(config, runtime, tell, material, echo)


def as_text(result: TrialResult) -> str:
    """A finished trial for a terminal: its scores, what they stand on, and where its files are."""
    scores = (f"{name} = {value:.4f}" for name, value in result.scores.items())
    evidence = read_evidence(result.folder)
    warnings = (f"warning: {text}" for text in evidence.warnings)
    return "\n".join([*scores, *evidence.counts, *warnings, f"results: {result.folder}"])

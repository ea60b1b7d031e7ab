"""Where a command computes, and how it says what it does: nothing here changes a result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lchp.errors import Refusal
from lchp.store.study_folder import store_of
from lchp.study.run.fitness import cluster_address
from lchp.training.config import TrialConfig
from lchp.training.environment import has_cuda
from lchp.vocabulary import GT_KNOWN, LOSS, METRICS, SELECTED, VAL, epoch_scores, training_key

if TYPE_CHECKING:
    from lchp.training.material import Runtime
    from lchp.training.stages import EpochReport


@dataclass(frozen=True)
class Machine:
    """The options of a command: cache folder, ``auto``, ``cpu`` or ``cuda``, threads that decode images, and the URI of
    a store that machines share.
    """

    cache: Path
    device: str = "auto"
    workers: int = 0
    shared: str | None = None

    def runtime(self, output: Path) -> Runtime:
        """The runtime of trials whose stages are kept in ``output/.store``.

        Raises:
            Refusal: CUDA is asked for, and this build of torch cannot use it.
        """
        from lchp.training.material import Runtime  # what reads images, which a plan does without

        is_elsewhere = self.device == "cuda" and cluster_address() is not None
        device = self.device if is_elsewhere else chosen_device(self.device)
        return Runtime(store_of(output.absolute()), self.cache.absolute(), device, self.workers, shared=self.shared)


def chosen_device(asked: str) -> str:
    """``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        Refusal: CUDA is asked for, and this build of torch cannot use it.
    """
    there = asked != "cpu" and has_cuda()
    if asked == "cuda" and not there:
        # The driver shows a device, or none was looked for: this build of torch cannot use it.
        raise Refusal("--device cuda: torch finds no usable CUDA device on this machine: use --device cpu")
    return ("cuda" if there else "cpu") if asked == "auto" else asked


def total_epochs(config: TrialConfig) -> int:
    """Epochs over both stages."""
    return config.initialization.epochs + config.refinement.epochs


def epoch_line(report: EpochReport | dict[str, Any]) -> str:
    """One finished epoch for people: stage, epoch, loss, selected boxes and, where val was measured, GT-Known."""
    values = report if isinstance(report, dict) else asdict(report)
    metrics, stage = values["metrics"], values["stage"]
    parts = [f"{stage} {values['epoch']}"]
    if (loss := training_key(stage, LOSS)) in metrics:
        parts.append(f"loss {metrics[loss]:.4f}")
    if (selected := training_key(stage, SELECTED)) in metrics:
        parts.append(f"selected {metrics[selected]:.1%}")
    shown = [f"{method.title} {value:.3f}" for method, value in epoch_scores(metrics, GT_KNOWN)]
    if shown:
        parts.append(f"{VAL} {METRICS[GT_KNOWN].title} {', '.join(shown)}")
    parts.append("reused" if values["reused"] else f"{values['seconds']:.1f} s")
    return "  ".join(parts)

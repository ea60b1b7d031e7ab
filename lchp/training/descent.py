"""How a stage's networks descend: the paper's optimizer, the classifier's decay and momentum copy, and what may calm
the regressor's way and its end.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, LRScheduler

from lchp.method import momentum
from lchp.method.networks import BapClassifier, BoxRegressor
from lchp.training.config import TrialConfig
from lchp.training.stage_config import DescentConfig, OptimizerConfig


def descent(network: nn.Module, rate: float, config: OptimizerConfig) -> torch.optim.SGD:
    """The paper's optimizer (4.3) over all parameters of a network, which lies on its device; on CUDA a step is a few
    launches.
    """
    parameters = list(network.parameters())
    return torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=parameters[0].is_cuda or None,
    )


def _continue(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Continues from an optimizer's state, which may come from another device: how a step is carried out stays, and in
    what layout of memory, which a fused step wants alike of weights and momenta.
    """
    fused = [group["fused"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter).copy_(value)
    for group, here in zip(optimizer.param_groups, fused, strict=True):
        group["fused"] = here


class ClassifierDescent:
    """The descent of a classifier, which lies on its device, and of the momentum copy that follows it (Eq. 7)."""

    def __init__(self, classifier: BapClassifier, momentum_network: BapClassifier, config: TrialConfig) -> None:
        self.classifier, self.momentum_network, self.beta = classifier, momentum_network, config.beta
        stage = config.initialization
        self.optimizer = descent(classifier, stage.classifier_rate, stage.optimizer)
        self.schedule = ExponentialLR(self.optimizer, stage.classifier_decay)

    def step(self) -> None:
        """One optimization step along the gradients that lie at the classifier, then Eq. 7."""
        self.optimizer.step()
        momentum.update(self.momentum_network, self.classifier, self.beta)

    def end_epoch(self) -> None:
        """To be called after every epoch."""
        self.schedule.step()

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "classifier": self.classifier.state_dict(),
            "momentum": self.momentum_network.state_dict(),
            "classifier_optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from what :meth:`state` gave; further keys are not read."""
        self.classifier.load_state_dict(state["classifier"])
        self.momentum_network.load_state_dict(state["momentum"])
        _continue(self.optimizer, state["classifier_optimizer"])
        self.schedule.load_state_dict(state["schedule"])


class RegressorDescent:
    """The descent of a regressor, which lies on its device: optimizer, warm-up, schedule, clipping, averaged weights.

    Whatever the configuration leaves at its default does nothing, and the bits are those of the bare optimizer.
    """

    def __init__(
        self, regressor: BoxRegressor, rate: float, epochs: int, optimizer: OptimizerConfig, config: DescentConfig
    ) -> None:
        """``epochs`` is how many the regressor learns."""
        self.regressor = regressor
        self.config = config
        self.optimizer = descent(regressor, rate, optimizer)
        self.schedules: dict[str, LRScheduler] = {}
        # torch's recursive forms multiply the rate by the ratio of two factors, and so work upon each other.
        if config.warmup:
            self.schedules["warmup"] = LinearLR(self.optimizer, 1 / (config.warmup + 1), total_iters=config.warmup)
        if config.schedule == "cosine":
            self.schedules["schedule"] = CosineAnnealingLR(self.optimizer, T_max=epochs)
        averages = config.report == "average"
        self.average = copy.deepcopy(regressor).requires_grad_(False).eval() if averages else None
        self.averaged = 0

    @property
    def reported(self) -> BoxRegressor:
        """The regressor that is measured and stored."""
        return self.regressor if self.average is None else self.average

    def step(self) -> None:
        """One optimization step along the gradients that lie at the regressor."""
        if self.config.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.regressor.parameters(), self.config.clip)
        self.optimizer.step()
        if "warmup" in self.schedules:
            self.schedules["warmup"].step()
        if self.average is not None:
            momentum.average(self.average, self.regressor, self.config.average_momentum, self.averaged)
            self.averaged += 1

    def end_epoch(self) -> None:
        """To be called after every epoch in which the regressor learned."""
        if "schedule" in self.schedules:
            self.schedules["schedule"].step()

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, the regressor apart."""
        state: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        state |= {name: schedule.state_dict() for name, schedule in self.schedules.items()}
        if self.average is not None:
            state |= {"average": self.average.state_dict(), "averaged": self.averaged}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from what :meth:`state` gave under the same configuration."""
        _continue(self.optimizer, state["optimizer"])
        for name, schedule in self.schedules.items():
            schedule.load_state_dict(state[name])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
            self.averaged = state["averaged"]

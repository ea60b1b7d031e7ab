"""Mean and spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """``n`` values in two numbers: mean and sample standard deviation, None where a single value shows no spread."""

    n: int
    mean: float
    std: float | None

    def text(self, places: int) -> str:
        """``mean ± spread (n)``, or ``mean (1)``, with so many decimals."""
        spread = "" if self.std is None else f" ± {self.std:.{places}f}"
        return f"{self.mean:.{places}f}{spread} ({self.n})"


def summarize(values: Sequence[float]) -> Summary | None:
    """Mean and sample standard deviation (divisor n - 1), None for no values.

    Sums are exactly rounded, so that the order of the values does not matter.
    """
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(1, mean, None)
    return Summary(n, mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)))

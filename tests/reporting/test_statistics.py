from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lchp.reporting.statistics import Summary, summarize


def test_summarize_three_values_by_hand() -> None:
    assert summarize([1.0, 2.0, 6.0]) == Summary(3, 3.0, 7.0**0.5)


def test_summarize_one_value_has_no_spread() -> None:
    assert summarize([0.5]) == Summary(1, 0.5, None)


def test_summarize_nothing_is_none() -> None:
    assert summarize([]) is None


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_summarize_any_order_agrees_with_numpy(values: list[float]) -> None:
    found = summarize(values)
    assert found is not None
    assert found.std is not None
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert summarize(values[::-1]) == found

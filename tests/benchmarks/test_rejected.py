"""The benchmark of dropped views counts what each way of refinement computes."""

from __future__ import annotations

import cases
import pytest
import rejected


def test_a_step_asks_for_less_by_the_share_of_views_that_do_not_pass() -> None:
    case = cases.CASES["tiny"]
    batch = rejected.batch_of(case, "cpu")
    whole, all_pass, half, quarter = (
        rejected.gflop(rejected.stage_of(case, {}, word, keep, "cpu"), batch)
        for word, keep in (("mask", 0.25), ("drop", 1.0), ("drop", 0.5), ("drop", 0.25))
    )
    assert all_pass == whole
    # Of eight views four and two pass.
    assert (whole - half) / 0.5 == pytest.approx((whole - quarter) / 0.75)
    assert half < 0.75 * whole

"""The benchmark of dropped views counts what each way of refinement computes."""

from __future__ import annotations

import cases
import rejected


def test_a_step_without_rejected_views_asks_for_less_by_their_share_of_the_regressors_work() -> None:
    case = cases.CASES["tiny"]
    batch = rejected.batch_of(case, "cpu")
    whole, parts, none = (
        rejected.gflop(rejected.stage_of(case, {}, word, keep, "cpu"), batch)
        for word, keep in (("mask", 0.25), ("drop", 0.25), ("drop", 1.0))
    )
    assert none == whole
    # Of eight views two pass; forth and back is somewhat more than half of what two networks forth and that are.
    assert 0.75 * 0.5 < 1 - parts / whole < 0.75 * 0.6

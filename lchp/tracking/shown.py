"""Which numbers a trial's run shows, and under which names: few, and those that are read first before the others.

A run has ``<method>/<split>/<metric>`` of the metrics of ``vocabulary.TRACKED``; beside them, under names that sorted
lists begin with, its headline (``GT-Known test/LCHP-R``); and ``top1_cls/<split>``, which is of no method. Whatever a
trial was measured by stands in its artifact scores.json, and in results.csv of its study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lchp.vocabulary import GT_KNOWN, TEST, TOP1_CLS, Score, headline, is_training_key

HEADLINE = headline(TEST)
"""Of a trial of no search."""


def shown_metrics(values: Mapping[str, float], first: Sequence[str] = HEADLINE) -> dict[str, float]:
    """What a run shows of an epoch's metrics or of a trial's scores, in the order in which it lists them.

    Args:
        first: the keys of the scores that are its headline.
    """
    scores = {key: float(value) for key, value in values.items() if not is_training_key(key)}
    found = {Score.parse(key).title: scores[key] for key in first if key in scores}
    parsed = sorted(map(Score.parse, scores), key=_place)
    found |= {score.key: scores[score.key] for score in parsed if score.is_tracked}
    found |= {f"{TOP1_CLS}/{score.split}": scores[score.key] for score in parsed if score.metric == TOP1_CLS}
    return found | {key: float(value) for key, value in values.items() if is_training_key(key)}


def _place(score: Score) -> tuple[int, int, int]:
    """LCHP-R before what it is made from, test before val, GT-Known before the others."""
    method, split, metric = score.place
    return -method, -split, metric


def shown_best(best: Mapping[str, float], first: Sequence[str] = HEADLINE) -> dict[str, float]:
    """What a run shows of the best values on val, ``best_<key>``: GT-Known, and the headline."""
    return {f"best_{key}": value for key, value in best.items() if key in first or Score.parse(key).metric == GT_KNOWN}

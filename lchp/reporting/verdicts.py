"""What a study's results say of its claims: each holds, does not hold, or is open with this data; claims.md and .csv.

A claim is about the method, not about the networks that happened to be trained: it wants the word of new seeds and,
where single images are known, of other images; where all seeds have the same difference, of other images alone. One
that says several things holds where each of them does (each at LEVEL), and does not where one of them is contradicted
(by Holm over all). What is in between is open, and so is whatever stands on one seed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from lchp.errors import counted
from lchp.reporting.claims import SELECTIONS, Best, Claim, Compares, Moves
from lchp.reporting.confidence import selected_of
from lchp.reporting.differences import interval_text, new_seeds_text
from lchp.reporting.paired import Results
from lchp.reporting.sides import Side
from lchp.reporting.statistics import LEVEL, ONE_SEED, Comparison, compare, holm, seeds_needed, summarize
from lchp.vocabulary import METHODS, METRICS

State = Literal["holds", "does not hold", "open"]
HOLDS: State = "holds"
DOES_NOT: State = "does not hold"
OPEN: State = "open"
MISSING = "finish the trials that are missing"
MORE_SEEDS = f"{ONE_SEED}; give the study three seeds or more"
UNTAUGHT = "a lower tau, not more seeds: no box was selected, so that refinement learned from none"
SELECTED_ELSEWHERE = "what is selected stands in the trials' own files alone"


@dataclass(frozen=True)
class Verdict:
    """What the results say of a claim.

    Attributes:
        claim: its words.
        in_the_mean: whether the means alone, noise and all, are as it says; None where some are missing.
        numbers: one line for each thing that it says.
        remedy: what would decide it, where it is open.
    """

    claim: str
    state: State
    in_the_mean: bool | None
    numbers: tuple[str, ...]
    remedy: str = ""

    @property
    def sentence(self) -> str:
        """The claim and its verdict, for people, in Markdown."""
        return f"`{self.claim}` {self.words}."

    @property
    def words(self) -> str:
        """The verdict, which goes on where the claim ends."""
        means = {True: "the means are so", False: "the means are not so", None: "numbers are missing"}
        opened = "cannot be decided by one seed" if self.remedy == MORE_SEEDS else "is open with this data"
        return f"{opened} ({means[self.in_the_mean]})" if self.state == OPEN else self.state


def judge(claims: Sequence[Claim], results: Results) -> list[Verdict]:
    """The verdicts, in the order of the claims."""
    return [_judge(claim, results) for claim in claims]


def _judge(claim: Claim, results: Results) -> Verdict:
    if isinstance(claim.rule, Compares):
        return _of_parts(claim, claim.rule, results)
    if isinstance(claim.rule, Moves):
        return _of_moves(claim, claim.rule, results)
    return _of_best(claim, claim.rule, results)


def _of_parts(claim: Claim, rule: Compares, results: Results) -> Verdict:
    # `a < b` is `b > a`.
    turned, equal = rule.relation.startswith("<"), rule.relation.endswith("=")
    found = [
        results.compare(*((part.right, part.left) if turned else (part.left, part.right)), claim.metric)
        for part in rule.parts
    ]
    numbers = tuple(
        f"{part.at or 'difference'}: {_shown(one, claim.metric)}" for part, one in zip(rule.parts, found, strict=True)
    )
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        sides = [side for part in rule.parts for side in (part.left, part.right)]
        return Verdict(
            claim.text, OPEN, None, numbers, _missing(results, [side.method for side in sides], claim.metric)
        )
    mean = all(one.difference > 0 or (equal and one.difference == 0) for one in known)
    verdict = _verdict(claim, known, known, mean, numbers, equal)
    is_untaught = any(results.is_untaught(side) for part in rule.parts for side in (part.left, part.right))
    return replace(verdict, remedy=UNTAUGHT) if verdict.state == OPEN and is_untaught else verdict


def _verdict(
    claim: Claim,
    shown: Sequence[Comparison],
    refuting: Sequence[Comparison],
    mean: bool,
    numbers: tuple[str, ...],
    equal: bool = False,
) -> Verdict:
    """A claim that holds where all of ``shown`` are above 0, or nothing where ``equal`` will do, and does not where one
    of ``refuting`` is below.
    """
    unclear = [one for one in shown if one.sign <= 0 and not (equal and one.is_nothing)]
    if mean and not unclear:
        return Verdict(claim.text, HOLDS, mean, numbers)
    against = holm([one.p if one.difference < 0 else 1.0 for one in refuting])
    if any(p is not None and p < 1 - LEVEL for p in against):
        return Verdict(claim.text, DOES_NOT, mean, numbers)
    unclear = [one for one in unclear if one.sign == 0] or [one for one in refuting if one.difference < 0]
    return Verdict(claim.text, OPEN, mean, numbers, _remedy(unclear))


def _missing(results: Results, methods: Sequence[str], metric: str) -> str:
    """What would fill a gap: trials, or another dataset where not one trial has measured it."""
    lacking = [METHODS[name] for name in dict.fromkeys(methods) if not results.measures(name, metric)]
    if not lacking or results.is_empty:
        return MISSING
    titles = " and ".join(method.title for method in lacking)
    what = f"{METRICS[metric].title} of {titles} is measured on {results.split} in no trial"
    if METRICS[metric].later:
        return f"{what}: results of before version 0.3 lack it, the same study trained anew has it"
    if METRICS[metric].needs_boxes:
        training = ", of training images too" if any(method.needs_boxes for method in lacking) else ""
        return f"{what}: it wants true boxes{training}, which the dataset does not have: leave the claim out"
    return f"{what}: leave the claim out"


def _remedy(unclear: Sequence[Comparison]) -> str:
    """What would decide comparisons that are not."""
    if any(len(one.by_seed) < 2 for one in unclear):
        return MORE_SEEDS
    if any(one.is_steady and one.images is None for one in unclear):
        return "single images, which stand in the trials' own files alone: all seeds have the same difference"
    if any(one.is_nothing for one in unclear):
        return "other test images: on these nothing differs, with any seed"
    by_images = [
        one
        for one in unclear
        if one.images is not None and (one.is_steady or (one.new_seeds is not None and one.new_seeds.sign))
    ]
    if by_images and len(by_images) == len(unclear):
        return "more test images would decide it, not more seeds"
    needed = [seeds_needed(one.by_seed) for one in unclear if one not in by_images]
    if not needed:
        return "the differences are as clear as they get, and say both"
    seen = [one.new_seeds.smallest for one in unclear if one.new_seeds]
    below = f"; with these seeds differences below {max(seen):.2f} cannot be seen" if seen else ""
    most = None if None in needed else max(one for one in needed if one is not None)
    if most is None:
        return f"no number of seeds that anybody trains: the means hardly differ{below}"
    return f"about {most} seeds, if the differences stay as they are{below}"


def _shown(found: Comparison | None, metric: str) -> str:
    """The numbers of a comparison: positive where they are as the claim says."""
    if found is None:
        return "not measured"
    unit = " points" if METRICS.get(metric) and METRICS[metric].share else ""
    seeds = f"n = {counted(len(found.by_seed), 'seed')}"
    parts = [f"{found.difference:+.2f}{unit} ({seeds})"]
    parts.append(("new seeds " if found.new_seeds else "") + new_seeds_text(found))
    if found.images is not None:
        parts.append(f"these seeds {interval_text(found.these_seeds)}")
    return ", ".join(parts)


def _of_moves(claim: Claim, rule: Moves, results: Results) -> Verdict:
    contrast = _contrasts(claim, rule, results)
    steps = len(rule.settings)
    sign = 1 if rule.rises else -1
    middle = (steps - 1) / 2
    scale = sum((at - middle) ** 2 for at in range(steps))
    slope = contrast(list(rule.settings), [sign * (at - middle) / scale for at in range(steps)])
    moves = [contrast(list(pair), [-sign, sign]) for pair in pairwise(rule.settings)]
    known = [one for one in moves if one is not None]
    if slope is None or len(known) < len(moves):
        own_files = rule.series in SELECTIONS and not any(trial.selection for trial in results.trials)
        of = [] if rule.series in SELECTIONS else [rule.series]
        remedy = SELECTED_ELSEWHERE if own_files else _missing(results, of, claim.metric)
        return Verdict(claim.text, OPEN, None, (), remedy)
    metric = "" if rule.series == SELECTIONS[0] else claim.metric
    labels = [f"{rule.key} {one[rule.key]} to {two[rule.key]}" for one, two in pairwise(rule.settings)]
    word = "rise" if rule.rises else "fall"
    numbers = [f"mean {word} a step: {_shown(slope, metric)}"]
    numbers += [f"{word} from {label}: {_shown(one, metric)}" for label, one in zip(labels, known, strict=True)]
    mean = all(one.difference >= 0 for one in known) and slope.difference > 0
    return _verdict(claim, [slope], [slope, *known], mean, tuple(numbers))


_Contrast = Callable[[Sequence[Mapping[str, Any]], Sequence[float]], Comparison | None]


def _contrasts(claim: Claim, rule: Moves, results: Results) -> _Contrast:
    """Weighted sums of a series over settings."""
    if rule.series in SELECTIONS:

        def of_selection(settings: Sequence[Mapping[str, Any]], weights: Sequence[float]) -> Comparison | None:
            common = set.intersection(*(set(results.seeds(setting)) for setting in settings))
            by_seed = []
            for seed in sorted(common):
                values = [_selected(results, setting, seed, rule.series) for setting in settings]
                known = [value for value in values if value is not None]
                if len(known) == len(settings):
                    by_seed.append(sum(weight * value for weight, value in zip(weights, known, strict=True)))
            return compare(by_seed) if by_seed else None

        return of_selection

    def of_scores(settings: Sequence[Mapping[str, Any]], weights: Sequence[float]) -> Comparison | None:
        return results.contrast([Side(setting, rule.series) for setting in settings], weights, claim.metric)

    return of_scores


def _selected(results: Results, setting: Mapping[str, Any], seed: int, series: str) -> float | None:
    """What a trial's confidence selects of the training images (Table 4, left)."""
    trial = results.trial(setting, seed)
    found = selected_of([trial], setting.get("tau"))[series] if trial else None
    return None if found is None else found.mean


def _of_best(claim: Claim, rule: Best, results: Results) -> Verdict:
    methods = [rule.method, *([rule.other] if rule.other else [])]
    found = [_best_settings(rule, method, results, claim.metric) for method in methods]
    tried = [one for one in found if one is not None]
    if len(tried) < len(found):
        return Verdict(claim.text, OPEN, None, (), _missing(results, methods, claim.metric))
    numbers = tuple(
        f"best {rule.key} of {METHODS[method].title}: {values[0]}"
        + (f", not told apart from {', '.join(map(str, values[1:]))}" if values[1:] else "")
        for method, values in zip(methods, tried, strict=True)
    )
    # Every pair of settings that may be the best ones: the first pair is the best in the mean.
    fits = [_fits(rule, one, other) for one in tried[0] for other in tried[-1] if rule.other or one == other]
    if all(fits) or not any(fits):
        return Verdict(claim.text, HOLDS if fits[0] else DOES_NOT, fits[0], numbers)
    one_seed = min(len(results.seeds(setting)) for setting in rule.settings) < 2
    remedy = MORE_SEEDS if one_seed else "more seeds, which tell the best setting from those beside it"
    return Verdict(claim.text, OPEN, fits[0], numbers, remedy)


def _fits(rule: Best, one: Any, other: Any) -> bool:
    if rule.inside:
        return bool(rule.settings[0][rule.key] < one < rule.settings[-1][rule.key])
    if rule.relation is None:
        return bool(one == rule.value)
    return bool({">": one > other, ">=": one >= other, "<": one < other, "<=": one <= other}[rule.relation])


def _best_settings(rule: Best, method: str, results: Results, metric: str) -> list[Any] | None:
    """The values at which a method may be best: the best in the mean, then those that are not clearly worse (adjusted
    by Bonferroni, because the best one was chosen by the same data); None where something is missing.
    """
    sides = [Side(setting, method) for setting in rule.settings]
    means = [
        summarize([v for seed in results.seeds(side.setting) if (v := results.value(side, seed, metric)) is not None])
        for side in sides
    ]
    if any(mean is None for mean in means):
        return None
    best = max(range(len(sides)), key=lambda at: means[at].mean)  # type: ignore[union-attr]
    values = [sides[best].setting[rule.key]]
    for at, side in enumerate(sides):
        found = results.compare(sides[best], side, metric) if at != best else None
        if at != best and (found is None or (len(sides) - 1) * found.p >= 1 - LEVEL):
            values.append(side.setting[rule.key])
    return values


def answer(verdicts: Sequence[Verdict]) -> str:
    """How many claims hold, in one sentence."""
    counts = [(sum(one.state == state for one in verdicts), state) for state in (HOLDS, DOES_NOT, OPEN)]
    words = {HOLDS: ("holds", "hold"), DOES_NOT: ("does not hold", "do not hold"), OPEN: ("is open", "are open")}
    parts = [f"{count} {words[state][count != 1]}" for count, state in counts if count]
    text = f"Of {counted(len(verdicts), 'claim')} {', '.join(parts)}."
    on_one_seed = sum(one.remedy == MORE_SEEDS for one in verdicts)
    return f"{text} One seed cannot decide {on_one_seed} of them." if on_one_seed else text


def claims_csv(verdicts: Iterable[Verdict]) -> str:
    """One line a claim."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["claim", "verdict", "in_the_mean", "numbers", "remedy"])
    for one in verdicts:
        mean = "" if one.in_the_mean is None else str(one.in_the_mean).lower()
        writer.writerow([one.claim, one.state, mean, "; ".join(one.numbers), one.remedy])
    return text.getvalue()


def claims_markdown(verdicts: Sequence[Verdict]) -> str:
    """The answer, and every claim with its verdict, its numbers and what would decide it."""
    lines = [answer(verdicts), ""]
    for one in verdicts:
        lines.append(f"- {one.sentence}")
        lines += [f"  - {number}" for number in one.numbers]
        lines += [f"  - to decide it: {one.remedy}"] if one.remedy else []
    return "\n".join(lines) + "\n"

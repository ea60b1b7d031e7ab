from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from lchp.reporting.claims import Space
from lchp.reporting.grammar import parse
from lchp.reporting.paired import Results
from lchp.reporting.per_image import ImageValues
from lchp.reporting.verdicts import Verdict, answer, claims_csv, claims_markdown, judge

DELTAS = (0.5, 0.6, 0.7, 0.8)
SPACE = Space({"delta": 0.7}, tuple({"delta": delta} for delta in DELTAS))


def judged(text: str, means: Mapping[str, tuple[float, ...]], spread: float = 0.01, seeds: int = 5) -> Verdict:
    """The verdict on methods that have these GT-Known at each delta, over seeds that differ by ``spread``."""
    generator = np.random.default_rng(0)
    rows = [
        ("s", f"{delta}-{seed}", seed, delta, method, "test", "gt_known", mean + generator.normal(0, spread))
        for method, values in means.items()
        for delta, mean in zip(DELTAS, values, strict=False)
        for seed in range(seeds)
    ]
    columns = ["study", "run_id", "seed", "delta", "method", "split", "metric", "value"]
    return judge([parse(text, SPACE)], Results(pd.DataFrame(rows, columns=columns), "test"))[0]


R, I = (0.5, 0.6, 0.8, 0.7), (0.4, 0.6, 0.5, 0.3)  # noqa: E741
BOTH = {"lchp_r": R, "lchp_i": I}

CASES = [
    ("lchp_r > lchp_i", "holds", True),
    ("lchp_i < lchp_r", "holds", True),
    ("lchp_i > lchp_r", "does not hold", False),
    ("lchp_r > lchp_i for delta = 0.6", "open", None),
    ("lchp_r > lchp_i for every delta", "open", None),
    ("lchp_i > lchp_r for every delta", "does not hold", False),
    ("0.7 > every other delta", "holds", True),
    ("0.6 > every other delta", "does not hold", False),
    ("lchp_i rises with delta", "does not hold", False),
    ("best delta of lchp_r is inside", "holds", True),
    ("best delta of lchp_r is 0.7", "holds", True),
    ("best delta of lchp_i is 0.7", "does not hold", False),
    ("best delta of lchp_r > best delta of lchp_i", "holds", True),
    ("best delta of lchp_i >= best delta of lchp_r", "does not hold", False),
]


@pytest.mark.parametrize(("text", "state", "mean"), CASES)
def test_judge_planted_results_have_their_verdict(text: str, state: str, mean: bool | None) -> None:
    found = judged(text, BOTH)
    assert found.state == state
    assert mean is None or found.in_the_mean == mean
    assert found.numbers
    assert (found.remedy != "") == (state == "open")


def test_judge_a_difference_within_the_noise_is_open_and_says_how_many_seeds_would_decide() -> None:
    found = judged("lchp_r > lchp_i", {"lchp_r": (0.53,) * 4, "lchp_i": (0.5,) * 4}, spread=0.05)
    assert found.state == "open"
    assert "seeds, if the differences stay as they are; with these seeds differences below" in found.remedy
    assert "n = 5 seeds" in found.numbers[0]
    assert "is open with this data" in found.sentence


def test_judge_a_monotone_series_rises_and_one_with_a_clear_dip_does_not() -> None:
    assert judged("lchp_r rises with delta", {"lchp_r": (0.4, 0.5, 0.6, 0.7)}).state == "holds"
    assert judged("lchp_r falls with delta", {"lchp_r": (0.4, 0.5, 0.6, 0.7)}).state == "does not hold"
    assert judged("lchp_r rises with delta", {"lchp_r": (0.4, 0.5, 0.3, 0.9)}).state == "does not hold"
    flat = judged("lchp_r rises with delta", {"lchp_r": (0.5,) * 4})
    assert flat.state == "open"


@pytest.mark.parametrize(
    "text", ["lchp_r > lchp_i", "lchp_r rises with delta", "best delta of lchp_r is 0.7", "lchp_i > lchp_r"]
)
def test_judge_one_seed_makes_no_statement(text: str) -> None:
    found = judged(text, BOTH, seeds=1)
    assert found.state == "open"
    assert "one seed: no statement" in found.remedy
    assert "cannot be decided by one seed (the means are" in found.sentence
    assert answer([found, found]).endswith(" are open. One seed cannot decide 2 of them.")


def test_judge_what_is_not_measured_is_open() -> None:
    found = judged("lchp_r > centred_box", BOTH)
    assert (found.state, found.in_the_mean, found.numbers) == ("open", None, ("difference: not measured",))
    assert found.remedy.startswith("GT-Known of Best centred box is measured on test in no trial: it wants true boxes")
    assert judged("lchp_r > lchp_i in log_area_spread", BOTH).remedy.endswith("trained anew has it")
    assert judged("lchp_r > lchp_i in top1_cls", BOTH).remedy.endswith("in no trial: leave the claim out")
    assert "of Pseudo Label is" in judged("pseudo_label rises with delta", BOTH).remedy
    fewer = {"lchp_r": R[:2], "lchp_i": I[:2]}
    assert judged("lchp_r > lchp_i for delta = 0.8", fewer).remedy == "finish the trials that are missing"
    assert judged("selected rises with delta", BOTH).remedy == "what is selected stands in the trials' own files alone"
    assert judged("best delta of pseudo_label is inside", BOTH).in_the_mean is None


def test_judge_claims_that_are_true_by_chance_alone_are_rarely_said_to_hold() -> None:
    alike = {"lchp_r": (0.5,) * 4, "lchp_i": (0.5,) * 4}
    rows = []
    generator = np.random.default_rng(1)
    repetitions = 400
    columns = ["study", "run_id", "seed", "delta", "method", "split", "metric", "value"]
    for _ in range(repetitions):
        frame = pd.DataFrame(
            [
                ("s", f"{delta}-{seed}", seed, delta, method, "test", "gt_known", generator.normal(0.5, 0.03))
                for method in alike for delta in (0.7,) for seed in range(3)
            ],
            columns=columns,
        )  # fmt: skip
        claim = parse("lchp_r > lchp_i", Space({"delta": 0.7}, ({"delta": 0.7},)))
        rows += [judge([claim], Results(frame, "test"))[0].state]
    assert rows.count("holds") + rows.count("does not hold") <= 0.075 * repetitions
    assert rows.count("open") >= 0.925 * repetitions


IMAGES = 40
SAME = np.random.default_rng(2).random(IMAGES) < 0.6
BETTER = np.ones(IMAGES, bool)


def of_images(text: str, lchp_r: np.ndarray, lchp_i: np.ndarray, seeds: int = 3) -> Verdict:
    """The verdict where every seed hits the same images, of eight classes."""
    classes = np.arange(IMAGES) % 8
    rows, hits = [], {"lchp_r": lchp_r, "lchp_i": lchp_i}
    for seed in range(seeds):
        rows += [("s", str(seed), seed, name, "test", "gt_known", found.mean()) for name, found in hits.items()]
    found = Results(
        pd.DataFrame(rows, columns=["study", "run_id", "seed", "method", "split", "metric", "value"]), "test"
    )
    ious = {name: hits.astype(float) for name, hits in hits.items()}
    images = ImageValues(tuple(map(str, range(IMAGES))), classes, ious, ious, ious)
    found.images = lambda *_: images  # type: ignore[method-assign]
    return judge([parse(text, Space({}, ({},)))], found)[0]


@pytest.mark.parametrize(
    ("text", "hits", "state"),
    [
        ("lchp_r > lchp_i", (BETTER, SAME), "holds"),
        ("lchp_r < lchp_i", (BETTER, SAME), "does not hold"),
        ("lchp_r >= lchp_i", (SAME, SAME), "holds"),
        ("lchp_r <= lchp_i", (SAME, SAME), "holds"),
        ("lchp_r > lchp_i", (SAME, SAME), "open"),
        ("lchp_r >= lchp_i", (SAME, BETTER), "does not hold"),
        ("lchp_r >= lchp_i", (SAME, np.roll(SAME, 1)), "open"),
    ],
)
def test_judge_seeds_that_do_not_differ_by_the_images_alone(
    text: str, hits: tuple[np.ndarray, np.ndarray], state: str
) -> None:
    found = of_images(text, *hits)
    assert found.state == state
    assert "the same in every seed" in found.numbers[0]
    assert ("images" in found.remedy) == (state == "open")
    assert of_images(text, *hits, seeds=1).remedy.startswith("one seed: no statement")


def test_judge_seeds_that_do_not_differ_without_images_is_open_and_says_where_those_are() -> None:
    found = judged("lchp_r > lchp_i", BOTH, spread=0.0)
    assert found.state == "open"
    assert found.remedy.startswith("single images, which stand in the trials' own files")


def test_claims_texts_say_the_answer_and_every_number() -> None:
    verdicts = [judged("lchp_r > lchp_i", BOTH), judged("lchp_i > lchp_r", BOTH), judged("lchp_r > lchp_i", BOTH, 1.0)]
    assert answer(verdicts) == "Of 3 claims 1 holds, 1 does not hold, 1 is open."
    text = claims_markdown(verdicts)
    assert text.startswith("Of 3 claims")
    assert "- `lchp_i > lchp_r` does not hold.\n" in text
    assert claims_csv(verdicts).splitlines()[1].startswith('lchp_r > lchp_i,holds,true,"difference: +')

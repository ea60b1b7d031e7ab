"""Table 4's left half, against NumPy on the boxes and confidences of a finished trial."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lchp.method import augmentation
from lchp.method.confidence import crop
from lchp.store.folder import StageFolder
from lchp.store.selection import EVALUATED, TRAINING, SelectionRow
from lchp.training.config import TrialConfig
from lchp.training.evaluation import Evaluator, evaluation_view
from lchp.training.initialization import Networks, trained_networks
from lchp.training.material import Material, Runtime
from lchp.training.refinement import Refinement
from lchp.training.seeds import named_generator
from lchp.training.selection import SHARES, TAUS, measure_selection

from ..data.layouts import draw_cub
from .tiny import folders, tiny, train

Trial = tuple[TrialConfig, Runtime, Path]


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Trial:
    """A finished trial on drawn birds of 80 x 64 pixels, by a threshold of its own, and the dataset's folder."""
    folder = draw_cub(tmp_path_factory.mktemp("birds"), classes=6, train=5, test=3)
    config = tiny(dataset={"kind": "cub", "path": folder}, view={"evaluation": "centre_crop"}, tau=0.17)
    runtime = Runtime(tmp_path_factory.mktemp("store"), cache)
    train(config, runtime)
    return config, runtime, folder


def rows_of(birds: Trial) -> list[SelectionRow]:
    return StageFolder(folders(*birds[:2])[1]).selection_rows()


def networks_of(birds: Trial) -> Networks:
    return trained_networks(birds[0], 6, StageFolder(folders(*birds[:2])[0]).networks())


def true_boxes(birds: Trial) -> np.ndarray:
    """The true boxes (n, 4) of the training images as shares of their sides, from CUB's own files."""
    names, boxes = ((birds[2] / name).read_text(encoding="utf-8") for name in ("images.txt", "bounding_boxes.txt"))
    paths = dict(line.split() for line in names.splitlines())
    known = {f"images/{paths[line.split()[0]]}": [float(x) for x in line.split()[1:]] for line in boxes.splitlines()}
    corners = [known[record.path] for record in Material.prepare(*birds[:2]).splits.train]
    return np.array([[x / 80, y / 64, (x + w) / 80, (y + h) / 64] for x, y, w, h in corners])


def overlap(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    sides = np.clip(np.minimum(one[:, 2:], two[:, 2:]) - np.maximum(one[:, :2], two[:, :2]), 0, None)
    both = sides.prod(1)
    return both / ((one[:, 2:] - one[:, :2]).prod(1) + (two[:, 2:] - two[:, :2]).prod(1) - both)


def max_softmax(networks: Networks, views: torch.Tensor, found: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        logits = networks.momentum(crop(views, found)).logits.double().numpy()
    exponentials = np.exp(logits)
    return np.asarray((exponentials / exponentials.sum(1, keepdims=True)).max(1))


def assert_counts(rows: list[SelectionRow], sure: np.ndarray, hits: np.ndarray) -> None:
    """Every row counts what its rule takes of these boxes; the AUC is that of all pairs, where there are any: on some
    processors all of these few boxes hit.
    """
    pairs = [(a > b) + 0.5 * (a == b) for a, b in product(sure[hits], sure[~hits])]
    for row in rows:
        if row.keep is None:
            taken = sure > row.tau
        else:
            taken = np.isin(
                np.arange(len(sure)), np.argsort(-sure, kind="stable")[: max(1, round(row.keep * len(sure)))]
            )
        assert (row.selected, row.total) == (taken.sum(), len(sure))
        assert row.gt_known == (hits[taken].mean() if taken.any() else None)
        assert row.auc == (pytest.approx(np.mean(pairs), abs=1e-6) if pairs else None)


def test_selection_on_the_evaluated_views_equals_its_recomputation(birds: Trial) -> None:
    config, networks = birds[0], networks_of(birds)
    images = Material.prepare(*birds[:2]).train
    views = evaluation_view(images.batch(torch.arange(len(images))), config.view)
    with torch.no_grad():
        found = networks.regressor.eval()(views).clamp(0, 1)
    hits = overlap((found.double().numpy() * 32 + 2) / 36, true_boxes(birds)) >= 0.5
    rows = [row for row in rows_of(birds) if row.views == EVALUATED]
    assert_counts(rows, max_softmax(networks, views, found), hits)
    assert rows[0].selected == 24 == len(hits)


def test_selection_on_the_training_views_equals_its_recomputation_on_the_first_epochs(birds: Trial) -> None:
    config, networks = birds[0], networks_of(birds)
    images, truth = Material.prepare(*birds[:2]).train, true_boxes(birds)
    order = torch.randperm(len(images), generator=named_generator(config.seed, "refinement order"))
    generator = named_generator(config.seed, "refinement view")
    sure, ious = [], []
    for part in order.split(8):
        draw = augmentation.draw_view(8, 36, 32, config.view.flip, generator)
        views = augmentation.normalise(augmentation.general_view(images.batch(part), draw, 32))
        with torch.no_grad():
            found = networks.regressor.train()(views).clamp(0, 1)
        corner = torch.stack([draw.left, draw.top] * 2, 1).numpy()
        shown = np.clip((truth[part.numpy()] * 36 - corner) / 32, 0, 1)
        mirrored = np.stack([1 - shown[:, 2], shown[:, 1], 1 - shown[:, 0], shown[:, 3]], 1)
        shown = np.where(draw.flipped.numpy()[:, None], mirrored, shown)
        sure.append(max_softmax(networks, views, found))
        ious.append(overlap(found.double().numpy(), shown))
    rows = [row for row in rows_of(birds) if row.views == TRAINING]
    assert_counts(rows, np.concatenate(sure), np.concatenate(ious) >= 0.5)
    assert {row.total for row in rows} == {24}


def test_selection_has_every_threshold_and_share_and_marks_the_trials_own(birds: Trial) -> None:
    rows = rows_of(birds)
    for views in (EVALUATED, TRAINING):
        of_views = [row for row in rows if row.views == views]
        assert [row.tau for row in of_views if row.keep is None] == sorted({*TAUS, 0.17})
        assert [row.keep for row in of_views if row.tau is None] == list(SHARES)
        assert [row.tau for row in of_views if row.own] == [0.17]


def test_measure_selection_by_a_share_marks_it(birds: Trial) -> None:
    config, runtime, _ = birds
    chosen = config.model_copy(update={"confidence": config.confidence.model_copy(update={"keep": 0.35})})
    stage = Refinement(chosen, networks_of(birds), "cpu")
    text = measure_selection(stage, Evaluator(chosen, "cpu", 0), Material.prepare(config, runtime).train_split)
    assert text is not None
    own = [line for line in text.splitlines() if line.endswith(",1")]
    assert [line.split(",")[:2] for line in own] == [["", "8"]] * 2  # 0.35 of 24
    assert [line.split(",")[5] for line in own] == ["0.35"] * 2


def test_measure_selection_learns_nothing_from_true_boxes(birds: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    config, runtime, _ = birds
    networks = networks_of(birds)
    before = {name: value.clone() for name, value in networks.regressor.named_parameters()}
    measure_selection(
        Refinement(config, networks, "cpu"), Evaluator(config, "cpu", 0), Material.prepare(config, runtime).train_split
    )
    after: dict[str, Any] = dict(networks.regressor.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_taus_are_steps_of_a_twentieth_as_they_are_written_with_table_4s_among_them() -> None:
    assert [f"{tau:.2f}" for tau in TAUS] == [*(f"0.{hundredths:02d}" for hundredths in range(0, 100, 5)), "0.99"]
    assert all(float(f"{tau:.2f}") == tau for tau in TAUS)
    assert {0.0, 0.5, 0.6, 0.7, 0.8, 0.9} < set(TAUS)

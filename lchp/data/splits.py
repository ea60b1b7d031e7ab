"""Train, val and test: ``val`` is a seeded draw per class from the training images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lchp.data.config import SplitConfig
from lchp.data.records import Dataset, Splits
from lchp.errors import first_of


def split(dataset: Dataset, config: SplitConfig) -> Splits:
    """Draw ``val_per_class`` training images of every class for ``val``, unless the dataset itself says which they are;
    ``test`` is the dataset's own.

    All three are in the order of their paths and depend on nothing but the images, their labels and the seed.
    Raises ValueError where a class would have no image left to train on, naming it.
    """
    if dataset.held_out:
        return _own(dataset)
    labels = dataset.train.labels
    counts = np.bincount(labels, minlength=len(dataset.classes)).tolist()
    few = [label for label in range(len(dataset.classes)) if counts[label] <= config.val_per_class]
    if few:
        named = ", ".join(f"{dataset.classes[label]} ({counts[label]})" for label in few[:5])
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        raise ValueError(
            f"dataset {dataset.name}: too few training images in class {named}{more}: with split.val_per_class "
            f"{config.val_per_class} every class needs at least {config.val_per_class + 1}. "
            "Add images, remove the class, or lower split.val_per_class"
        )
    of_classes = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    generator = _Draw(config.seed)
    held_out = np.zeros(len(labels), np.bool_)
    for places in of_classes:
        held_out[places[generator.permutation(len(places))[: config.val_per_class]]] = True
    return _parted(dataset, held_out)


def _own(dataset: Dataset) -> Splits:
    splits = _parted(dataset, dataset.is_held_out)
    left = set(splits.train.labels.tolist())
    without = [name for label, name in enumerate(dataset.classes) if label not in left]
    if without:
        raise ValueError(
            f"dataset {dataset.name}: no training image is left in class {first_of(without, 5)}, because the split of "
            "the others is val or test: give every class one of split train at least"
        )
    return splits


def _parted(dataset: Dataset, held_out: npt.NDArray[np.bool_]) -> Splits:
    """The training images parted by whether each is held out, (n,)."""
    rows = dataset.train.rows
    return Splits(dataset.train.at(rows[~held_out]), dataset.train.at(rows[held_out]), dataset.test)


class _Draw:
    """The permutations that ``torch.randperm`` draws from a CPU generator of this seed, without torch.

    Stored results depend on them, and a study that has nothing to train should not wait for torch to be imported.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.MT19937()
        # As std::mt19937 and torch seed it; NumPy's own way of seeding gives other numbers.
        self._bits._legacy_seeding(seed % 2**32)

    def permutation(self, count: int) -> list[int]:
        """The places 0 to ``count`` - 1 in random order (Fisher-Yates from the front)."""
        places = list(range(count))
        for here, drawn in enumerate(self._bits.random_raw(max(count - 1, 0)).tolist()):
            there = here + drawn % (count - here)
            places[here], places[there] = places[there], places[here]
        return places

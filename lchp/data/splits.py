"""Train, val and test: ``val`` is a seeded draw per class from the training images."""

from __future__ import annotations

from collections import Counter, defaultdict

import torch

from lchp.data.config import SplitConfig
from lchp.data.records import Dataset, ImageRecord, Splits, by_path


def split(dataset: Dataset, config: SplitConfig) -> Splits:
    """Draw ``val_per_class`` training images of every class for ``val``; ``test`` is the dataset's own.

    All three are in the order of their paths and depend on nothing but the images, their labels and the seed.
    Raises ValueError where a class would have no image left to train on, naming it.
    """
    counts = Counter(record.label for record in dataset.train)
    few = [label for label in range(len(dataset.classes)) if counts[label] <= config.val_per_class]
    if few:
        named = ", ".join(f"{dataset.classes[label]} ({counts[label]})" for label in few[:5])
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        raise ValueError(
            f"dataset {dataset.name}: too few training images in class {named}{more}: with split.val_per_class "
            f"{config.val_per_class} every class needs at least {config.val_per_class + 1}. "
            "Add images, remove the class, or lower split.val_per_class"
        )
    by_class: dict[int, list[ImageRecord]] = defaultdict(list)
    for record in by_path(dataset.train):
        by_class[record.label].append(record)
    generator = torch.Generator().manual_seed(config.seed)
    held_out: set[str] = set()
    for label in range(len(dataset.classes)):
        order = torch.randperm(counts[label], generator=generator)[: config.val_per_class]
        held_out.update(by_class[label][place].path for place in order.tolist())
    train = tuple(record for record in by_path(dataset.train) if record.path not in held_out)
    val = tuple(record for record in by_path(dataset.train) if record.path in held_out)
    return Splits(train, val, by_path(dataset.test))

"""The trials of earlier runs of a study, also where their list is damaged or gone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from lchp.data.files import read_or_set_aside
from lchp.store.study_folder import StudyFolder
from lchp.study.run.cards import Card, Cards
from lchp.study.run.ledger import Entry, parsed
from lchp.study.run.options import total_epochs
from lchp.study.run.run_cards import is_trial
from lchp.study.spec.values import varied_values
from lchp.training.identity import stored_config


def earlier(study: Path, varied: Sequence[str], say: Callable[[str], None]) -> list[Entry]:
    """The entries that an earlier run wrote, as :func:`known`. A damaged file is told of and set aside: the study that
    goes on writes it again.
    """
    file = StudyFolder(study).ledger
    found = read_or_set_aside(file, lambda: parsed(file), say)
    return _of_cards(study, varied) if found is None else found


def known(study: Path, varied: Sequence[str]) -> list[Entry]:
    """The entries that an earlier run of the study, which varied these keys, wrote; where the file is damaged or gone,
    what the cards of its trials' runs say in its place.
    """
    file = StudyFolder(study).ledger
    with suppress(ValueError):
        if file.exists():
            return parsed(file)
    return _of_cards(study, varied)


def _of_cards(study: Path, varied: Sequence[str]) -> list[Entry]:
    """The entries of trials that have ended."""
    found = list[Entry]()
    for card in Cards(study).all():
        # What this version does not know is left out.
        with suppress(ValueError):
            if card.state in ("finished", "stopped") and is_trial(card):
                found.append(_entry(card, varied, len(found)))
    return sorted(found, key=lambda entry: entry.number)


def _entry(card: Card, varied: Sequence[str], place: int) -> Entry:
    config = stored_config(card.params)
    number = re.match(r"#(\d+) ", card.name)
    return Entry(
        card.name,
        config.seed,
        varied_values(config, varied),
        str(card.folder),
        total_epochs(config),
        int(number[1]) if number else place,
        int(card.epochs[-1]["step"]) if card.epochs else 0,
        "finished" if card.state == "finished" else "pruned",
        message=card.error,
    )

"""A study's folder as a finished run leaves it, without what needs training: what it holds, its ledger, and of every
trial the configuration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lchp.data.files import write_json
from lchp.store.study_folder import StudyFolder
from lchp.study.run.ledger import Entry, Ledger
from lchp.study.spec.load import Study


def plant(
    study: Study, output: Path, finished: int | None = None, suggestions: tuple[dict[str, Any], ...] = ()
) -> Path:
    """The folder of a study in ``output``, written as version 0.2 did; its first so many trials are finished, or all.

    Those of a search are ``suggestions``.
    """
    folder = output / study.name
    of_search = (study.suggested(number, values) for number, values in enumerate(suggestions))
    trials = study.trials or [trial for several in of_search for trial in several]
    ledger = Ledger(folder)
    with ledger.together():
        for trial in trials:
            place, done = f"trial/{trial.number}", finished is None or trial.number < finished
            ledger.put(
                Entry(
                    trial.name, trial.config.seed, trial.varied, place, 4, trial.number,
                    state="finished" if done else "waiting",
                )
            )  # fmt: skip
            if done:
                write_json(output / ".store" / place / "config.json", trial.config.model_dump(mode="json"))
    text = json.dumps({**study.identity(), "data": {}}, indent=1)
    StudyFolder(folder).configuration.write_text(text, encoding="utf-8")
    return folder

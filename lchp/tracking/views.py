"""How the MLflow UI shows a study: saved views of its trials and of their repetitions, and where its runs are.

MLflow opens a runs table with the study's run alone, folded, and with none of the columns that a study is read by. What
a person sets there instead it keeps, as a saved view, in a tag of the experiment; so does this module.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from mlflow.entities import ViewType

from lchp.surroundings import UI_PORT
from lchp.tracking.address import without_user
from lchp.tracking.store import client
from lchp.tracking.ui import address_of

TRIALS = "trials"
"""The key of the saved view of a study's trials, which stands in its address."""
REPRODUCTIONS = "reproductions"
"""That of the repetitions of its trials, which would count as further seeds among them."""
_VIEW_TAG = "mlflow.sharedViewState."
_KIND_TAG, _TRAINS = "mlflow.experimentKind", "custom_model_development"
"""MLflow's own words for an experiment whose page begins with its runs."""
_TRAINING = "workflowType=machine_learning"
"""Without it MLflow puts around the table what is for language models."""
_MOST_STUDIES = 1000
_NAME, _NAME_PIXELS = "attributes.`Run Name`", 260
"""MLflow's own column of names, and its width in pixels: names are cut less than by MLflow's own 200."""
_PIXELS, _MARGIN = 8, 24
"""The width of a letter of a column's title, and of what is around it."""


def keep_view(
    uri: str, experiment: str, which: str, parameters: Sequence[str], metrics: Sequence[str], key: str = TRIALS
) -> None:
    """Give an experiment (an id) the saved view of that key, where it does not have it like this.

    It holds the runs that MLflow's filter ``which`` finds, side by side, with these parameters and metrics as columns;
    those with the highest value of the first metric come first.
    """
    found = client(uri).get_experiment(experiment)
    named = [("params", name) for name in parameters] + [("metrics", name) for name in metrics]
    columns = {f"{kind}.`{name}`": _PIXELS * len(name) + _MARGIN for kind, name in named}
    state = {
        "searchFilter": which,
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": False,
        "selectedColumns": list(columns),
        "columnOrder": [_NAME, *columns],
        "columnWidths": {_NAME: _NAME_PIXELS, **columns},
    }
    # The view is as old as the experiment: so the same view is the same text.
    since = found.creation_time or 0
    view = {"name": key.capitalize(), "createdAt": since, "updatedAt": since, "state": json.dumps(state)}
    text = json.dumps(view)
    for tag, value in ((f"{_VIEW_TAG}{key}", text), (_KIND_TAG, _TRAINS)):
        if found.tags.get(tag) != value:
            client(uri).set_experiment_tag(experiment, tag, value)


def runs_address(uri: str, experiment: str) -> str:
    """The address of an experiment's (an id) runs table, below which its runs lie, in the UI of a store: a server's
    own, or that which ``lchp ui`` serves.
    """
    return f"{experiments_page(without_user(address_of(uri, UI_PORT)))}/{experiment}/runs"


def experiments_page(server: str) -> str:
    """The address of the list of all experiments below that of a server, whose own is a welcome page."""
    return f"{server.rstrip('/')}/#/experiments"


def runs_tables(uri: str, server: str) -> dict[str, str]:
    """The address of every study's runs table below that of a server, by the study's name, the newest first: in the
    view of its trials, where it has one.
    """
    experiments = client(uri).search_experiments(
        ViewType.ACTIVE_ONLY, max_results=_MOST_STUDIES, order_by=["last_update_time DESC"]
    )
    return {
        found.name: f"{experiments_page(server)}/{found.experiment_id}/runs?{_TRAINING}"
        + (f"&viewStateShareKey={TRIALS}" if f"{_VIEW_TAG}{TRIALS}" in found.tags else "")
        for found in experiments
        if found.name != "Default"
    }

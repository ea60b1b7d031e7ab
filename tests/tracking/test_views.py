from __future__ import annotations

import json

import pytest

from lchp.tracking.store import client, ensure_experiment
from lchp.tracking.views import REPRODUCTIONS, keep_view, runs_tables

TAG = "mlflow.sharedViewState.trials"


def test_keep_view_holds_what_trials_are_read_by_and_is_written_once(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = ensure_experiment(store, "viewed")
    keep_view(store, experiment, "tags.kind = 'trial'", ["delta"], ["lchp_r/test/gt_known", "cost/seconds"])
    view = json.loads(client(store).get_experiment(experiment).tags[TAG])
    assert view["name"] == "Trials"
    assert view["createdAt"] == view["updatedAt"] == client(store).get_experiment(experiment).creation_time
    state = json.loads(view["state"])
    columns = ["params.`delta`", "metrics.`lchp_r/test/gt_known`", "metrics.`cost/seconds`"]
    assert state["selectedColumns"] == columns
    assert state["columnOrder"] == list(state["columnWidths"]) == ["attributes.`Run Name`", *columns]
    assert (state["searchFilter"], state["orderByKey"]) == ("tags.kind = 'trial'", columns[1])
    keep_view(store, experiment, "tags.kind = 'reproduction'", ["delta"], ["cost/seconds"], REPRODUCTIONS)
    tags = client(store).get_experiment(experiment).tags
    assert json.loads(tags["mlflow.sharedViewState.reproductions"])["name"] == "Reproductions"
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    with monkeypatch.context() as patched:
        patched.setattr(client(store), "set_experiment_tag", lambda *_: pytest.fail("it says so already"))
        keep_view(store, experiment, "tags.kind = 'trial'", ["delta"], ["lchp_r/test/gt_known", "cost/seconds"])
    keep_view(store, experiment, "tags.kind = 'trial'", [], ["cost/seconds"])
    state = json.loads(json.loads(client(store).get_experiment(experiment).tags[TAG])["state"])
    assert state["selectedColumns"] == ["metrics.`cost/seconds`"]


def test_runs_tables_leads_to_the_saved_view_where_there_is_one(store: str) -> None:
    plain, viewed = ensure_experiment(store, "not viewed"), ensure_experiment(store, "seen")
    keep_view(store, viewed, "", [], ["cost/seconds"])
    tables = runs_tables(store, "http://127.0.0.1:5000/")
    assert "Default" not in tables
    runs = "http://127.0.0.1:5000/#/experiments/{}/runs?workflowType=machine_learning"
    assert tables["not viewed"] == runs.format(plain)
    assert tables["seen"] == f"{runs.format(viewed)}&viewStateShareKey=trials"

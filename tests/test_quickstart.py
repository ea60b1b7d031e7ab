"""The shipped quickstart, shrunk, and the MLflow UI that shows it as a person sees it: Debian's chromium, driven by
Playwright, on a real ``lchp ui``. LCHP_TEST_SCREENSHOTS names a folder that keeps what it saw.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import tests.study.small as small
from lchp.study.spec.load import Study
from lchp.tracking.store import client
from tests.browser import PATIENCE, browsing, needs_chromium
from tests.test_studies import assert_complete, shrunk
from tests.tracking.empty import put_empty_store

STORE = "sqlite:///mlflow.db"
CLAIMS = "claims: [lchp_r > lchp_i]\n"


def lchp(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "import sys; from lchp.cli import run; sys.exit(run(sys.argv[1:]))", *arguments]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shipped quickstart, shrunk by sizes alone, has run."""
    folder = tmp_path_factory.mktemp("quickstart")
    put_empty_store(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lchp.study.run.ray_tune.train", small.train_serially)
        assert small.run(shrunk("quickstart", {}), folder) == 0
        assert small.run(small.load(folder, small.GRID + CLAIMS), folder) == 0
    return folder


def test_quickstart_shrunk_runs_to_its_tables(folder: Path) -> None:
    assert_complete(shrunk("quickstart", {}), folder)


@dataclass
class Served:
    """A running ``lchp ui``: its store, its address and those of runs tables, and the session of the server that it
    started.
    """

    store: Path
    address: str
    tables: dict[str, str]
    port: int
    session: int
    process: subprocess.Popen[str]


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """``lchp ui`` on a free port, ended as Ctrl-C ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = lchp("ui", "--tracking-uri", STORE, "--port", str(port))
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            said = list(takewhile(lambda line: "the MLflow UI" not in line, process.stdout))
            (server,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            tables = dict(line.strip().split(": ", 1) for line in said if "/runs?" in line)
            address = f"http://127.0.0.1:{port}"
            yield Served(folder / "mlflow.db", address, tables, port, int(server), process)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def members(session: int) -> list[str]:
    """The processes of a session that still run, as their stat lines."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = text.rpartition(")")[2].split()
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(text)
    return found


def see_nested_runs(page: Page, runs: str, names: list[str]) -> None:
    """The parent is there, folded; unfolded it shows the trials, named by what varies."""
    page.goto(runs)
    parent = page.get_by_role("row").filter(has=page.get_by_role("link", name="quickstart", exact=True))
    expect(parent).to_have_count(1, timeout=PATIENCE)
    for name in names:
        expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
    parent.get_by_role("button").click()
    for name in names:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible(timeout=PATIENCE)


def see_saved_view(page: Page, address: str, names: list[str]) -> None:
    """The address that ``lchp ui`` prints shows the trials side by side, with what they reached, and nothing else."""
    page.goto(address)
    for name in names:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_role("link", name=f"initialization {name}", exact=True)).to_have_count(0)
    # Columns that lie beyond the edge of the window are not in the page.
    for column in ("seed", "GT-Known test/LCHP-R", "GT-Known test/LCHP-I"):
        expect(page.get_by_role("columnheader", name=column).first).to_be_visible(timeout=PATIENCE)


def close_assistant(page: Page) -> None:
    """MLflow's assistant takes a quarter of the window."""
    page.get_by_role("button", name="Close", exact=True).first.click()


def click_to_trials(page: Page, address: str, study: str, names: list[str]) -> None:
    """From the page on which MLflow opens to the trials of a study, by clicks alone."""
    page.goto(address)
    close_assistant(page)
    page.get_by_text("Model training", exact=True).first.click()
    page.get_by_role("link", name="Experiments", exact=True).first.click()
    page.get_by_role("link", name=study, exact=True).first.click()
    parent = page.get_by_role("row").filter(has=page.get_by_role("link", name=study, exact=True))
    expect(parent).to_have_count(1, timeout=PATIENCE)
    parent.get_by_role("button").click()
    for name in names:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible(timeout=PATIENCE)


def group_by(page: Page, key: str, values: list[str]) -> None:
    """Runs in groups by a parameter, with the mean of each."""
    page.get_by_role("button", name="Group by").click()
    page.get_by_role("menuitemcheckbox", name=key, exact=True).click()
    page.keyboard.press("Escape")
    for value in values:
        expect(page.get_by_text(f"Group: {value}", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("(average)").first).to_be_visible(timeout=PATIENCE)


def compare_trials(page: Page, address: str, names: list[str], varied: list[str]) -> None:
    """Trials side by side: what is drawn first, and what differs."""
    page.goto(address)
    for name in names:
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))
        row.get_by_role("checkbox").click(force=True)
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text(f"Comparing {len(names)} Runs")).to_be_visible(timeout=PATIENCE)
    drawn = page.locator("[class*=selection-item-content]")
    expect(drawn).to_have_text([*varied, "lchp_i/val/gt_known"], timeout=PATIENCE)
    row = page.get_by_role("row").filter(has=page.get_by_text("augmentation", exact=True))
    expect(row).to_have_count(1, timeout=PATIENCE)
    page.get_by_role("switch", name="Parameters - Show diff only").click()
    expect(row).to_have_count(0, timeout=PATIENCE)
    for key in varied:
        expect(page.get_by_role("row").filter(has=page.get_by_text(key, exact=True)).first).to_be_visible()


def see_description(page: Page, run: str) -> None:
    """The study's question, the answer and the table."""
    page.goto(run)
    expect(page.get_by_text("does a study of four trials train?").first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Of 1 claim 1 ").first).to_be_visible(timeout=PATIENCE)
    page.get_by_text("Show more", exact=True).first.click()
    expect(page.locator("th").filter(has_text="Pseudo Label").first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("best/GT-Known test/LCHP-R").first).to_be_visible(timeout=PATIENCE)


def see_picture(page: Page, run: str, width: int) -> None:
    """The run's predictions are shown as an image that has really loaded."""
    page.goto(f"{run}/artifacts/predictions.png")
    expect(page.get_by_text("predictions.png").first).to_be_visible(timeout=PATIENCE)
    page.wait_for_function(
        "width => [...document.images].some(image => image.complete && image.naturalWidth === width"
        " && image.getBoundingClientRect().width > 300)",
        arg=width,
    )


def walk(page: Page, served: Served, study: Study, kept: Path) -> None:
    """What a person does with a study of four trials; ``kept`` keeps what is seen."""
    names, address = [trial.name for trial in study.trials], served.tables[study.name]
    click_to_trials(page, served.address, study.name, names)
    page.screenshot(path=kept / "unfolded.png")
    page.goto(address)
    expect(page.get_by_role("link", name=names[0], exact=True)).to_be_visible(timeout=PATIENCE)
    page.screenshot(path=kept / "trials.png")
    group_by(page, "delta", ["0.4", "0.5"])
    page.screenshot(path=kept / "grouped.png")
    compare_trials(page, address, names, ["delta", "tau"])
    page.screenshot(path=kept / "compared.png")
    found = client(f"sqlite:///{served.store}").search_runs([address.split("/experiments/")[1].split("/")[0]])
    (parent,) = (run.info.run_id for run in found if run.info.run_name == study.name)
    see_description(page, f"{address.split('?')[0]}/{parent}")
    page.screenshot(path=kept / "study.png")


@needs_chromium
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for left processes in /proc")
def test_ui_in_a_browser_shows_nested_runs_and_pictures_and_stops_cleanly(folder: Path, tmp_path: Path) -> None:
    mlflow_client = client(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = mlflow_client.get_experiment_by_name("quickstart")
    assert experiment is not None
    runs = {run.info.run_name: run.info.run_id for run in mlflow_client.search_runs([experiment.experiment_id])}
    names = [trial.name for trial in shrunk("quickstart", {}).trials]
    below = [f"{stage} {name}" for stage in ("initialization", "Supervised") for name in names]
    assert sorted(runs) == sorted([*names, *below, "quickstart"])
    kept = Path(os.environ.get("LCHP_TEST_SCREENSHOTS") or tmp_path)
    picture = Path(mlflow_client.download_artifacts(runs[names[0]], "predictions.png", str(tmp_path))).read_bytes()
    width = int.from_bytes(picture[16:20], "big")
    with serving(folder) as served:
        assert members(served.session)
        experiments = f"{served.address}/#/experiments/{experiment.experiment_id}/runs"
        assert served.tables["quickstart"] == f"{experiments}?workflowType=machine_learning&viewStateShareKey=trials"
        with browsing() as page:
            see_nested_runs(page, experiments, names)
            page.screenshot(path=tmp_path / "runs.png")
            for name in names:
                see_picture(page, f"{experiments}/{runs[name]}", width)
                page.screenshot(path=tmp_path / f"{name}.png")
            see_saved_view(page, served.tables["quickstart"], names)
            page.screenshot(path=tmp_path / "view.png")
            walk(page, served, small.load(tmp_path, small.GRID), kept)
    assert served.process.returncode == 0
    assert members(served.session) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), timeout=5)

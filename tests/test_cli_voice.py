"""-q, -v, --log, --json, progress and completion, as they are for every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import pytest

from lchp import at_work, cli_process, cli_voice
from lchp.at_work import _Signs, shown_time
from lchp.cli import app, run
from lchp.cli_options import OnceEachCommand
from lchp.data.once import build_once
from lchp.study.run.ledger import Entry, Ledger, State
from lchp.study.run.ownership import alone
from lchp.study.run.remaining import Pace, epochs_left, in_training

STUDY = "name: tiny\npreset: quickstart\nvary: {delta: [0.4, 0.5]}\n"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a study that was run and its list of two trials."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY, encoding="utf-8")
    entries = [
        Entry("delta=0.4", 0, {"delta": 0.4}, "trial/aa", 4, 0, 4, "finished", initialization="initialization/i"),
        Entry("delta=0.5", 0, {"delta": 0.5}, "trial/bb", 4, 1, 2, "running", initialization="initialization/i"),
    ]
    Ledger(tmp_path / "analysis/tiny", entries).write()
    return tmp_path


def _commands(group: click.Group) -> list[click.Command]:
    below = [_commands(one) if isinstance(one, click.Group) else [one] for one in group.commands.values()]
    return [command for commands in below for command in commands]


def test_every_command_takes_the_options_of_the_voice() -> None:
    assert [command.name for command in _commands(app) if not isinstance(command, OnceEachCommand)] == []


def test_log_that_cannot_be_written_any_more_is_told_once_and_ends_nothing(
    there: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_voice, "_voice", cli_voice.Voice(log=there / "gone/log.txt"))
    cli_voice.say("one")
    cli_voice.warn("two")
    told = capsys.readouterr()
    assert told.out == "one\n"
    reason = f"lchp: --log {there}/gone/log.txt: cannot be written any more (No such file or directory): it ends here"
    assert told.err.splitlines() == [reason, "lchp: two"]


def _damaged(folder: Path) -> None:
    """Makes again what is kept and damaged, which is told."""
    (folder / "kept").write_text("cut", encoding="utf-8")
    build_once(folder / "kept", lambda part: part.touch(), lambda kept: "cut" if kept.read_text() else None)


@pytest.mark.parametrize(
    ("told", "begins"),
    [
        (lambda _: cli_voice.note("one"), "lchp: --log "),
        (lambda _: cli_voice.warn("one"), "lchp: one"),
        (lambda _: cli_process._failed(KeyboardInterrupt()), "stopped: "),
        (lambda _: cli_process._failed(ValueError("one")), "lchp: "),
        (lambda _: cli_process.answered(partial(app, ["no"], standalone_mode=False)), "Usage: "),
        (_damaged, ""),
    ],
)
def test_whatever_is_told_takes_the_changing_line_from_the_terminal_first(
    told: Callable[[Path], object],
    begins: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "gone/log.txt" if "--log" in begins else None
    monkeypatch.setattr(cli_voice, "_voice", cli_voice.Voice(log=log))
    signs = _Signs()
    signs.drawn = 7
    monkeypatch.setattr(at_work, "_signs", signs)
    monkeypatch.setattr(cli_process, "fresh_voice", lambda: None)
    told(tmp_path)
    assert capsys.readouterr().err.startswith(f"\r       \r{begins}")
    assert (signs.drawn, signs.spoke is None) == (0, False)


def test_status_as_json_says_what_the_text_says(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "status", "tiny.yaml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["running"], told["counts"]) == (False, {"finished": 1, "stopped": 1})
    assert [trial["epochs"] for trial in told["trials"]] == [4, 2]
    assert told["occupies"]["own"] == (there / "analysis/tiny/trials.json").stat().st_size
    assert run(["study", "status", "tiny.yaml"]) == 0
    out = capsys.readouterr().out
    assert "2 trials: 1 finished, 1 stopped" in out
    assert "tiny occupies" in out


def test_status_watched_ends_with_the_process_at_work(
    there: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = alone(there / "analysis/tiny")
    held.__enter__()
    monkeypatch.setattr("lchp.cli.time.sleep", lambda seconds: held.__exit__(None, None, None))
    assert run(["study", "status", "tiny.yaml", "--watch"]) == 0
    out = capsys.readouterr().out
    assert "2 trials: 1 finished, 1 running" in out
    assert "2 trials: 1 finished, 1 stopped" in out


def test_status_of_a_study_that_is_being_prepared_says_so(
    there: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = ["--output", str(tmp_path / "out")]
    with alone(tmp_path / "out/tiny"):
        for named in ("tiny", "tiny.yaml"):
            assert run(["study", "status", named, *output]) == 0
            assert capsys.readouterr().out.startswith("tiny: is being prepared, and has no trials yet (")
        assert run(["study", "status", "tiny", "--json", *output]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["running"], told["counts"], told["trials"], told["occupies"]) == (True, {}, [], None)
        for command in (["sync", "tiny"], ["table", "tiny.yaml"], ["archive", "tiny", "tiny.zip"]):
            assert run(["study", *command, *output]) == 2
            assert "is being prepared, and has no trials yet: wait" in capsys.readouterr().err
        assert run(["study", "rm", "tiny", "--yes", *output]) == 2
        assert "a process is running this study" in capsys.readouterr().err
    assert run(["study", "status", "tiny", *output]) == 2
    assert "nor the name of one" in capsys.readouterr().err


def test_list_of_a_folder_tells_what_studies_occupy(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "list", "--output", "analysis"]) == 0
    assert "tiny  1 of 2 trials finished  occupies" in capsys.readouterr().out
    assert run(["study", "list", "--output", "analysis", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["studies"]["tiny"]["trials"] == 2


def test_log_has_with_the_time_what_was_said_and_quiet_says_nothing(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study", "gc", "--output", "analysis", "--yes"]
    (there / "analysis/.store/trial/cc").mkdir(parents=True)
    (there / "analysis/.store/trial/cc/x").write_bytes(bytes(10))
    assert run([*words, "-q", "--log", "log.txt"]) == 0
    assert "removed" not in capsys.readouterr().out
    (line,) = Path("log.txt").read_text(encoding="utf-8").splitlines()
    assert line.endswith(" removed: 10 bytes")
    assert run(["study", "rm", "nothing", "--log", "log.txt"]) == 2
    assert "is no folder of a study" in Path("log.txt").read_text(encoding="utf-8").splitlines()[1]
    capsys.readouterr()
    assert run(["study", "rm", "nothing", "-v"]) == 2
    assert "Refusal" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["", "folder", "folder/none/log.txt", "/dev/full"])
def test_log_that_cannot_be_written_is_refused(there: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    (there / "folder").mkdir()
    assert run(["study", "list", "--log", file]) == 2
    assert "--log" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("lchp pre", "predict"),
        ("lchp study arch", "archive"),
        ("lchp study run quick", "quickstart"),
        ("lchp predict --fo", "--format"),
    ],
)
def test_completion_offers_what_may_come_next(words: str, wanted: str) -> None:
    variables = {"_LCHP_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "from lchp.cli import main; main()"],
        env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"plain,{wanted}" in done.stdout.splitlines()


def test_pace_tells_what_is_left_of_trial_and_study() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.left(10, 3, 5.0) == "  left: trial 15 s"
    now[0] = 100.0
    pace.trained(5.0)
    assert pace.left(10, 3, 5.0) == "  left: trial 15 s, study 50 s"
    now[0] = 195.0
    pace.trained(5.0)
    assert pace.left(10, 3, 5.0) == "  left: trial 15 s, study 8 min"
    assert pace.left(0, 0, 5.0) == ""
    assert [shown_time(seconds) for seconds in (0, 42.4, 90, 7800)] == ["0 s", "42 s", "2 min", "2 h 10 min"]


def test_epochs_left_counts_trials_that_are_not_known_yet() -> None:
    entries = [
        Entry("a", 0, {}, "trial/a", 4, 0, 4, "finished"),
        Entry("b", 0, {}, "trial/b", 4, 1, 1, "running"),
        Entry("c", 0, {}, "trial/c", 6, 2, 2, "pruned"),
    ]
    assert epochs_left(entries, 5) == 3 + 2 * 6


def test_trials_in_training_are_told_with_their_epochs() -> None:
    def entry(name: str, epochs: int, state: State) -> Entry:
        return Entry(name, 0, {}, f"trial/{name}", 4, 0, epochs, state)

    running = [entry(name, epochs, "running") for epochs, name in enumerate("abcde")]
    assert in_training([entry("z", 4, "finished"), *running[:2]]) == "training a: epoch 1 of 4, b: epoch 2 of 4"
    assert in_training(running[3:]) == "training d: epoch 4 of 4, e: epoch 4 of 4"
    assert in_training(running).endswith("c: epoch 3 of 4, 2 more")
    assert in_training([entry("z", 0, "waiting")]) == ""


def test_log_is_not_written_behind_a_database(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = b"SQLite format 3\0" + bytes(100)
    (there / "mlflow.db").write_bytes(data)
    assert run(["study", "list", "--log", "mlflow.db"]) == 2
    told = "mlflow.db is no log, to whose end lines might be written (.csv, .json, .yaml or .yml, or no text)"
    assert f"{told}: name another" in capsys.readouterr().err
    assert (there / "mlflow.db").read_bytes() == data


def test_log_that_is_new_may_have_any_name(there: Path) -> None:
    assert run(["study", "list", "--log", "list.json"]) == 0
    (there / "list.json").write_text("{}", encoding="utf-8")
    assert run(["study", "list", "--log", "list.json"]) == 2

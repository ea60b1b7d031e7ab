"""What a command tells of itself while it works: on a terminal and in a log, by itself and beside what it says."""

from __future__ import annotations

import errno
import io
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import click
import pytest

from lchp import at_work
from lchp.at_work import doing, drawing_bar, fresh_signs, keep_quiet, rest, speaking, watched
from lchp.cli import app

SLOW = """
import sys, time
from lchp import at_work, cli
at_work.FIRST, at_work.BETWEEN, at_work._LOOK = 0.2, 0.3, 0.05

@cli.app.command()
def slow():
    time.sleep(0.8)
    with at_work.doing(lambda: "counting sheep"):
        time.sleep(0.8)
    cli.say("done")

cli.main()
"""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_signs()
    for name, seconds in (("FIRST", 0.02), ("BETWEEN", 0.05), ("_LOOK", 0.005)):
        monkeypatch.setattr(at_work, name, seconds)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def as_stderr(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Put something in the place of standard error; in a test's body, since pytest puts its own there before."""
    monkeypatch.setattr("sys.stderr", out)
    return out


def until(told: io.StringIO, words: str, seconds: float = 30.0) -> None:
    """Wait until something is told, on a machine however busy."""
    end = time.monotonic() + seconds
    while words not in told.getvalue():
        assert time.monotonic() < end, told.getvalue()
        time.sleep(0.005)


def test_work_in_a_log_is_told_by_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    err = as_stderr(io.StringIO(), monkeypatch)
    with watched(), doing("counting"):
        until(err, "lchp: counting (0 s in all)\nlchp: counting (0 s in all)\n")
    assert "\r" not in err.getvalue()


def test_work_on_a_terminal_is_one_line_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = as_stderr(_Terminal(), monkeypatch)
    with watched(), doing("counting"):
        until(terminal, "\rlchp: counting (0 s in all)\rlchp: counting (0 s in all)")
        with speaking():
            terminal.write("one\n")
        until(terminal, f"\r{' ' * len('lchp: counting (0 s in all)')}\rone\n\rlchp: counting")
    assert terminal.getvalue().endswith(f"\r{' ' * len('lchp: counting (0 s in all)')}\r")


def test_work_that_prints_its_answer_is_told_by_lines_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = as_stderr(_Terminal(), monkeypatch)
    with watched(), doing("counting", live=False):
        until(terminal, "lchp: counting (0 s in all)\n")
    assert "\r" not in terminal.getvalue()


def test_work_asks_its_text_each_time_and_the_inner_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    err = as_stderr(io.StringIO(), monkeypatch)
    done = 0
    with watched(), doing("outer"):
        with doing(lambda: f"{done} sheep"):
            until(err, "lchp: 0 sheep")
            done = 7
            until(err, "lchp: 7 sheep")
        until(err, "lchp: outer")
    assert err.getvalue().index("7 sheep") < err.getvalue().index("outer")


def test_work_that_cannot_say_what_it_is_goes_by_the_name_of_what_it_is_a_part_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    err = as_stderr(io.StringIO(), monkeypatch)
    trials: dict[str, str] = {}
    with watched():
        with doing("study run is at work"), doing(lambda: trials["one"]):
            until(err, "lchp: study run is at work (0 s in all)\n")
            trials["one"] = "training"
            until(err, "lchp: training (0 s in all)\n")
        with doing(lambda: trials["two"]):
            until(err, "lchp: at work (0 s in all)\n")


def lines_told(hours: float, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds at which a log is told of what takes so many hours, of which nothing else is said."""
    monkeypatch.undo()
    fresh_signs()
    out, clock = as_stderr(io.StringIO(), monkeypatch), [0.0]
    monkeypatch.setattr("lchp.at_work.time.monotonic", lambda: clock[0])
    told = []
    with doing("training"):
        while clock[0] < 3600 * hours:
            before = out.tell()
            at_work._signs.tell(0.0)
            told += [clock[0]] if out.tell() > before else []
            clock[0] += 0.5
    return told


def test_work_of_hours_is_told_every_eight_seconds_at_first_and_then_more_and_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = lines_told(10, monkeypatch)
    gaps = [after - before for before, after in pairwise([0.0, *told])]
    early = [gap for gap, at in zip(gaps, told, strict=True) if at <= 320]
    assert early == [2.0, *[8.0] * (len(early) - 1)]
    assert len(early) == 40
    assert gaps[1:] == sorted(gaps[1:])
    assert max(gaps) == 120
    assert len(told) < 450


@pytest.mark.parametrize("hush", [keep_quiet, rest])
def test_nothing_is_told_where_nobody_wants_it(hush: object, monkeypatch: pytest.MonkeyPatch) -> None:
    err = as_stderr(io.StringIO(), monkeypatch)
    assert callable(hush)
    with watched(), doing("counting"):
        until(err, "counting")
        hush()
        before = err.getvalue()
        time.sleep(0.3)
        assert err.getvalue() == before


def test_nothing_is_told_beside_a_bar_or_without_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    err = as_stderr(io.StringIO(), monkeypatch)
    with doing("counting"):
        time.sleep(0.1)
    with watched(), drawing_bar(), doing("counting"):
        time.sleep(0.1)
    assert err.getvalue() == ""


def test_bar_that_ends_waits_for_a_line_that_is_being_printed() -> None:
    begun, over, ended = threading.Event(), threading.Event(), threading.Event()

    def draw() -> None:
        with drawing_bar():
            begun.set()
            over.wait(30)
        ended.set()

    drawer = threading.Thread(target=draw)
    drawer.start()
    assert begun.wait(30)
    with speaking():
        over.set()
        assert not ended.wait(0.2)
        assert at_work._signs.bars == 1
    drawer.join(30)
    assert (ended.is_set(), at_work._signs.bars) == (True, 0)


def test_reader_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    as_stderr(Gone(), monkeypatch)
    with watched(), doing("counting"):
        time.sleep(0.1)
        done = True
    assert done


def test_every_command_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    study = app.commands["study"]
    assert isinstance(study, click.Group)
    monkeypatch.setattr(study.commands["list"], "callback", lambda **_: seen.extend(at_work._signs.phases))
    with app.make_context("lchp", ["study", "list"]) as context:
        app.invoke(context)
    assert [phase.text for phase in seen if isinstance(phase, at_work._Phase)] == ["study list is at work"]
    assert at_work._signs.phases == []


def test_slow_command_is_told_in_a_log_and_quiet_says_nothing() -> None:
    def ran(*options: str) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", SLOW, "slow", *options], capture_output=True, text=True, check=True, env=_path()
        )
        return done.stdout, done.stderr

    out, err = ran()
    assert out == "done\n"
    assert "lchp: slow is at work (" in err
    assert "lchp: counting sheep (" in err
    assert ran("-q") == ("", "")


def test_slow_command_on_a_terminal_leaves_its_answer_alone() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SLOW, "slow"], stdout=theirs, stderr=theirs, env=_path())
    os.close(theirs)
    told = b""
    try:
        while block := os.read(ours, 1 << 16):
            told += block
    except OSError:  # so a terminal says that nobody writes to it any more
        pass
    assert process.wait() == 0
    assert b"\rlchp: counting sheep (" in told
    assert told.decode().replace("\r\n", "\n").rpartition("\r")[2] == "done\n"


def _path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def test_terminal_that_is_gone_does_not_replace_what_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(at_work, "_write", gone)
    signs = at_work._signs
    monkeypatch.setattr(signs, "drawn", 10)
    with pytest.raises(KeyboardInterrupt), doing("training"):
        raise KeyboardInterrupt
    assert signs.drawn == 0


GONE = """
import sys, time
from pathlib import Path
from lchp.cli_process import answered, leave
from lchp.cli_voice import say, warn

def command():
    try:
        say("begun")
        sys.stdin.readline()
    finally:
        say("ended")
        warn("marked so")
        Path(sys.argv[1]).touch()
    return 0

leave(lambda: answered(command))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (None, 0)])
def test_command_whose_terminal_goes_away_ends_in_order(tmp_path: Path, number: int | None, code: int) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", GONE, str(tmp_path / "ended")],
        stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=_path(),
    ) as process:  # fmt: skip
        os.close(theirs)
        assert b"begun" in os.read(ours, 1 << 16)
        os.close(ours)
        if number is not None:
            process.send_signal(number)
            assert process.wait() == code
        else:
            process.communicate(b"\n")
            assert process.returncode == code
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_speaking_to_whom_cannot_hear_for_another_reason_ends_the_command(number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)), speaking():
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("terminal", [True, False])
def test_error_of_a_file_is_not_taken_for_a_terminal_that_is_gone(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stat, "S_ISCHR", lambda mode: terminal)
    assert at_work.terminal_is_gone(OSError(errno.EIO, "Input/output error")) is terminal
    assert not at_work.terminal_is_gone(OSError(errno.ENOSPC, "No space left on device"))
    with nullcontext() if terminal else pytest.raises(OSError, match="Input/output error"), speaking():
        raise OSError(errno.EIO, "Input/output error")

"""Trials under Ray Tune, which runs in a process of its own (:mod:`lchp.study.run.ray_process`): as often as it takes.

What Ray asks and tells is handed to the driver. Where Ray does not start, or a part of it dies, all that it has started
is ended, and it is started again: trials go on from their files.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lchp.at_work import doing
from lchp.errors import Refusal
from lchp.study.run.cluster import FINISHED, START_SECONDS, Cluster, Lost, Unstarted
from lchp.study.run.driver import Driver
from lchp.study.run.recorder import Recorder
from lchp.study.run.remaining import in_training
from lchp.study.spec.load import Study
from lchp.study.spec.trials import ResolvedTrial

ATTEMPTS = 3
"""On a busy machine one start of Ray in five has failed."""
RESTARTS = 3


class LostForGood(ValueError):
    """Ray was lost too often; says what to do."""


def train(study: Study, trials: Sequence[ResolvedTrial], recorder: Recorder) -> None:
    """Train trials to their end: the given ones in this order, or, where none are, what a search still suggests.

    A trial that fails does not keep the others from going on; the recorder knows which did.

    Raises:
        Refusal: Ray does not start, the cluster cannot be joined, or it has too little for one trial.
        LostForGood: Ray was lost more than :data:`RESTARTS` times.
    """
    driver = Driver(study, trials, recorder)
    failed = lost = 0
    while not driver.finished:
        cluster = Cluster(study, recorder.materials)
        if not failed + lost:
            recorder.say(f"joining Ray at {cluster.address}" if cluster.address else "starting Ray (a few seconds)")
        done = "joined" if cluster.address else "started"
        try:
            with cluster, doing(partial(_told, cluster, recorder)):
                _serve(cluster, driver)
        except Unstarted as error:
            failed += 1
            # A cluster that was there may be on its way back.
            if failed == ATTEMPTS or (cluster.address and not lost):
                raise Refusal(_unstarted(cluster.address, str(error))) from error
            recorder.say(f"Ray is not {done} ({error}): that is tried again ({failed + 1} of {ATTEMPTS})")
        except Lost as error:
            if driver.finished:
                break
            failed, lost, begun = 0, lost + 1, driver.lost()
            if lost > RESTARTS:
                raise LostForGood(
                    f"{error}, {lost} times: see that the machine has memory and processes to spare (free, ulimit -u, "
                    "dmesg), then run the same command again: trials go on from their checkpoints"
                ) from error
            recorder.say(
                f"{error}: it is {done} again ({lost} of {RESTARTS}), trials go on from their checkpoints "
                f"({begun} had begun)"
            )
    driver.close()


def _serve(cluster: Cluster, driver: Driver) -> None:
    """Hand on what Ray's process asks and tells until all trials have ended."""
    # Somebody's cluster is left in order.
    while cluster.address or not driver.finished:
        match cluster.message(seconds=1.0):
            case ("done",) if driver.finished:
                return
            case ("done",):
                raise Lost("Ray has ended before the trials")
            case ("up", slots, _):
                driver.queue.slots = slots
            case ("next", attempt):
                job = driver.next(attempt)
                cluster.answer(FINISHED if job is None and driver.finished else job)
            case ("started", attempt):
                driver.started(attempt)
            case ("epochs", attempt, result):
                cluster.answer(driver.epochs(attempt, result))
            case ("completed", attempt, objective):
                driver.completed(attempt, objective)
            case ("failed", attempt, names, text):
                driver.failed(attempt, names, text)
        for attempt in driver.overdue():
            cluster.end(attempt)
        # On somebody's cluster a trial may wait for its place.
        if not cluster.address and driver.is_stuck(START_SECONDS):
            raise Lost("Ray has not begun with a trial for longer than failures.silent")


def _told(cluster: Cluster, recorder: Recorder) -> str:
    """What is going on, for people who wait."""
    if not cluster.slots:
        return f"joining Ray at {cluster.address}" if cluster.address else "starting Ray"
    # A copy: other threads ask.
    return in_training(list(recorder.ledger.entries.values())) or "starting workers"


def _unstarted(address: str | None, reason: str) -> str:
    if address:
        return (
            f"Ray cluster {address} cannot be joined ({reason}): see that it runs this version of Ray and Python, and "
            "where it asks for a token that RAY_AUTH_MODE=token and RAY_AUTH_TOKEN are set here as there"
        )
    return (
        f"Ray does not start, {ATTEMPTS} times in a row ({reason}): see that the machine has memory and processes to "
        "spare (free, ulimit -u), then run the same command again; or start Ray yourself with `ray start --head` and "
        "give its HOST:PORT with --address"
    )

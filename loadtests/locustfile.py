"""Locust's entry: one conductor in each process, and a shape that ends with the plan.

Started by `python -m loadtests run`, or on other machines by `python -m loadtests worker`. The
master (or the only process) waits until every conductor is ready, sets the campaign's zero, and
prints a line of progress now and then. Locust spawns one conductor in each process; the people
are spawned by the conductor's own scheduler, at their due instants.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import AsyncResult
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtests.cast import read_cast
from loadtests.journey import Deadlines
from loadtests.limits import BEGIN_S, PARENT_LOOK_S, PROGRESS_S, REQUEST_S
from loadtests.plan import read_plan
from loadtests.records import Recorder
from loadtests.schedule import Counts, Schedule, Share
from loadtests.settings import (
    CAMPAIGN_VARIABLE,
    CAST_VARIABLE,
    PLAN_FILE,
    RAW_FOLDER,
    read_settings,
)

logger = logging.getLogger(__name__)

READY = "campaign_ready"
BEGIN = "campaign_begin"
PROGRESS = "campaign_progress"
OVER = "campaign_over"


class Zero(msgspec.Struct, frozen=True, kw_only=True):
    """The campaign's zero, in s since the Unix epoch, and among how many processes it is shared."""

    at_s: float
    workers: int


class Board:
    """The master's view: who is ready, how far each process is, and whether all are done."""

    def __init__(self) -> None:
        self.workers = 1
        self.ready: set[str] = set()
        self.over: set[str] = set()
        self.counts: dict[str, Counts] = {}
        self.begin_at_s: float | None = None
        self.end_by_s: float | None = None

    def on_ready(self, environment: Environment, msg: Any, **_: object) -> None:
        self.ready.add(msg.node_id)
        if len(self.ready) < self.workers or self.begin_at_s is not None:
            return
        self.begin_at_s = time.time() + BEGIN_S
        self.end_by_s = self.begin_at_s + msg.data["longest_s"]
        zero = Zero(at_s=self.begin_at_s, workers=self.workers)
        runner_of(environment).send_message(BEGIN, msgspec.to_builtins(zero))

    def on_progress(self, environment: Environment, msg: Any, **_: object) -> None:
        del environment
        self.counts[msg.node_id] = msgspec.convert(msg.data, Counts)

    def on_over(self, environment: Environment, msg: Any, **_: object) -> None:
        del environment
        self.over.add(msg.node_id)
        self.say()  # the end may come before the next line is due

    @property
    def done(self) -> bool:
        late = self.end_by_s is not None and time.time() > self.end_by_s
        return len(self.over) >= self.workers or late

    def tell(self) -> None:
        """Prints lines of progress for the parent process until it is killed."""
        while True:
            self.say()
            gevent.sleep(PROGRESS_S)

    def say(self) -> None:
        """Print how far all are, once the campaign has begun."""
        if self.begin_at_s is None:
            return
        line: dict[str, float] = {"elapsed_s": round(time.time() - self.begin_at_s, 2)}
        for name in Counts.__struct_fields__:
            line[name] = sum(getattr(counts, name) for counts in self.counts.values())
        sys.stdout.write(msgspec.json.encode({"progress": line}).decode() + "\n")
        sys.stdout.flush()


board = Board()
begin: AsyncResult[Zero] = AsyncResult()


def runner_of(environment: Environment) -> LocalRunner | MasterRunner | WorkerRunner:
    runner = environment.runner
    if not isinstance(runner, LocalRunner | MasterRunner | WorkerRunner):
        raise TypeError
    return runner


def on_begin(environment: Environment, msg: Any, **_: object) -> None:
    del environment
    begin.set(msgspec.convert(msg.data, Zero))


@events.init.add_listener  # type: ignore[untyped-decorator]
def on_init(environment: Environment, **_: object) -> None:
    # a shell's background job inherits SIGINT ignored; `run` ends us with it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gevent.spawn(_end_with, os.getppid())
    runner = runner_of(environment)
    if not isinstance(runner, WorkerRunner):
        options = environment.parsed_options
        if isinstance(runner, MasterRunner) and options is not None:
            board.workers = options.expect_workers
        runner.register_message(READY, board.on_ready)
        runner.register_message(PROGRESS, board.on_progress)
        runner.register_message(OVER, board.on_over)
        gevent.spawn(board.tell)
    if not isinstance(runner, MasterRunner):
        runner.register_message(BEGIN, on_begin)


def _end_with(parent: int) -> None:
    """Nobody carries load for a parent that is gone."""
    while os.getppid() == parent:
        gevent.sleep(PARENT_LOOK_S)
    os.kill(os.getpid(), signal.SIGINT)


class CampaignShape(LoadTestShape):
    """One conductor in each process, until all have come to the end of their share."""

    def tick(self) -> tuple[int, float] | None:
        return None if board.done else (board.workers, float(board.workers))


class Conductor(User):
    """Carries out the share of its process."""

    @task
    def conduct(self) -> None:
        folder = Path(os.environ[CAMPAIGN_VARIABLE])
        plan, _ = read_plan(folder / PLAN_FILE)
        cast = read_cast(Path(os.environ[CAST_VARIABLE]))
        settings = read_settings(folder)
        runner = runner_of(self.environment)
        last_s = max((each.due_s + each.work_s for each in plan.arrivals), default=0.0)
        longest_s = last_s + settings.live_s + 2 * settings.end_s + 3 * REQUEST_S
        runner.send_message(READY, {"longest_s": longest_s})
        zero = begin.get()
        if zero is None:
            raise StopUser
        worker = 0 if isinstance(runner, MasterRunner) else runner.worker_index
        share = Share(
            worker=worker,
            arrivals=plan.share(worker, zero.workers),
            passwords=cast.passwords(),
            url=settings.url,
            seed=plan.recipe.seed,
            begin_at_s=zero.at_s,
            in_flight_max=settings.in_flight_max,
            deadlines=Deadlines(live_s=settings.live_s, end_s=settings.end_s),
        )

        def tell(counts: Counts) -> None:
            runner.send_message(PROGRESS, msgspec.to_builtins(counts))

        with Recorder(folder / RAW_FOLDER, worker) as recorder:
            Schedule(share, self.environment, recorder, tell).run()
        runner.send_message(OVER, {})
        raise StopUser

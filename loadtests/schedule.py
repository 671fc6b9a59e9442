"""The scheduler: starts each arrival at its due instant, whatever the broker does. Under gevent.

Coordinated omission cannot hide here: nobody waits for anybody else's answer, a late start is
part of the arrival's own time, and an arrival past the cap is dropped, recorded and counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import gevent
import msgspec
import psutil
from gevent.pool import Group
from locust import FastHttpUser
from locust.env import Environment

from loadtests.arrivals import chance
from loadtests.client import Client
from loadtests.histograms import Histogram
from loadtests.journey import Deadlines, Journey
from loadtests.limits import CONNECT_S, PROGRESS_S, REQUEST_S, SAMPLE_S, STOP_S
from loadtests.plan import Arrival
from loadtests.records import (
    DROPPED,
    HARNESS,
    GeneratorSecond,
    Recorder,
    SessionRecord,
    Trouble,
    WorkerEnd,
)
from loadtests.request_watch import PHASE, RequestWatch
from loadtests.sight import Place, Sight

logger = logging.getLogger(__name__)


class Person(FastHttpUser):
    """Locust's user for one arrival. The scheduler makes it; Locust spawns none by itself."""

    abstract = True
    network_timeout = REQUEST_S
    connection_timeout = CONNECT_S
    insecure = False
    max_redirects = 0


class Counts(msgspec.Struct, kw_only=True):
    """Where the arrivals of one process are now, and what became of them."""

    total: int = 0
    arrived: int = 0
    signing_in: int = 0
    waiting: int = 0
    live: int = 0
    leaving: int = 0
    done: int = 0
    failed: int = 0
    dropped: int = 0

    @property
    def in_system(self) -> int:
        return self.signing_in + self.waiting + self.live + self.leaving

    def move(self, before: Place | None, after: Place | None) -> None:
        for place, by in ((before, -1), (after, 1)):
            if place is not None:
                setattr(self, place.value, getattr(self, place.value) + by)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one process has to do. `begin_at_s`: the campaign's zero, in s since the epoch."""

    worker: int
    arrivals: Sequence[Arrival]
    passwords: dict[str, str]
    url: str
    seed: int
    begin_at_s: float
    in_flight_max: int
    deadlines: Deadlines


class Schedule:
    """Carries out one process's share of the plan."""

    def __init__(
        self,
        share: Share,
        environment: Environment,
        recorder: Recorder,
        told: Callable[[Counts], None],
    ) -> None:
        self._share = share
        self._environment = environment
        self._recorder = recorder
        self._told = told
        self._offset_s = time.time() - time.monotonic()
        self._zero = share.begin_at_s - self._offset_s
        self._people = Group()
        self._lag = Histogram()
        self._lag_max_ms = 0.0
        self._requests = RequestWatch(environment)
        self.counts = Counts(total=len(share.arrivals))

    def run(self) -> None:
        """Returns when the last arrival is over."""
        Person.host = self._share.url.rstrip("/")
        begun = psutil.Process().cpu_times()
        watchers = [gevent.spawn(self._sample), gevent.spawn(self._tell)]
        try:
            for arrival in self._share.arrivals:
                due = self._zero + arrival.due_s
                gevent.sleep(max(due - time.monotonic(), 0.0))
                self._admit(arrival, due)
            self._people.join()
        finally:
            self._people.kill(timeout=STOP_S)
            gevent.killall(watchers)
            ended = psutil.Process().cpu_times()
            for totals in self._requests.totals(self._share.worker):
                self._recorder.write(totals)
            self._recorder.write(
                WorkerEnd(
                    worker=self._share.worker,
                    arrivals=len(self._share.arrivals),
                    begun_at_ms=self._epoch_ms(self._zero),
                    ended_at_ms=self._epoch_ms(time.monotonic()),
                    cpu_s=round(ended.user + ended.system - begun.user - begun.system, 3),
                    lag=self._lag.encode(),
                )
            )
            self._told(self.counts)

    def _admit(self, arrival: Arrival, due: float) -> None:
        self.counts.arrived += 1
        if self.counts.in_system >= self._share.in_flight_max:
            self.counts.dropped += 1
            self._recorder.write(self._dropped(arrival, due))
            return
        self.counts.move(None, Place.SIGNING_IN)
        self._people.spawn(self._live_through, arrival, due)

    def _live_through(self, arrival: Arrival, due: float) -> None:
        sight = Sight(arrival=arrival, due=due, started=time.monotonic())
        lag_ms = (sight.started - due) * 1000
        self._lag.record(lag_ms)
        self._lag_max_ms = max(self._lag_max_ms, lag_ms)
        place = Place.SIGNING_IN

        def moved(to: Place) -> None:
            nonlocal place
            self.counts.move(place, to)
            place = to

        share = self._share
        person = Person(self._environment)
        client = Client(person.client, chance(share.seed, f"{arrival.index}:retry"))
        journey = Journey(
            sight,
            client,
            url=share.url,
            password=share.passwords[arrival.username],
            key=f"campaign-{int(share.begin_at_s * 1000)}-{arrival.index}",
            deadlines=share.deadlines,
            moved=moved,
        )
        try:
            journey.walk()
        except Exception:
            logger.exception("the harness failed in arrival %d", arrival.index)
            sight.trouble = Trouble(step="any", error=HARNESS)
        finally:
            self.counts.move(place, None)
            client.close()
            self._over(sight.record(share.worker, self._epoch_ms))

    def _over(self, record: SessionRecord) -> None:
        self._recorder.write(record)
        if record.trouble is None:
            self.counts.done += 1
        else:
            self.counts.failed += 1
        if record.total_ms is not None:
            self._fire(f"{record.architecture} due to live", record.total_ms)
            self._fire(f"{record.architecture} start to live", record.total_ms - record.lag_ms)

    def _fire(self, name: str, took_ms: float) -> None:
        """Puts a phase beside the requests in Locust's own statistics."""
        self._environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type=PHASE,
            name=name,
            response_time=took_ms,
            response_length=0,
            exception=None,
            context={},
        )

    def _dropped(self, arrival: Arrival, due: float) -> SessionRecord:
        return SessionRecord(
            index=arrival.index,
            worker=self._share.worker,
            architecture=arrival.architecture,
            username=arrival.username,
            pool=arrival.pool,
            endpoint=arrival.endpoint,
            due_at_ms=self._epoch_ms(due),
            lag_ms=round((time.monotonic() - due) * 1000, 3),
            trouble=Trouble(step="arrive", error=DROPPED),
        )

    def _sample(self) -> None:
        process = psutil.Process()
        process.cpu_percent()
        next_at = max(self._zero, time.monotonic())
        while True:
            next_at += SAMPLE_S
            gevent.sleep(max(next_at - time.monotonic(), 0.0))
            late_ms = max(time.monotonic() - next_at, 0.0) * 1000
            counts = self.counts
            self._recorder.write(
                GeneratorSecond(
                    worker=self._share.worker,
                    at_ms=self._epoch_ms(time.monotonic()),
                    cpu_pct=process.cpu_percent(),
                    lag_max_ms=round(max(self._lag_max_ms, late_ms), 3),
                    arrived=counts.arrived,
                    in_system=counts.in_system,
                    waiting=counts.signing_in + counts.waiting,
                    live=counts.live,
                    done=counts.done,
                    failed=counts.failed,
                    dropped=counts.dropped,
                    requests=self._requests.count,
                )
            )
            self._lag_max_ms = 0.0

    def _tell(self) -> None:
        while True:
            self._told(self.counts)
            gevent.sleep(PROGRESS_S)

    def _epoch_ms(self, instant: float) -> float:
        return round((instant + self._offset_s) * 1000, 3)

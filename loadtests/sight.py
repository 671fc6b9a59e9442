"""What is seen of one arrival while it goes its way, and the record that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from loadtests.plan import Arrival
from loadtests.records import EndpointPhase, SessionRecord, TrafficBytes, Trouble

Epoch = Callable[[float], float]
"""turns an instant of `time.monotonic` into ms since the Unix epoch"""


class Place(StrEnum):
    """Where a person is, for the counts over time."""

    SIGNING_IN = "signing_in"
    WAITING = "waiting"
    LIVE = "live"
    LEAVING = "leaving"


class Named(msgspec.Struct, frozen=True, kw_only=True):
    id: str


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a session's JSON that a client acts upon; unknown fields are ignored."""

    id: str
    state: str
    revision: int
    desktop: Named | None = None
    phases: tuple[EndpointPhase, ...] = ()
    traffic: TrafficBytes = TrafficBytes()


@dataclass(slots=True, kw_only=True)
class Sight:
    """Laps between steps, from the due instant on. Instants are of `time.monotonic`, in s."""

    arrival: Arrival
    due: float
    started: float
    mark: float = field(init=False)
    laps_s: dict[str, float] = field(default_factory=dict)
    session: SessionView | None = None
    desktop_id: str | None = None
    queued: bool = False
    held_from: float | None = None
    left_at: float | None = None
    log_off_acknowledged: bool = False
    own_phases: list[EndpointPhase] = field(default_factory=list)
    trouble: Trouble | None = None
    requests: int = 0
    retries: int = 0

    def __post_init__(self) -> None:
        self.mark = self.due

    def lap(self, name: str) -> None:
        """The step `name` is done: it took from the last lap until now."""
        now = time.monotonic()
        self.laps_s[name] = now - self.mark
        self.mark = now

    def lap_total(self) -> None:
        """The desktop is live: `total` is from the due instant to the last lap."""
        self.laps_s["total"] = self.mark - self.due

    def hold(self) -> None:
        """From now on the client surely has its desktop."""
        if self.session is not None and self.session.desktop is not None:
            self.desktop_id = self.session.desktop.id
            self.held_from = time.monotonic()

    def record(self, worker: int, epoch_ms: Epoch) -> SessionRecord:
        laps = {name: round(seconds * 1000, 3) for name, seconds in self.laps_s.items()}

        def at(instant: float | None) -> float | None:
            return None if instant is None else epoch_ms(instant)

        arrival, session = self.arrival, self.session
        return SessionRecord(
            index=arrival.index,
            worker=worker,
            architecture=arrival.architecture,
            username=arrival.username,
            pool=arrival.pool,
            endpoint=arrival.endpoint,
            due_at_ms=epoch_ms(self.due),
            lag_ms=round((self.started - self.due) * 1000, 3),
            sign_in_ms=laps.get("sign_in"),
            assign_ms=laps.get("assign"),
            queue_ms=laps.get("queue", 0.0 if "deliver" in laps else None),
            deliver_ms=laps.get("deliver"),
            total_ms=laps.get("total"),
            work_ms=laps.get("work"),
            log_off_ms=laps.get("log_off"),
            left_at_ms=at(self.left_at),
            stay_ms=round((time.monotonic() - self.started) * 1000, 3),
            session_id=None if session is None else session.id,
            desktop_id=self.desktop_id,
            queued=self.queued,
            held_from_at_ms=at(self.held_from),
            held_until_at_ms=at(self.left_at) if self.held_from is not None else None,
            log_off_acknowledged=self.log_off_acknowledged,
            phases=self._phases(),
            traffic=TrafficBytes() if session is None else session.traffic,
            requests=self.requests,
            retries=self.retries,
            trouble=self.trouble,
        )

    def _phases(self) -> tuple[EndpointPhase, ...]:
        """The broker's list; a browser's own timing where the broker has none."""
        listed = () if self.session is None else self.session.phases
        names = {phase.name for phase in listed}
        return (*listed, *(phase for phase in self.own_phases if phase.name not in names))

"""What the harness saw: one record for each arrival, samples of the generator, request totals.

Each Locust process appends to its own JSON Lines file; `read_seen` joins them afterwards, and
`write_sessions` keeps the sessions as gzip so that a reader may compute everything again.
Instants `*_at_ms` are milliseconds since the Unix epoch, durations `*_ms` milliseconds.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import msgspec

DROPPED = "generator.dropped"
HARNESS = "generator.error"
INTERRUPTED = "generator.interrupted"
STUCK = "session.stuck"
NOT_ENDED = "session.not_ended"


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why an arrival did not go as it should: the step, and an error class from a closed set
    (`problem:<code>`, `http:<status>`, `transport:<kind>`, `session.…`, `generator.…`)."""

    step: str
    error: str


class EndpointPhase(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the delivery as the endpoint reported it to the broker."""

    name: str
    took_ms: float
    bytes_down: int = 0
    bytes_up: int = 0


class TrafficBytes(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on the wire of one session, both directions added, as the broker counted them."""

    control: int = 0
    display: int = 0
    image: int = 0


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="session"):
    """One arrival from its due instant to its end, as its client saw it.

    sign_in_ms counts from the due instant, so that a late start shows; lag_ms is the part of it
    before the start. The others count from the end of the one before; queue_ms is 0 for who
    was given a desktop at once; total_ms = from due to live. None: not reached.
    held_from_at_ms, held_until_at_ms: while the client surely had its desktop. left_at_ms: when it
    began to log off. stay_ms: from the start to the end, however it ended.
    """

    index: int
    worker: int
    architecture: str
    username: str
    pool: str
    endpoint: str | None
    due_at_ms: float
    lag_ms: float = 0.0
    sign_in_ms: float | None = None
    assign_ms: float | None = None
    queue_ms: float | None = None
    deliver_ms: float | None = None
    total_ms: float | None = None
    work_ms: float | None = None
    log_off_ms: float | None = None
    left_at_ms: float | None = None
    stay_ms: float = 0.0
    session_id: str | None = None
    desktop_id: str | None = None
    queued: bool = False
    held_from_at_ms: float | None = None
    held_until_at_ms: float | None = None
    log_off_acknowledged: bool = False
    phases: tuple[EndpointPhase, ...] = ()
    traffic: TrafficBytes = TrafficBytes()
    requests: int = 0
    retries: int = 0
    trouble: Trouble | None = None

    @property
    def live(self) -> bool:
        """The person had the desktop."""
        return self.total_ms is not None

    @property
    def dropped(self) -> bool:
        return self.trouble is not None and self.trouble.error == DROPPED


class GeneratorSecond(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="second"):
    """One sample of a Locust process: CPU of one core in %, schedule lag, who is where.

    `in_system` counts arrivals that began and are not over; `live` those with a desktop.
    """

    worker: int
    at_ms: float
    cpu_pct: float
    lag_max_ms: float
    arrived: int
    in_system: int
    waiting: int
    live: int
    done: int
    failed: int
    dropped: int
    requests: int


class RequestTotals(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="requests"):
    """All requests of one name in one process; `histogram`: successful ones, from their start."""

    worker: int
    name: str
    count: int
    failures: int
    bytes_down: int
    histogram: str


class WorkerEnd(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="end"):
    """The process came to the end of its share. CPU in seconds over its life."""

    worker: int
    arrivals: int
    begun_at_ms: float
    ended_at_ms: float
    cpu_s: float
    lag: str


Line: TypeAlias = SessionRecord | GeneratorSecond | RequestTotals | WorkerEnd

_decode = msgspec.json.Decoder(Line).decode


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the Locust processes of one campaign wrote."""

    sessions: tuple[SessionRecord, ...]
    seconds: tuple[GeneratorSecond, ...]
    requests: tuple[RequestTotals, ...]
    ends: tuple[WorkerEnd, ...]


class Recorder:
    """Appends lines to one process's file, each at once: a killed process loses nothing."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._file = (folder / f"worker-{worker:04}.jsonl").open("wb", buffering=0)

    def write(self, line: Line) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def read_seen(folder: Path) -> Seen:
    """Joins the files of all processes. A last line cut short by a kill is left out."""
    lines: list[Line] = []
    for path in sorted(folder.glob("worker-*.jsonl")):
        texts = path.read_bytes().splitlines(keepends=True)
        lines.extend(_decode(text) for text in texts if text.endswith(b"\n"))
    sessions = [line for line in lines if isinstance(line, SessionRecord)]
    return Seen(
        sessions=tuple(sorted(sessions, key=lambda record: record.index)),
        seconds=tuple(line for line in lines if isinstance(line, GeneratorSecond)),
        requests=tuple(line for line in lines if isinstance(line, RequestTotals)),
        ends=tuple(line for line in lines if isinstance(line, WorkerEnd)),
    )


def write_sessions(path: Path, sessions: Iterable[SessionRecord]) -> None:
    """`sessions` as JSON Lines in gzip; the same sessions give the same bytes."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        for record in sessions:
            file.write(msgspec.json.encode(record) + b"\n")


def read_sessions(path: Path) -> tuple[SessionRecord, ...]:
    decode = msgspec.json.Decoder(SessionRecord).decode
    with gzip.open(path, "rb") as file:
        return tuple(decode(line) for line in file)


def phase_ms(record: SessionRecord) -> Mapping[str, float]:
    """The phases that `record` reached: the client's steps, then the endpoint's by their names."""
    own = {
        "sign_in": record.sign_in_ms,
        "assign": record.assign_ms,
        "queue": record.queue_ms if record.queued else None,
        "deliver": record.deliver_ms,
        "total": record.total_ms,
        "log_off": record.log_off_ms,
    }
    phases = {name: value for name, value in own.items() if value is not None}
    for phase in record.phases:
        phases.setdefault(phase.name, phase.took_ms)
    return phases

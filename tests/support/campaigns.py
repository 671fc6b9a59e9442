"""Made-up campaigns for tests of the analysis and the report: a cast, a plan, what was seen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from loadtests.cast import Cast, CastPerson, Endpoint, Pool, Scale
from loadtests.collect import BrokerSession, Named
from loadtests.evidence import Evidence
from loadtests.histograms import Histogram
from loadtests.plan import Arrival, Plan, Recipe, encode_plan, make_plan, sha256_of
from loadtests.probe import Ceiling, Machine, Probe
from loadtests.records import (
    EndpointPhase,
    GeneratorSecond,
    RequestTotals,
    Seen,
    SessionRecord,
    TrafficBytes,
    WorkerEnd,
)
from loadtests.settings import Settings
from loadtests.watch import MachineSecond

BEGUN_MS = 1_795_250_000_000.0
STEPS = {
    "vdi": (("display_open", 25), ("first_frame", 60), ("logon", 530)),
    "idv": (("lease", 20), ("image_check", 45), ("image_fetch", 700), ("local_boot", 2700)),
    "voi": (("boot_order", 18), ("boot_stream", 420), ("os_start", 1600)),
}


def cast_of(people: int = 60, endpoints: int = 40, url: str = "http://127.0.0.1:8080") -> Cast:
    """Three pools, one of each architecture, `endpoints` endpoints for each."""
    pools = {"vdi": "maths", "idv": "art", "voi": "lab"}
    return Cast(
        url=url,
        pools=tuple(Pool(name=name, architecture=kind) for kind, name in pools.items()),
        endpoints=tuple(
            Endpoint(name=f"{name}-{i:03}", pools=(name,))
            for name in pools.values()
            for i in range(endpoints)
        ),
        people=tuple(
            CastPerson(
                username=f"person{i:03}",
                password=f"secret of person{i:03}",
                pools=tuple(pools.values()),
            )
            for i in range(people)
        ),
        scale=Scale(speed=10, bytes_scale=100),
    )


def recipe_of(**values: object) -> Recipe:
    defaults: dict[str, object] = {
        "seed": 7,
        "sessions": 24,
        "window_s": 60.0,
        "mix": {"vdi": 1.0, "idv": 1.0, "voi": 1.0},
    }
    return msgspec.convert({**defaults, **values}, Recipe)


def plan_of(**values: object) -> Plan:
    recipe = recipe_of(**values)
    return make_plan(cast_of(people=recipe.sessions + 10, endpoints=recipe.sessions), recipe)


def record_of(arrival: Arrival, **values: object) -> SessionRecord:
    """A session that went well, with times drawn around those of STEPS."""
    draw = random.Random(f"record:{arrival.index}")

    def about(ms: float) -> float:
        return round(ms * draw.lognormvariate(0, 0.35), 3)

    phases = tuple(
        EndpointPhase(name=name, took_ms=about(ms), bytes_down=_down(name), bytes_up=120)
        for name, ms in STEPS[arrival.architecture]
    )
    lag, sign_in, assign = about(2), about(70), about(6)
    queue = about(900) if draw.random() < 0.1 else 0.0
    deliver = sum(phase.took_ms for phase in phases) + about(30)
    due = BEGUN_MS + arrival.due_s * 1000
    total = sign_in + assign + queue + deliver
    work, log_off = arrival.work_s * 1000, about(60)
    left = due + total + work
    record = SessionRecord(
        index=arrival.index,
        worker=0,
        architecture=arrival.architecture,
        username=arrival.username,
        pool=arrival.pool,
        endpoint=arrival.endpoint,
        due_at_ms=due,
        lag_ms=lag,
        sign_in_ms=sign_in,
        assign_ms=assign,
        queue_ms=queue,
        deliver_ms=deliver,
        total_ms=total,
        work_ms=work,
        log_off_ms=log_off,
        left_at_ms=left,
        stay_ms=total + work + log_off - lag,
        session_id=f"ses_{arrival.index:05}",
        desktop_id=f"des_{arrival.endpoint or arrival.index}",
        queued=queue > 0,
        held_from_at_ms=due + sign_in + assign + queue,
        held_until_at_ms=left,
        log_off_acknowledged=True,
        phases=phases,
        traffic=_traffic(arrival, draw),
        requests=12,
    )
    return msgspec.structs.replace(record, **values)


def broker_session_of(record: SessionRecord, **values: object) -> BrokerSession:
    """The broker's record of the same session."""
    assert record.session_id is not None
    assert record.held_from_at_ms is not None
    assert record.held_until_at_ms is not None
    session = BrokerSession(
        id=record.session_id,
        user=Named(id=f"usr_{record.username}", username=record.username),
        pool=Named(id=f"poo_{record.pool}", name=record.pool),
        architecture=record.architecture,
        state="ended",
        desktop=Named(id=record.desktop_id or "", name=record.desktop_id or ""),
        requested_at=at(record.due_at_ms),
        assigned_at=at(record.held_from_at_ms - 1),
        live_at=at(record.due_at_ms + (record.total_ms or 0)),
        ended_at=at(record.held_until_at_ms + 40),
        phases=record.phases,
        traffic=record.traffic,
    )
    return msgspec.structs.replace(session, **values)


def at(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def evidence_of(
    plan: Plan,
    records: Sequence[SessionRecord] | None = None,
    sessions: Sequence[BrokerSession] | None = None,
) -> Evidence:
    """A whole campaign around `records` (all good if None), with samples that agree with them."""
    records = [record_of(arrival) for arrival in plan.arrivals] if records is None else records
    if sessions is None:
        sessions = [broker_session_of(r) for r in records if r.held_from_at_ms is not None]
    ended = max((r.due_at_ms + r.lag_ms + r.stay_ms for r in records), default=BEGUN_MS) + 100
    return Evidence(
        recipe=plan.recipe,
        plan_sha256=sha256_of(encode_plan(plan)),
        settings=Settings(url="http://127.0.0.1:8080"),
        scale=Scale(speed=10, bytes_scale=100),
        probe=probe_of(),
        seen=Seen(
            sessions=tuple(records),
            seconds=tuple(_seconds(records, ended)),
            requests=(
                _requests("sign in", [r.sign_in_ms for r in records], failures=3),
                _requests("connect", [r.assign_ms for r in records]),
                _requests("log off", [r.log_off_ms for r in records]),
                _requests("session (long poll)", [r.deliver_ms for r in records]),
            ),
            ends=(
                WorkerEnd(
                    worker=0,
                    arrivals=len(records),
                    begun_at_ms=BEGUN_MS,
                    ended_at_ms=ended,
                    cpu_s=3.5,
                    lag=Histogram.of(record.lag_ms for record in records).encode(),
                ),
            ),
        ),
        machine=tuple(
            MachineSecond(
                at_ms=BEGUN_MS + i * 1000,
                busy_pct=60 + i % 17,
                steal_pct=0.3,
                generator_pct=4.0,
                broker_cpu_s=10 + i * 0.21,
                broker_rss_bytes=9.1e7,
            )
            for i in range(round((ended - BEGUN_MS) / 1000))
        ),
        broker_sessions=tuple(sessions),
        command="python -m loadtests run --cast cast.json --out OUT --seed 7",
    )


def probe_of() -> Probe:
    return Probe(
        machine=Machine(
            cpu_model="Example CPU 9000 with 64 cores",
            cpus=2,
            memory_gib=23.4,
            kernel="Linux 6.18.0",
            python="CPython 3.11.7",
            packages={"locust": "2.47.0", "gevent": "26.9.0", "trivium": "0.1.0"},
            open_files_max=20_000,
            clock="tsc",
            cgroup_cpu="max 100000",
            load_1_min=1.3,
        ),
        hiccups_ms={"50": 0.09, "99": 0.22, "99.9": 4.0, "100": 6.1},
        ceiling=Ceiling(
            requests=4200, errors=0, seconds=1.0, requests_per_s=4200.0, cpu_us_per_request=101.0
        ),
    )


def _down(phase: str) -> int:
    return {"first_frame": 300_000, "image_fetch": 11_000_000, "boot_stream": 1_970_000}.get(
        phase, 400
    )


def _traffic(arrival: Arrival, draw: random.Random) -> TrafficBytes:
    if arrival.architecture == "vdi":
        rate = 10 * draw.choice((5, 2_000, 2_500, 37_000, 62_000, 90_000))
        return TrafficBytes(control=2_100, display=300_000 + round(rate * arrival.work_s))
    image = {"idv": 11_000_000, "voi": 1_970_000}[arrival.architecture]
    return TrafficBytes(control=2_600, image=image)


def _requests(name: str, took: Sequence[float | None], failures: int = 0) -> RequestTotals:
    values = [value for value in took if value is not None]
    return RequestTotals(
        worker=0,
        name=name,
        count=len(values) + failures,
        failures=failures,
        bytes_down=700 * len(values),
        histogram=Histogram.of(values).encode(),
    )


def _seconds(records: Sequence[SessionRecord], ended_ms: float) -> list[GeneratorSecond]:
    def began(record: SessionRecord) -> float:
        return record.due_at_ms + record.lag_ms

    found = []
    for i in range(1, int((ended_ms - BEGUN_MS) / 1000) + 1):
        now = BEGUN_MS + i * 1000
        here = [r for r in records if began(r) <= now < began(r) + r.stay_ms]
        live = [r for r in here if r.total_ms is not None and r.due_at_ms + r.total_ms <= now]
        over = [r for r in records if began(r) + r.stay_ms <= now]
        found.append(
            GeneratorSecond(
                worker=0,
                at_ms=now,
                cpu_pct=6 + (i * 7) % 11,
                lag_max_ms=2.0,
                arrived=sum(1 for r in records if began(r) <= now),
                in_system=len(here),
                waiting=len(here) - len(live),
                live=len(live),
                done=sum(1 for r in over if r.trouble is None),
                failed=sum(1 for r in over if r.trouble is not None),
                dropped=0,
                requests=12 * len(over),
            )
        )
    return found

"""Memory and SQLite do the same thing whatever happens, in whatever order.

Hypothesis plays random lives of a small school against both and compares every answer, every
refusal and, after each step, everything stored.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker.domain.errors import TriviumError
from broker.domain.lifecycle import (
    DESKTOP,
    JOB,
    SESSION,
    DesktopEvent,
    EndpointEvent,
    Lifecycle,
)
from broker.domain.model import (
    EndpointKind,
    PhaseReport,
    Pool,
    PoolKind,
    Role,
    Session,
    SessionState,
    Traffic,
)
from broker.ports import PageQuery, Release, RosterChange, Store
from broker.store import moves, open_store
from broker.store.memory import sessions
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    VDI,
    fill,
    make_job,
    make_request,
    make_user,
    new_desktop,
    ready_desktops,
)

USERS, PLACES = 4, 3
users = st.integers(1, USERS)
places = st.integers(1, PLACES)
pools = st.sampled_from([VDI, IDV, replace(VDI, kind=PoolKind.DEDICATED)])
instants = st.integers(NOW, NOW + 100)
maybe_instant = st.none() | instants
maybe_generation = st.sampled_from([None, None, None, 1, 2])
releases = st.sampled_from(
    [
        DesktopEvent.RELEASED_RESET,
        DesktopEvent.RELEASED_KEEP,
        DesktopEvent.RELEASED_DELETE,
        DesktopEvent.FAILED,
    ]
)

Ask = Callable[[Store], Awaitable[Any]]


@st.composite
def wishes(draw: st.DrawFn) -> dict[str, Any]:
    """One claim's changing parts."""
    return {
        "user": draw(users),
        "pool": draw(pools),
        "endpoint_id": draw(st.none() | places.map("ept_{}".format)),
        "queue_limit": draw(st.sampled_from([0, 2, 3, 3])),
        "group_id": draw(st.sampled_from([None, "grp_1", "grp_2"])),
        "idempotency_key": draw(st.sampled_from([None, None, "a", "b"])),
        "request_hash": draw(st.sampled_from([b"1", b"2"])),
    }


class TwoStores(RuleBasedStateMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._directory = Path(tempfile.mkdtemp(prefix="trivium-model-"))
        shutil.copy(self.template, self._directory / "model.db")
        self._stores = (
            open_store("memory://"),
            open_store(f"sqlite:///{self._directory}/model.db"),
        )
        self._desktops: list[str] = []
        self._sessions: list[str] = []
        self._jobs: list[str] = []
        self._tickets: list[bytes] = []

    def teardown(self) -> None:
        for store in self._stores:
            self._runner.run(store.close())
        self._runner.close()
        shutil.rmtree(self._directory)

    def ask(self, what: Ask) -> Any:
        """Ask both stores; their answers, or the kinds of their refusals, are the same."""
        answers = []
        for store in self._stores:
            try:
                answers.append(self._runner.run(self._run(what, store)))
            except TriviumError as error:
                answers.append(type(error))
        assert answers[0] == answers[1]
        return answers[0]

    async def _run(self, what: Ask, store: Store) -> Any:
        return await what(store)

    @initialize()
    def begin(self) -> None:
        self.ask(lambda store: store.open())
        self.ask(lambda store: fill(store, users=USERS, endpoints=PLACES))
        self.ask(lambda store: ready_desktops(store, [11, 12, 13]))
        self.ask(lambda store: ready_desktops(store, [1, 2], IDV))
        self._desktops += [new_desktop(number).id for number in (11, 12, 13)]
        self._desktops += [new_desktop(number, IDV).id for number in (1, 2)]

    def one_of(self, known: list[str], data: st.DataObject) -> str:
        return data.draw(st.sampled_from(known or ["unknown"]))

    def event_for(self, lifecycle: Lifecycle[Any, Any], record: Any, data: st.DataObject) -> Any:
        """Mostly an event that the record's state takes, for a life that gets somewhere."""
        every = list(dict.fromkeys(event for _, event in lifecycle.table))
        taken = [event for event in every if record and lifecycle.allows(record.state, event)]
        return data.draw(st.sampled_from(taken * 5 + every))

    # -------------------------------------------------------------------------- rules

    @rule(number=st.integers(1, 6), pool=st.sampled_from([VDI, IDV]), deadline_at=maybe_instant)
    def add_desktop(self, number: int, pool: Pool, deadline_at: int | None) -> None:
        again = f"dsk_{pool.name}_{number}_{len(self._desktops)}"
        desktop = new_desktop(number, pool, id=again, deadline_at=deadline_at)
        job_id = f"job_{len(self._jobs):04d}"
        jobs = [make_job(id=job_id, desktop_id=again)] if pool is VDI else []
        self.ask(lambda store: store.desktops.add([desktop], jobs))
        self._desktops.append(again)
        self._jobs.append(job_id)

    @rule(
        data=st.data(),
        now=instants,
        deadline_at=maybe_instant,
        generation=maybe_generation,
        note=st.none() | st.just("noted"),
        fresh=st.booleans(),
    )
    def move_desktop(self, data: st.DataObject, now: int, **how: Any) -> None:
        desktop_id = self.one_of(self._desktops, data)
        desktop = self.ask(lambda store: store.desktops.desktop(desktop_id))
        event = self.event_for(DESKTOP, desktop, data)
        self.ask(lambda store: store.desktops.advance(desktop_id, event, now, **how))

    @rule(data=st.data(), now=instants)
    def make_ready(self, data: st.DataObject, now: int) -> None:
        desktop_id = self.one_of(self._desktops, data)
        for event in (
            DesktopEvent.CREATE_BEGUN,
            DesktopEvent.CREATED,
            DesktopEvent.REPORTED_READY,
        ):
            self._advance(desktop_id, event, now)

    def _advance(self, desktop_id: str, event: DesktopEvent, now: int) -> None:
        self.ask(lambda store: store.desktops.advance(desktop_id, event, now))

    @rule(wished=st.lists(wishes(), min_size=1, max_size=5), now=instants)
    def claim(self, wished: list[dict[str, Any]], now: int) -> None:
        requests = [make_request(**wish) for wish in wished]
        self.ask(lambda store: store.sessions.claim(requests, now))
        self._sessions += [
            request.session_id
            for request in requests
            if self._session(request.session_id) is not None
        ]
        self._tickets += [request.ticket_secret_hash for request in requests]

    def _session(self, session_id: str) -> Any:
        return self.ask(lambda store: store.sessions.session(session_id))

    @precondition(lambda self: bool(self._sessions))
    @rule(pool=pools, data=st.data(), deadline_at=instants, now=instants)
    def serve_queue(self, pool: Pool, data: st.DataObject, deadline_at: int, now: int) -> None:
        order = data.draw(st.permutations(self._sessions))
        self.ask(lambda store: store.sessions.serve_queue(pool, order, deadline_at, now))

    @precondition(lambda self: bool(self._sessions))
    @rule(
        data=st.data(),
        now=instants,
        deadline_at=maybe_instant,
        generation=maybe_generation,
        lease_until=maybe_instant,
        leave_endpoint=st.booleans(),
        release=st.none() | releases,
        fresh=st.booleans(),
    )
    def move_session(
        self,
        data: st.DataObject,
        now: int,
        release: DesktopEvent | None,
        fresh: bool,
        **how: Any,
    ) -> None:
        session_id = self.one_of(self._sessions, data)
        session = self._session(session_id)
        event = self.event_for(SESSION, session, data)
        freed = None
        if release is not None:
            job = None
            if data.draw(st.booleans()) and self._desktops:
                job_id = f"job_{len(self._jobs):04d}"
                job = make_job(id=job_id, desktop_id=data.draw(st.sampled_from(self._desktops)))
                self._jobs.append(job_id)
            freed = Release(event=release, fresh=fresh, deadline_at=how["deadline_at"], job=job)
        self.ask(
            lambda store: store.sessions.advance(
                session_id, event, now, why="moved", release=freed, **how
            )
        )

    @precondition(lambda self: bool(self._sessions))
    @rule(data=st.data(), count=st.integers(0, 3), traffic=st.integers(0, 5))
    def note_phases(self, data: st.DataObject, count: int, traffic: int) -> None:
        session_id = self.one_of(self._sessions, data)
        phases = [PhaseReport(name=f"p{n}", took_ms=n / 4) for n in range(count)]
        carried = Traffic(display=traffic)
        self.ask(lambda store: store.sessions.note_phases(session_id, phases, carried))

    @rule(
        place=places,
        event=st.sampled_from(EndpointEvent),
        now=instants,
        agent_version=st.none() | st.just("2"),
        fresh_deadline_at=maybe_instant,
    )
    def presence(self, place: int, event: EndpointEvent, now: int, **how: Any) -> None:
        if event is EndpointEvent.RETIRED and place != PLACES:
            return
        self.ask(lambda store: store.endpoints.presence(f"ept_{place}", event, now, **how))

    @rule(place=st.integers(1, PLACES + 2), kind=st.sampled_from(EndpointKind), now=instants)
    def enrol(self, place: int, kind: EndpointKind, now: int) -> None:
        how: dict[str, Any] = {
            "name": f"LAB-{place:02d}",
            "kind": kind,
            "location": "",
            "public_key": b"k" * 32,
            "agent_version": "1",
            "new_id": f"ept_{place}",
            "now": now,
        }
        self.ask(lambda store: store.endpoints.enrol(**how))

    @precondition(lambda self: bool(self._jobs))
    @rule(now=instants, deadline_at=instants, limit=st.integers(1, 3))
    def take_jobs(self, now: int, deadline_at: int, limit: int) -> None:
        self.ask(lambda store: store.jobs.take(now, deadline_at, limit))

    @precondition(lambda self: bool(self._jobs))
    @rule(data=st.data(), now=instants, again_at=instants)
    def move_job(self, data: st.DataObject, now: int, again_at: int) -> None:
        job_id = self.one_of(self._jobs, data)
        job = self.ask(lambda store: store.jobs.job(job_id))
        event = self.event_for(JOB, job, data)
        self.ask(
            lambda store: store.jobs.advance(job_id, event, now, error="e", not_before_at=again_at)
        )

    @precondition(lambda self: bool(self._tickets))
    @rule(data=st.data(), now=instants)
    def redeem(self, data: st.DataObject, now: int) -> None:
        secret = data.draw(st.sampled_from([*self._tickets, b"unknown"]))
        self.ask(lambda store: store.credentials.redeem_ticket(secret, now))

    @rule(now=st.sampled_from([NOW, NOW + 60_000, NOW + 24 * 3600 * 1000 + 50]))
    def purge(self, now: int) -> None:
        self.ask(lambda store: store.credentials.purge(now))

    @rule(user=st.integers(1, USERS + 2), name=st.integers(1, USERS + 2), group=st.integers(1, 3))
    def change_roster(self, user: int, name: int, group: int) -> None:
        changed = make_user(
            user, username=f"user-{name:04d}", role=Role.USER, group_ids=(f"grp_{group}",)
        )
        self.ask(lambda store: store.directory.apply_roster(RosterChange(users=(changed,))))

    # ---------------------------------------------------------------------- comparing

    @invariant()
    def everything_stored_is_the_same(self) -> None:
        self.ask(_picture)


async def _picture(store: Store) -> dict[str, Any]:
    """Everything stored, and the answer to every question about it."""
    everything, late = PageQuery(limit=500), NOW + 50
    states = (SessionState.DELIVERING, SessionState.ACTIVE)
    at_endpoints = await store.sessions.at_endpoints(["ept_1", "ept_2"], states)
    return {
        "sessions": await store.sessions.sessions(everything),
        "desktops": await store.desktops.desktops(everything),
        "deleted": await store.desktops.desktops(PageQuery(filters={"state": "deleted"})),
        "jobs": await store.jobs.jobs(everything),
        "endpoints": await store.endpoints.endpoints(everything),
        "users": await store.directory.users(everything),
        "overview": await store.overview(),
        "counts": await store.desktops.counts(),
        "loads": await store.directory.host_loads(),
        "late sessions": await store.sessions.expired(late, 3),
        "late desktops": await store.desktops.expired(late, 3),
        "late jobs": await store.jobs.expired(late, 3),
        "by state": await store.desktops.by_state(["ready", "failed"], 3),
        "silent": await store.endpoints.silent(late, 3),
        "at endpoints": sorted(one.id for one in at_endpoints),
        "waiting": [
            sorted(one.session_id for one in await store.sessions.waiting(pool.id))
            for pool in (VDI, IDV)
        ],
    }


@pytest.mark.timeout(600)
def test_memory_and_sqlite_are_the_same_store(sqlite_template: Path) -> None:
    machine = type("Machine", (TwoStores,), {"template": sqlite_template})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(25, settings().max_examples // 10),
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(600)
def test_a_store_that_forgets_is_found_out(
    sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison itself is tried: a store that loses a session's traffic is noticed."""

    def forgetful(session: Session, phases: Any, traffic: Traffic) -> Session:
        return moves.note_phases(session, phases, Traffic())

    monkeypatch.setattr(sessions, "note_phases", forgetful)
    machine = type("Machine", (TwoStores,), {"template": sqlite_template})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=200,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                print_blob=False,
                database=None,
            ),
        )

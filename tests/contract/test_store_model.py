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

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import TriviumError
from broker.domain.lifecycle import (
    DESKTOP,
    HOST,
    JOB,
    SESSION,
    DesktopEvent,
    EndpointEvent,
    Lifecycle,
)
from broker.domain.model import (
    Desktop,
    DesktopState,
    EndpointKind,
    JobVerb,
    Notice,
    PhaseReport,
    Pool,
    PoolKind,
    Resources,
    Role,
    Session,
    SessionState,
    Traffic,
    Wish,
)
from broker.domain.policy.rules import Quota, QuotaScope
from broker.domain.settings import TakeOver
from broker.ports import Page, PageQuery, Release, RosterChange, SessionChange, Store
from broker.store import moves, open_store
from broker.store.memory import sessions
from tests.support.builders import NOW, make_host
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
        DesktopEvent.RELEASED_RESTART,
        DesktopEvent.RELEASED_DELETE,
        DesktopEvent.FAILED,
    ]
)

QUOTAS = (
    Quota(id="quo_1", name="a", scope=QuotaScope.USER, sessions_max=1),
    Quota(id="quo_2", name="b", scope=QuotaScope.GROUP, sessions_max=2, group_id="grp_1"),
    Quota(id="quo_3", name="c", scope=QuotaScope.POOL, sessions_max=2, pool_ids=(IDV.id,)),
    Quota(id="quo_4", name="d", scope=QuotaScope.POOL, sessions_max=4),
)
changes = st.builds(
    SessionChange,
    ends_at=maybe_instant,
    active_at=maybe_instant,
    notice=st.none() | st.just(Notice(id="ntc_1", text="Bye", sender="", at=NOW)),
    wish=st.none() | st.just(Wish(id="wsh_3", endpoint_id=None, until=NOW + 50)),
    clear_wish=st.booleans(),
    move=st.booleans(),
    move_to=st.sampled_from([None, "ept_1", "ept_2"]),
)
HOSTS = ("hst_1", "hst_2")
hosts = st.sampled_from(HOSTS)

Ask = Callable[[Store], Awaitable[Any]]


@st.composite
def wishes(draw: st.DrawFn) -> dict[str, Any]:
    """One claim's changing parts."""
    return {
        "user": draw(users),
        "pool": draw(pools),
        "endpoint_id": draw(st.none() | places.map("ept_{}".format)),
        "take_over": draw(st.sampled_from(TakeOver)),
        "wish_id": draw(st.sampled_from(["wsh_1", "wsh_2"])),
        "wish_until": draw(instants),
        "quotas": tuple(draw(st.lists(st.sampled_from(QUOTAS), max_size=2))),
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
        self._entries = 0

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
        other = make_host(id="hst_2", name="server-2")
        self.ask(lambda store: store.directory.save_host(other, new=True))
        self.ask(lambda store: ready_desktops(store, [11, 12, 13]))
        self.ask(lambda store: ready_desktops(store, [1, 2], IDV))
        self._desktops += [new_desktop(number).id for number in (11, 12, 13)]
        self._desktops += [new_desktop(number, IDV).id for number in (1, 2)]

    def one_of(self, known: list[str], data: st.DataObject) -> str:
        return data.draw(st.sampled_from(known or ["unknown"]))

    def entry(self, now: int) -> AuditEntry:
        """An entry of its own."""
        self._entries += 1
        return AuditEntry(
            id=f"ent_{self._entries:04d}",
            at=now,
            actor="broker",
            action="desktop.moved",
            outcome=Outcome.DONE,
        )

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
        said=st.booleans(),
    )
    def move_desktop(self, data: st.DataObject, now: int, *, said: bool, **how: Any) -> None:
        if said:
            how["entry"] = self.entry(now)
        desktop_id = self.one_of(self._desktops, data)
        desktop = self.ask(lambda store: store.desktops.desktop(desktop_id))
        event = self.event_for(DESKTOP, desktop, data)
        self.ask(lambda store: store.desktops.advance(desktop_id, event, now, **how))

    @rule(data=st.data(), to=hosts, generation=st.sampled_from([1, 1, 1, 2]))
    def begin_move(self, data: st.DataObject, to: str, generation: int) -> None:
        desktop_id, job_id = self.one_of(self._desktops, data), f"job_{len(self._jobs):04d}"
        job = make_job(id=job_id, verb=JobVerb.MIGRATE, arguments={"to_host_id": to})
        job = replace(job, desktop_id=desktop_id)
        self.ask(lambda store: store.desktops.begin_move(desktop_id, to, generation, job))
        self._jobs.append(job_id)

    @rule(data=st.data(), to=hosts, generation=st.sampled_from([1, 1, 1, 2]), moved=st.booleans())
    def end_move(self, data: st.DataObject, to: str, generation: int, *, moved: bool) -> None:
        going = [one for one in self._all_desktops() if one.moving_to is not None]
        ids = [one.id for one in going] or self._desktops
        desktop_id = self.one_of(ids, data)
        self.ask(lambda store: store.desktops.end_move(desktop_id, to, generation, moved=moved))

    def _all_desktops(self) -> tuple[Desktop, ...]:
        found: Page[Desktop] = self.ask(lambda store: store.desktops.desktops(PageQuery(limit=500)))
        return found.items

    @rule(data=st.data(), generation=st.sampled_from([1, 2]), cpus=st.integers(1, 3))
    def resize(self, data: st.DataObject, generation: int, cpus: int) -> None:
        desktop_id = self.one_of(self._desktops, data)
        size = Resources(cpus=cpus / 2, memory_mib=1024, disk_mib=10 * cpus)
        self.ask(lambda store: store.desktops.resized(desktop_id, generation, size))

    @rule(data=st.data(), host=hosts, now=instants, deadline_at=maybe_instant)
    def move_host(self, data: st.DataObject, host: str, now: int, deadline_at: int | None) -> None:
        loads = self.ask(lambda store: store.directory.host_loads())
        record = next(one.host for one in loads if one.host.id == host)
        event = self.event_for(HOST, record, data)
        self.ask(lambda store: store.directory.move_host(host, event, now, deadline_at=deadline_at))

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
        revision=st.sampled_from([None, None, None, 1, 2]),
        change=st.none() | changes,
        actor=st.sampled_from(["broker", "usr_1"]),
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
    @rule(data=st.data(), at=instants)
    def active(self, data: st.DataObject, at: int) -> None:
        session_id = self.one_of(self._sessions, data)
        self.ask(lambda store: store.sessions.active({session_id: at}))

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
    held = [one.id for one in (await store.desktops.desktops(everything)).items]
    with_desktops = await store.sessions.with_desktops(held, states)
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
        "entries": await store.audit.entries(everything),
        "abandoned": await store.sessions.abandoned(late, 3),
        "dark": await store.sessions.dark(["broker:1.1"], 3),
        "queues": await store.sessions.queue_lengths(),
        "quotas": await store.sessions.counts(QUOTAS),
        "owned": await store.desktops.counts(owned=True),
        "awaited": await store.desktops.awaited(3),
        "on hosts": [
            await store.desktops.on_host(host, ["ready", "assigned", "failed"], 3) for host in HOSTS
        ],
        "of pool": await store.desktops.of_pool(VDI.id, ["ready", "assigned"], 3, unowned=True),
        "other sizes": await store.desktops.of_pool(
            VDI.id, list(DesktopState), 3, unlike=VDI.resources
        ),
        "at endpoints": sorted(one.id for one in at_endpoints),
        "with desktops": sorted(one.id for one in with_desktops),
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

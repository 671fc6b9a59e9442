"""What must never be, checked at every change of a record and at every call that matters.

The names are those of the reliability facts: I for what must hold at every instant, L for what
must come about in bounded time (those of the end are in settling.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from broker import limits
from broker.domain.lifecycle import (
    DESKTOP,
    JOB,
    SESSION,
    SESSION_HOLDS_DESKTOP,
    SESSION_HOLDS_PLACE,
)
from broker.domain.model import Desktop, DesktopState, Job, Session, SessionState, Ticket, WorkLease
from broker.domain.queueing import Waiting, fair_order
from broker.simulation.engine import Hypervisor
from broker.simulation.history import History
from broker.simulation.ledger import Ledger
from broker.simulation.marks import Marks
from broker.simulation.process import SKEW_MS_MAX
from broker.simulation.rulings import Rulings
from broker.simulation.seams import SimClock
from broker.simulation.watched import CAUSE, WatchedState

SENTENCES: Final[Mapping[str, str]] = {
    "I1": "one desktop has at most one live session, one person at most one of a pool",
    "I2": "a desktop is ready only by a report of its machine in its current generation",
    "I3": "a desktop is given to somebody else only in a new generation",
    "I4": "generations never go back, records move along their tables, what is over stays over",
    "I5": "one attempt at a job is carried out once, by one process",
    "I6": "one idempotency key leads to one session",
    "I7": "no lease runs longer than its pool allows, by the server's time",
    "I8": "every change of a session is a new revision",
    "I9": "what one endpoint says changes nothing of another's",
    "I10": "a ticket opens once, and only in its time",
    "I11": "a passing state has its target and a deadline within the limits",
    "I12": "a host is never given more machines than fit, a pool never more than its size",
    "I13": "the queue of a group is first come, first served, and nobody passes it by",
    "I14": "a desktop is deleted only when its machine is gone",
    "I15": "a broker outlives every fault of what it depends on, and fails no request by itself",
    "I16": "shared work has one holder at a time, and each new one a new fence",
    "I17": "nobody has a machine on which somebody else has worked, nor loses a suspended one",
    "I18": "a quota is never passed by a new session",
    "I19": "nobody whom a rule denies it is given a new session",
    "I20": "nothing new comes to a host, a pool or a site that is closed",
    "I21": "no session moves, and nothing is set, without its entry in the audit trail",
    "I22": "a desktop that is kept is free only when nobody is logged on in it",
    "L1": "no row stays in a passing state past its deadline while a broker works",
    "L2": "in the end machines and records agree: no orphans, no phantoms",
    "L3": "in the end nobody waits while a desktop is ready for him",
    "L4": "endpoints never give up, come back spread out, and are all online in the end",
    "L6": "an endpoint that is away is noticed in bounded time, and its sessions with it",
    "L7": "in the end every entry of the audit trail is sealed, and the chain holds",
    "L5": "in the end endpoints and records agree about who has which session",
}

SLACK_MS: Final = 2 * SKEW_MS_MAX + 60_000
"""clocks differ, calls take time: how much later than its maker said a deadline may be"""
LATE_MS: Final = 150_000
"""how far past its deadline a row may be while brokers come and go"""
_QUEUE_SETTLED_MS: Final = 10_000
_DESKTOP_DEADLINE_S: Final = max(
    limits.CREATE_S, limits.BOOT_S, limits.RESET_S, limits.DELETE_S, limits.JOB_S
)
_WOKEN: Final = frozenset({DesktopState.RESUMING, DesktopState.UNPARKING})
"""states of a desktop that may wait for a snapshot of it to end, past what they take themselves"""
_SESSION_DEADLINES_S: Final[Mapping[SessionState, int]] = {
    SessionState.QUEUED: limits.QUEUE_S,
    SessionState.DELIVERING: limits.DELIVER_S,
    SessionState.ENDING: limits.ENDING_S,
}
_DESKTOP_EDGES: Final = frozenset(DESKTOP.edges())
_SESSION_EDGES: Final = frozenset(SESSION.edges())
_JOB_EDGES: Final = frozenset(JOB.edges())


class Invariants:
    """Implements watched.Watcher. `fresh`: (desktop, generation) of every desktop of an endpoint
    that the endpoint itself said it had made fresh."""

    def __init__(
        self, history: History, state: WatchedState, hypervisor: Hypervisor, clock: SimClock
    ) -> None:
        self.fresh: set[tuple[str, int]] = set()
        self.rulings = Rulings(history, state, clock)
        self.ledger = Ledger(history, state, clock)
        self.marks = Marks(history, state, hypervisor)
        self._history = history
        self._state = state
        self._hypervisor = hypervisor
        self._clock = clock
        self._holds: dict[str, set[str]] = {}
        self._places: dict[tuple[str, str], set[str]] = {}
        self._used_by: dict[tuple[str, int], str] = {}
        self._queued_at: dict[str, int] = {}
        self._redeemed: set[bytes] = set()
        self._leases: dict[str, WorkLease] = {}

    def _broken(self, name: str, what: str) -> None:
        self._history.violated(name, what)

    # -------------------------------------------------------------------- sessions

    def session_changed(self, old: Session | None, new: Session) -> None:
        self._history.wrote("session", f"{new.id} {new.state} {new.revision} {new.desktop_id}")
        self.rulings.session_changed(old, new)
        self.ledger.session_changed(old, new)
        self.marks.session_changed(old, new)
        self._one_holder(new)
        self._session_move(old, new)
        self._session_deadline(new)
        self._lease(new)
        cause = CAUSE.get()
        if (
            cause is not None
            and old is not None
            and cause not in {old.endpoint_id, new.endpoint_id}
            and self._is_more_than_counted(old, new)
        ):
            self._broken("I9", f"{cause} changed {new.id}, which is at {old.endpoint_id}")
        if new.state is SessionState.QUEUED:
            self._queued_at.setdefault(new.id, self._clock.now())
        if new.state is SessionState.DELIVERING and (
            old is None or old.state is SessionState.QUEUED
        ):
            self._claimed(old, new)

    @staticmethod
    def _is_more_than_counted(old: Session, new: Session) -> bool:
        """What an endpoint counted and timed until a moment ago is written all the same."""
        counted = replace(new, traffic=old.traffic, phases=old.phases, revision=old.revision)
        return counted != old

    def _one_holder(self, new: Session) -> None:
        place = (new.user_id, new.pool_id)
        places = self._places.setdefault(place, set())
        if new.state in SESSION_HOLDS_PLACE:
            places.add(new.id)
            if len(places) > 1:
                self._broken("I1", f"{new.user_id} has {sorted(places)} in {new.pool_id}")
        else:
            places.discard(new.id)
        if new.desktop_id is None:
            return
        holders = self._holds.setdefault(new.desktop_id, set())
        if new.state in SESSION_HOLDS_DESKTOP:
            holders.add(new.id)
            if len(holders) > 1:
                self._broken("I1", f"{new.desktop_id} has {sorted(holders)}")
        else:
            holders.discard(new.id)

    def _session_move(self, old: Session | None, new: Session) -> None:
        if old is None:
            if new.state not in SESSION.first:
                self._broken("I4", f"{new.id} began as {new.state}")
            return
        if old.state != new.state and (old.state, new.state) not in _SESSION_EDGES:
            self._broken("I4", f"{new.id} went from {old.state} to {new.state}")
        if old.desktop_id is not None and old.desktop_id != new.desktop_id:
            self._broken("I4", f"{new.id} changed its desktop")
        changed = (old.state, old.deadline_at, old.endpoint_id, old.phases) != (
            (new.state, new.deadline_at, new.endpoint_id, new.phases)
        )
        if new.revision - old.revision not in ({1} if changed else {0, 1}):
            self._broken("I8", f"{new.id} went from revision {old.revision} to {new.revision}")

    def _session_deadline(self, new: Session) -> None:
        limit_s = _SESSION_DEADLINES_S.get(new.state)
        must = new.state in SESSION.transient or new.state is SessionState.DISCONNECTED
        if must and new.deadline_at is None:
            self._broken("I11", f"{new.id} is {new.state} without a deadline")
        elif limit_s is not None and new.deadline_at is not None:
            latest = self._clock.now() + limit_s * 1000 + SLACK_MS
            if new.deadline_at > latest:
                self._broken("I11", f"{new.id} is {new.state} for too long a time")

    def _lease(self, new: Session) -> None:
        if new.lease_until is not None:
            allowed = self._state.pools[new.pool_id].lease_s * 1000 + 2 * SKEW_MS_MAX
            if new.lease_until > self._clock.now() + allowed:
                self._broken("I7", f"{new.id} has a lease beyond its pool's")

    # ---------------------------------------------------------------------- claims

    def _claimed(self, old: Session | None, new: Session) -> None:
        if new.desktop_id is None:
            self._broken("I4", f"{new.id} is delivering without a desktop")
            return
        desktop = self._state.desktops[new.desktop_id]
        if desktop.generation != new.generation or desktop.state is not DesktopState.ASSIGNED:
            text = f"{new.id} was given {desktop.id}, {desktop.state} at {desktop.generation}"
            self._broken("I3", text)
        user = self._used_by.setdefault((desktop.id, new.generation), new.user_id)
        if user != new.user_id:
            text = f"{desktop.id} went from {user} to {new.user_id} without being made fresh"
            self._broken("I3", text)
        if desktop.endpoint_id is None and desktop.owner_id is None:
            self._fair(old, new)

    def _fair(self, old: Session | None, new: Session) -> None:
        """Of those of one group who have waited for a while, the first is served first."""
        now = self._clock.now()
        waiting = [
            Waiting(session_id=one.id, group_id=one.group_id, requested_at=one.requested_at)
            for session_id in self._state.queues[new.pool_id]
            if (one := self._state.sessions[session_id]).group_id == new.group_id
            and one.id != new.id
            and now - self._queued_at[one.id] > _QUEUE_SETTLED_MS
        ]
        if not waiting:
            return
        first = fair_order(waiting)[0]
        at = self._state.sessions[first].requested_at
        if old is None or new.requested_at > at:
            self._broken("I13", f"{new.id} was served before {first}, who waits longer")

    # -------------------------------------------------------------------- desktops

    def desktop_changed(self, old: Desktop | None, new: Desktop) -> None:
        self._history.wrote("desktop", f"{new.id} {new.state} {new.generation}")
        self.marks.desktop_changed(old, new)
        cause = CAUSE.get()
        if cause is not None and not self._is_at(new, cause):
            self._broken("I9", f"{cause} changed {new.id}")
        if new.state in DESKTOP.transient:
            within_s = _DESKTOP_DEADLINE_S + (limits.SNAPSHOT_S if new.state in _WOKEN else 0)
            latest = self._clock.now() + within_s * 1000 + SLACK_MS
            # on a host it waits for its turn, which in the end must have come
            waits = new.state is DesktopState.RESETTING and new.host_id is not None
            deadline = latest if waits and new.deadline_at is None else new.deadline_at
            if new.target is None or deadline is None or deadline > latest:
                self._broken("I11", f"{new.id} is {new.state} without a target and a deadline")
        self.rulings.desktop_changed(old, new)
        if old is None:
            return
        if old.state != new.state and (old.state, new.state) not in _DESKTOP_EDGES:
            self._broken("I4", f"{new.id} went from {old.state} to {new.state}")
        if new.generation not in {old.generation, old.generation + 1}:
            text = f"{new.id} went from generation {old.generation} to {new.generation}"
            self._broken("I4", text)
        if new.state is DesktopState.READY and old.state is not DesktopState.READY:
            self._became_ready(old, new)
        if new.state is DesktopState.DELETED and old.state is not DesktopState.DELETED:
            machine = self._hypervisor.machines.get(new.id)
            if machine is not None:
                self._broken("I14", f"{new.id} is deleted, and its machine is still there")

    def _is_at(self, desktop: Desktop, endpoint_id: str) -> bool:
        if desktop.endpoint_id is not None:
            return desktop.endpoint_id == endpoint_id
        holder = self._state.held_desktops.get(desktop.id)
        return holder is None or self._state.sessions[holder].endpoint_id == endpoint_id

    def _became_ready(self, old: Desktop, new: Desktop) -> None:
        if old.state is DesktopState.ASSIGNED:
            if new.owner_id is None or old.generation != new.generation:
                self._broken("I3", f"{new.id} was kept for nobody in particular")
            machine = self._hypervisor.machines.get(new.id)
            if machine is not None and machine.guest.user:
                self._broken("I22", f"{new.id} is free with {machine.guest.user} logged on")
            return
        key = (new.id, new.generation)
        if key not in self._hypervisor.up and key not in self.fresh:
            text = f"{new.id} counts as ready at generation {new.generation}, and is not"
            self._broken("I2", text)

    # ------------------------------------------------------------------ jobs, calls

    def job_changed(self, old: Job | None, new: Job) -> None:
        self._history.wrote("job", f"{new.id} {new.state} {new.attempts}")
        if old is not None and old.state != new.state and (old.state, new.state) not in _JOB_EDGES:
            self._broken("I4", f"{new.id} went from {old.state} to {new.state}")
        if new.state in JOB.transient and new.deadline_at is None:
            self._broken("I11", f"{new.id} runs without a deadline")

    def called(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """The store carried out a call."""
        self.rulings.changed()
        self.ledger.called(name, args)
        if name == "leases.acquire" and isinstance(result, WorkLease):
            self._leased(result)
        elif name == "leases.release":
            self._leases.pop(args[0].name, None)
        if name == "credentials.redeem_ticket" and isinstance(result, Ticket):
            if result.secret_hash in self._redeemed:
                self._broken("I10", f"{result.id} opened a second time")
            self._redeemed.add(result.secret_hash)
            if result.expires_at <= args[1]:
                self._broken("I10", f"{result.id} opened after its time")

    def _leased(self, lease: WorkLease) -> None:
        before = self._leases.get(lease.name)
        self._leases[lease.name] = lease
        if before is None or before.holder == lease.holder:
            return
        if before.until > self._clock.now() + SKEW_MS_MAX:
            text = f"{lease.name} went to {lease.holder} while {before.holder} had it"
            self._broken("I16", text)
        if lease.fence <= before.fence:
            self._broken("I16", f"{lease.name} has a new holder and the old fence {lease.fence}")

    def late(self) -> None:
        """Called while a broker has been working for long enough: L1."""
        before = self._clock.now() - LATE_MS
        rows: list[Session | Desktop | Job] = [*self._state.open_jobs.values()]
        rows += [self._state.sessions[one] for one in self._state.timed_sessions]
        rows += [
            self._state.desktops[one] for ids in self._state.pool_desktops.values() for one in ids
        ]
        for row in sorted(rows, key=lambda one: one.id):
            if row.deadline_at is not None and row.deadline_at < before:
                self._broken("L1", f"{row.id} is {row.state} long past its deadline")

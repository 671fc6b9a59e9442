"""Bugs that can be planted, to see that the simulation finds each of them.

Every one is put around a real part (a method of a service, a call of the store, a constraint of
its rows, an agent's own) from here; production code has no switch for it. Most have happened to
somebody: see the failure list in docs/simulation.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from agents import limits as agent_limits
from agents.core.backoff import Backoff
from agents.core.endpoint import Endpoint
from broker.domain.lifecycle import DesktopEvent, JobEvent, SessionEvent
from broker.domain.model import Desktop, DesktopState, Instant, Job, JobState, Session, WorkLease
from broker.ports import (
    ClaimOutcome,
    ClaimRequest,
    GuestAsk,
    GuestVerb,
    MachineReport,
    Release,
)
from broker.simulation.planting import Plant, put
from broker.simulation.plants_rulings import RULINGS
from broker.simulation.process import Process
from broker.simulation.station import Station, make_core
from broker.simulation.watched import WatchedState
from broker.store.claiming import decide
from broker.store.memory import MemoryStore


class _Loose(WatchedState):
    """A database without unique indexes."""

    __slots__ = ()

    def put_session(self, session: Session) -> None:
        self.held_places.pop((session.user_id, session.pool_id), None)
        if session.desktop_id is not None:
            self.held_desktops.pop(session.desktop_id, None)
        WatchedState.put_session(self, session)


class _OldRevisions(WatchedState):
    """Changes without a new revision."""

    __slots__ = ()

    def put_session(self, session: Session) -> None:
        old = self.sessions.get(session.id)
        if old is not None:
            session = replace(session, revision=old.revision)
        WatchedState.put_session(self, session)


class CheckThenAct(Plant):
    name = "check-then-act"
    says = "a claim reads what is free, waits, and writes without looking again"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        state.__class__ = _Loose
        sessions = store.sessions

        async def claim(requests: Sequence[ClaimRequest], now: Instant) -> tuple[ClaimOutcome, ...]:
            snapshot = sessions._snapshot(requests)
            await asyncio.sleep(1.0)
            decision = decide(requests, snapshot, now)
            sessions._store(decision, now)
            return tuple(decision.outcomes)

        put(sessions, "claim", lambda _: claim)


class LostIdempotency(Plant):
    name = "lost-idempotency"
    says = "idempotency keys are not kept, so a request that comes again is a new one"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        del state

        def wrap(claim: Any) -> Any:
            async def call(
                requests: Sequence[ClaimRequest], now: Instant
            ) -> tuple[ClaimOutcome, ...]:
                result: tuple[ClaimOutcome, ...] = await claim(
                    [replace(one, idempotency_key=None) for one in requests], now
                )
                return result

            return call

        put(store.sessions, "claim", wrap)


class OldReportsBelieved(Plant):
    name = "old-reports-believed"
    says = "a machine's report counts whatever generation it is of"

    def into_process(self, process: Process) -> None:
        works = process.services.engine_work._settling

        def wrap(reported: Any) -> Any:
            async def call(report: MachineReport) -> None:
                desktop = await process.services.kit.store.desktops.desktop(report.desktop_id)
                if desktop is not None:
                    report = replace(report, generation=desktop.generation)
                await reported(report)

            return call

        put(works, "machine_reported", wrap)


class NotMadeFresh(Plant):
    name = "not-made-fresh"
    says = "a desktop is given on as the last person left it"

    def into_process(self, process: Process) -> None:
        def wrap(advance: Any) -> Any:
            async def call(*args: Any, release: Release | None = None, **more: Any) -> Session:
                if release is not None and release.event is DesktopEvent.RELEASED_RESET:
                    release = Release(
                        event=DesktopEvent.RELEASED_KEEP, fresh=False, deadline_at=None
                    )
                result: Session = await advance(*args, release=release, **more)
                return result

            return call

        put(process.services.kit.store.sessions, "advance", wrap)


class LoggedOffInNameOnly(Plant):
    name = "logged-off-in-name-only"
    says = "nobody asks the agent in a kept desktop to log its person off"

    def into_process(self, process: Process) -> None:
        def wrap(ask_guest: Any) -> Any:
            async def call(desktop: Desktop, ask: GuestAsk, *, deadline_s: float) -> None:
                if ask.what is not GuestVerb.LOG_OFF:
                    await ask_guest(desktop, ask, deadline_s=deadline_s)

            return call

        put(process.engine, "ask_guest", wrap)


class JobTakenTwice(Plant):
    name = "job-taken-twice"
    says = "a job that one broker works on is given to another as well"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        def wrap(take: Any) -> Any:
            async def call(now: Instant, deadline_at: Instant, limit: int) -> tuple[Job, ...]:
                running = [
                    one
                    for one in state.open_jobs.values()
                    if one.state is JobState.RUNNING and now - one.created_at < 2000
                ]
                taken: tuple[Job, ...] = await take(now, deadline_at, limit)
                return (*taken, *running)[:limit]

            return call

        put(store.jobs, "take", wrap)


class TicketUsableTwice(Plant):
    name = "ticket-usable-twice"
    says = "a ticket is checked and not used up"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        def wrap(redeem: Any) -> Any:
            async def call(secret_hash: bytes, now: Instant) -> Any:
                result = await redeem(secret_hash, now)
                state.spent.discard(secret_hash)
                return result

            return call

        put(store.credentials, "redeem_ticket", wrap)


class NoDeadline(Plant):
    name = "no-deadline"
    says = "a machine that is being made has no deadline"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        del state

        def wrap(advance: Any) -> Any:
            async def call(*args: Any, deadline_at: Instant | None = None, **more: Any) -> Desktop:
                if args[1] is DesktopEvent.CREATED:
                    deadline_at = None
                result: Desktop = await advance(*args, deadline_at=deadline_at, **more)
                return result

            return call

        put(store.desktops, "advance", wrap)


class DeadlineIgnored(Plant):
    name = "deadline-ignored"
    says = "desktops that are late are never looked for"

    def into_process(self, process: Process) -> None:
        async def none(now: Instant, limit: int) -> tuple[Desktop, ...]:
            del now, limit
            return ()

        put(process.services.kit.store.desktops, "expired", lambda _: none)


class MachineLeftBehind(Plant):
    name = "machine-left-behind"
    says = "a record is deleted although the engine did not remove the machine"

    def into_process(self, process: Process) -> None:
        async def destroy(*args: Any) -> None:
            del args

        put(process.engine, "destroy", lambda _: destroy)


class DeletionForgotten(Plant):
    name = "deletion-forgotten"
    says = "a removal that failed once is not tried again"

    def into_process(self, process: Process) -> None:
        store = process.services.kit.store

        def wrap_advance(advance: Any) -> Any:
            async def call(job_id: str, event: JobEvent, *args: Any, **more: Any) -> Job:
                job = await store.jobs.job(job_id)
                if job is not None and job.verb == "destroy" and event is JobEvent.FAILED_RETRY:
                    event = JobEvent.SUCCEEDED
                result: Job = await advance(job_id, event, *args, **more)
                return result

            return call

        def wrap_expired(expired: Any) -> Any:
            async def call(now: Instant, limit: int) -> tuple[Desktop, ...]:
                late = await expired(now, limit)
                return tuple(one for one in late if one.state is not DesktopState.DELETING)

            return call

        put(store.jobs, "advance", wrap_advance)
        put(store.desktops, "expired", wrap_expired)


class QueueReversed(Plant):
    name = "queue-reversed"
    says = "whoever came last to the queue is served first"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        del state

        def wrap(serve: Any) -> Any:
            async def call(pool: Any, order: Sequence[str], *args: Any) -> tuple[Session, ...]:
                result: tuple[Session, ...] = await serve(pool, list(reversed(order)), *args)
                return result

            return call

        put(store.sessions, "serve_queue", wrap)


class WaiterLost(Plant):
    name = "waiter-lost"
    says = "the queue forgets whoever has waited longest"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        del state

        def wrap(waiting: Any) -> Any:
            async def call(pool_id: str) -> Any:
                found = await waiting(pool_id)
                oldest = min((one.requested_at for one in found), default=0)
                return tuple(one for one in found if one.requested_at > oldest)

            return call

        put(store.sessions, "waiting", wrap)


class NoJitter(Plant):
    name = "no-jitter"
    says = "endpoints come back after a fixed pause, all at once"

    def into_station(self, station: Station) -> None:
        class Fixed(Backoff):
            def pause_s(self, now: float) -> float:
                super().pause_s(now)
                return agent_limits.BACKOFF_FIRST_S

        def core(of: Station) -> Endpoint:
            made = make_core(of)
            made.link._backoff = Fixed(made.chance)
            return made

        station.make_core = core
        station.core = core(station)


class LeaseTooLong(Plant):
    name = "lease-too-long"
    says = "a lease is given for ten times what the pool allows"

    def into_process(self, process: Process) -> None:
        def wrap(advance: Any) -> Any:
            async def call(
                session_id: str, event: SessionEvent, now: Instant, **more: Any
            ) -> Session:
                until = more.get("lease_until")
                if until is not None:
                    more["lease_until"] = now + 10 * (until - now)
                result: Session = await advance(session_id, event, now, **more)
                return result

            return call

        put(process.services.kit.store.sessions, "advance", wrap)


class LossUnnoticed(Plant):
    name = "loss-unnoticed"
    says = "nobody notices that an endpoint is gone, nor what becomes of its session"

    def into_process(self, process: Process) -> None:
        async def gone(endpoint_id: str) -> None:
            del endpoint_id

        put(process.services.endpoints, "gone", lambda _: gone)


class AnybodySpeaks(Plant):
    name = "anybody-speaks"
    says = "an endpoint's word counts for sessions that are not its own"

    def into_process(self, process: Process) -> None:
        async def at(session_id: str, endpoint_id: str | None) -> Session | None:
            del endpoint_id
            return await process.services.kit.store.sessions.session(session_id)

        def believing(move: Any) -> Any:
            async def call(session_id: str, decide: Any, **more: Any) -> Any:
                actor = more.get("actor", "")

                def anyway(session: Session) -> Any:
                    return decide(replace(session, endpoint_id=actor))

                said = anyway if actor.startswith("ept_") else decide
                return await move(session_id, said, **more)

            return call

        reports = process.services.sessions.live.__self__  # type: ignore[attr-defined]
        put(reports, "_at", lambda _: at)
        put(reports._core, "move", believing)


class OutageKills(Plant):
    name = "outage-kills"
    says = "a broker ends when its store is away for a moment"

    def into_process(self, process: Process) -> None:
        def wrap(_: Any) -> Any:
            async def call(limit: int) -> tuple[Job, ...]:
                now = process.services.kit.clock.now()
                jobs = process.services.kit.store.jobs
                return await jobs.take(now, now + 120_000, limit)

            return call

        put(process.services.engine_work, "_take", wrap)


class RevisionStands(Plant):
    name = "revision-stands"
    says = "a change of a session keeps its revision, so that those who wait never hear of it"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        del store
        state.__class__ = _OldRevisions


class LeaseForEverybody(Plant):
    name = "lease-for-everybody"
    says = "shared work is given to a second broker while the first one does it"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        del state

        def wrap(acquire: Any) -> Any:
            async def call(
                name: str, holder: str, now: Instant, until: Instant
            ) -> WorkLease | None:
                lease: WorkLease | None = await acquire(name, holder, now, until)
                return lease or WorkLease(name=name, holder=holder, fence=1, until=until)

            return call

        put(store.leases, "acquire", wrap)


_ALL: Final[tuple[type[Plant], ...]] = (
    CheckThenAct,
    LostIdempotency,
    OldReportsBelieved,
    NotMadeFresh,
    LoggedOffInNameOnly,
    JobTakenTwice,
    TicketUsableTwice,
    NoDeadline,
    DeadlineIgnored,
    MachineLeftBehind,
    DeletionForgotten,
    QueueReversed,
    WaiterLost,
    NoJitter,
    LeaseTooLong,
    LossUnnoticed,
    AnybodySpeaks,
    OutageKills,
    RevisionStands,
    LeaseForEverybody,
    *RULINGS,
)
PLANTS: Final[Mapping[str, Plant]] = {one.name: one() for one in _ALL}

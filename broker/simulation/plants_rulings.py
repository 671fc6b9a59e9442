"""Bugs that can be planted in what administrators set, in the audit trail, and in whose work is
on which machine. See plants.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import HostState, Instant, Session, WorkLease
from broker.domain.placement import HostLoad
from broker.domain.policy.rules import Effect, EntitlementRule
from broker.domain.settings import SiteSettings
from broker.ports import ClaimOutcome, ClaimRequest, Operation
from broker.services.shared_work import Work
from broker.simulation.planting import Plant, put
from broker.simulation.process import Process
from broker.simulation.watched import WatchedState
from broker.store.loads import NOTHING
from broker.store.memory import MemoryStore

_OLD_S: Final = 20.0
"""how old what ClosedUnseen goes by may be"""


class ResetInNameOnly(Plant):
    name = "reset-in-name-only"
    says = "a reset starts the machine again as it was, under a new generation"

    def into_process(self, process: Process) -> None:
        machines = process.engine.truth

        def wrap(reset: Any) -> Any:
            async def call(operation: Operation, *more: Any) -> None:
                machine = machines().get(operation.desktop.id)
                users = dict(machine.users) if machine is not None else {}
                await reset(operation, *more)
                made = machines().get(operation.desktop.id)
                if made is not None:
                    made.users.update(users)

            return call

        put(process.engine, "reset", wrap)


class ResumedAsNew(Plant):
    name = "resumed-as-new"
    says = "a suspended machine is started from its image instead of being resumed"

    def into_process(self, process: Process) -> None:
        machines = process.engine.truth

        def wrap(resume: Any) -> Any:
            async def call(operation: Operation, *more: Any) -> None:
                await resume(operation, *more)
                machine = machines().get(operation.desktop.id)
                if machine is not None:
                    machine.users.clear()

            return call

        put(process.engine, "resume", wrap)


class QuotaIgnored(Plant):
    name = "quota-ignored"
    says = "quotas are looked at before the claim and not in it"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        del state

        def wrap(claim: Any) -> Any:
            async def call(
                requests: Sequence[ClaimRequest], now: Instant
            ) -> tuple[ClaimOutcome, ...]:
                result: tuple[ClaimOutcome, ...] = await claim(
                    [replace(one, quotas=()) for one in requests], now
                )
                return result

            return call

        put(store.sessions, "claim", wrap)


class DenyForgotten(Plant):
    name = "deny-forgotten"
    says = "of the rules only those that allow are read"

    def into_process(self, process: Process) -> None:
        def wrap(rules: Any) -> Any:
            async def call() -> tuple[EntitlementRule, ...]:
                return tuple(one for one in await rules() if one.effect is Effect.ALLOW)

            return call

        put(process.services.kit.store.directory, "rules", wrap)


class ClosedUnseen(Plant):
    name = "closed-unseen"
    says = "a claim goes by what the pool was when somebody last read it, and by no site"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        del state

        def wrap(look: Any) -> Any:
            def call(requests: Sequence[ClaimRequest]) -> Any:
                snapshot = look(requests)
                snapshot.pools = {one.pool.id: one.pool for one in requests}
                snapshot.site = SiteSettings()
                return snapshot

            return call

        put(store.sessions, "_snapshot", wrap)

    def into_process(self, process: Process) -> None:
        pools, clock = process.services.pools, process.services.kit.clock
        read_at = -_OLD_S

        def wrap(refresh: Any) -> Any:
            async def call() -> None:
                nonlocal read_at
                if clock.monotonic() - read_at >= _OLD_S:
                    read_at = clock.monotonic()
                    pools.forget()
                    await refresh()

            return call

        put(pools, "refresh", wrap)


class HostDrainIgnored(Plant):
    name = "host-drain-ignored"
    says = "a host that drains or is under maintenance is filled as if it were open"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        del state

        def wrap(add: Any) -> Any:
            async def call(*args: Any, lease: WorkLease | None = None, **more: Any) -> None:
                del lease
                await add(*args, **more)

            return call

        put(store.desktops, "add", wrap)

    def into_process(self, process: Process) -> None:
        def wrap(host_loads: Any) -> Any:
            async def call() -> tuple[HostLoad, ...]:
                return tuple(
                    replace(load, host=replace(load.host, state=HostState.UP))
                    for load in await host_loads()
                )

            return call

        put(process.services.kit.store.directory, "host_loads", wrap)


class RoomNotCounted(Plant):
    name = "room-not-counted"
    says = "what is on a host already does not count against its room"

    def into_process(self, process: Process) -> None:
        def wrap(host_loads: Any) -> Any:
            async def call() -> tuple[HostLoad, ...]:
                return tuple(replace(load, used=NOTHING, by_pool={}) for load in await host_loads())

            return call

        put(process.services.kit.store.directory, "host_loads", wrap)


class MoveWithoutEntry(Plant):
    name = "move-without-entry"
    says = "a session that ends is not written into the audit trail"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        def wrap(advance: Any) -> Any:
            async def call(*args: Any, **more: Any) -> Session:
                session: Session = await advance(*args, **more)
                release = more.get("release")
                if release is not None and release.event is not DesktopEvent.FAILED:
                    entry_id = f"{session.id}:{session.revision}"
                    state.audit.entries.pop(entry_id, None)
                    state.audit.unsealed.pop(entry_id, None)
                return session

            return call

        put(store.sessions, "advance", wrap)


class EntryAfterwards(Plant):
    name = "entry-afterwards"
    says = "a request is written into the audit trail once it is done, not before"

    def into_process(self, process: Process) -> None:
        async def ask(entry: Any) -> None:
            del entry

        put(process.services.audit, "ask", lambda _: ask)


class TwoSealers(Plant):
    name = "two-sealers"
    says = "every broker seals, and the store does not look at whose work it is"

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        async def seal(chain: Sequence[Any], lease: WorkLease) -> None:
            del lease
            for one in chain:
                state.audit.chain.append(one)
                state.audit.unsealed.pop(one.entry.id, None)

        put(store.audit, "seal", lambda _: seal)

    def into_process(self, process: Process) -> None:
        shared = process.services.shared

        def held(hold: Any) -> Any:
            async def call(work: Work) -> WorkLease | None:
                if work is not Work.SEALER:
                    lease: WorkLease | None = await hold(work)
                    return lease
                until = process.clock.now() + 60_000
                return WorkLease(name=work, holder=shared.holder, fence=1, until=until)

            return call

        def kept(keep: Any) -> Any:
            async def call(lease: WorkLease) -> bool:
                return lease.name == Work.SEALER or bool(await keep(lease))

            return call

        put(shared, "hold", held)
        put(shared, "keep", kept)


RULINGS: Final[tuple[type[Plant], ...]] = (
    ResetInNameOnly,
    ResumedAsNew,
    QuotaIgnored,
    DenyForgotten,
    ClosedUnseen,
    HostDrainIgnored,
    RoomNotCounted,
    MoveWithoutEntry,
    EntryAfterwards,
    TwoSealers,
)

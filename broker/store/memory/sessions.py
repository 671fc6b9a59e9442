"""Sessions, claims and queues, in memory."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from broker.domain.errors import AlreadyExistsError
from broker.domain.images import is_outdated
from broker.domain.lifecycle import SESSION_HOLDS_DESKTOP, SESSION_HOLDS_PLACE, SessionEvent
from broker.domain.model import (
    Desktop,
    DesktopState,
    HostState,
    Instant,
    PhaseReport,
    Pool,
    Session,
    SessionState,
    Traffic,
)
from broker.domain.policy.rules import Quota, QuotaScope
from broker.domain.queueing import Waiting, group_key, round_name, round_of, round_value
from broker.domain.settings import SiteSettings
from broker.domain.silence import SILENCE_DOCUMENT, silent_of
from broker.domain.site import SITE_DOCUMENT, settings_of
from broker.limits import CLAIM_BATCH_MAX
from broker.ports import (
    ClaimOutcome,
    ClaimRequest,
    Document,
    Page,
    PageQuery,
    Release,
    SessionChange,
)
from broker.store import quotas as quota_rules
from broker.store.claiming import Decision, decide
from broker.store.memory.audit import insert_entries
from broker.store.memory.state import State, overdue, page
from broker.store.moves import last_sign, move_session, note_phases, release_desktop
from broker.store.paging import LIVE_VALUES, check_query
from broker.store.ready import Ready, open_to_take
from broker.store.reasons import moved_entry
from broker.store.serving import owners_only, round_after, serve
from broker.store.snapshot import Snapshot

_LIVE = SESSION_HOLDS_PLACE | SESSION_HOLDS_DESKTOP
_FIELDS = {"user_id", "pool_id", "desktop_id", "endpoint_id", "state", "architecture"}


class MemorySessions:
    """Implements broker.ports.SessionStore."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def claim(
        self, requests: Sequence[ClaimRequest], now: Instant
    ) -> tuple[ClaimOutcome, ...]:
        if len(requests) > CLAIM_BATCH_MAX:
            raise ValueError(f"a batch holds at most {CLAIM_BATCH_MAX} claims")
        self._check(requests)
        decision = decide(requests, self._snapshot(requests), now)
        self._store(decision, now)
        return tuple(decision.outcomes)

    def _check(self, requests: Sequence[ClaimRequest]) -> None:
        state = self._state
        for request in requests:
            state.must_know(state.users, request.user_id)
            state.must_know(state.pools, request.pool.id)
            state.must_know(state.groups, request.group_id)
            state.must_know(state.endpoints, request.endpoint_id)
            if request.session_id in state.sessions:
                raise AlreadyExistsError

    def _snapshot(self, requests: Sequence[ClaimRequest]) -> Snapshot:
        state, snapshot = self._state, Snapshot()
        for request in requests:
            if request.idempotency_key is not None:
                key = (request.user_id, request.idempotency_key)
                if key in state.keys:
                    used = state.keys[key][0]
                    snapshot.keys[key] = used
                    snapshot.add_sessions([state.sessions[used.session_id]])
            held = state.user_places[request.user_id]
            snapshot.add_sessions(state.sessions[one] for one in sorted(held))
        for session in snapshot.sessions.values():
            if session.desktop_id is not None:
                snapshot.desktops[session.desktop_id] = state.desktops[session.desktop_id]
        for pool_id in {request.pool.id for request in requests}:
            snapshot.waiting[pool_id] = list(self._waiting(pool_id))
            snapshot.ready.add(self._ready(pool_id))
            snapshot.ready.add_owners(self._owners(pool_id))
        snapshot.pools = {one.pool.id: state.pools[one.pool.id] for one in requests}
        snapshot.site = self._site()
        snapshot.shared = quota_rules.shared(requests)
        snapshot.counted = self._counted(snapshot.shared.values())
        return snapshot

    def _site(self) -> SiteSettings:
        document = self._state.documents.get(SITE_DOCUMENT)
        return settings_of(document.value) if document is not None else SiteSettings()

    def _counted(self, quotas: Iterable[Quota]) -> dict[str, int]:
        state = self._state
        return {
            quota.id: sum(
                quota_rules.counts(quota, one.group_id, one.pool_id)
                for one in map(state.sessions.__getitem__, state.held_places.values())
            )
            for quota in quotas
        }

    def _ready(self, pool_id: str) -> list[Desktop]:
        state, silent = self._state, self._silent()
        found = [
            desktop
            for desktop_id in state.pool_desktops[pool_id]
            if (desktop := state.desktops[desktop_id]).state is DesktopState.READY
            and (desktop.owner_id is not None or desktop.host_id not in silent)
            and desktop_id not in state.held_desktops
            and open_to_take(desktop, self._host_state(desktop))
        ]
        pool = state.pools[pool_id]

        def order(one: Desktop) -> tuple[bool, str]:
            # those of the pool's image first, once that was changed; a person's own is his anyway
            later = pool.image_since is not None and one.owner_id is None
            return later and is_outdated(one, pool), one.name

        return sorted(found, key=order)

    def _silent(self) -> Container[str | None]:
        """Hosts that are not heard."""
        document = self._state.documents.get(SILENCE_DOCUMENT)
        return silent_of(document.value) if document is not None else ()

    def _host_state(self, desktop: Desktop) -> HostState | None:
        host = self._state.hosts.get(desktop.host_id or "")
        return host.state if host is not None else None

    def _owners(self, pool_id: str) -> Iterator[tuple[str, str]]:
        for desktop_id in self._state.pool_desktops[pool_id]:
            desktop = self._state.desktops[desktop_id]
            if desktop.owner_id is not None and desktop.state is not DesktopState.DELETING:
                yield pool_id, desktop.owner_id

    def _store(self, decision: Decision, now: Instant) -> None:
        for desktop in decision.claimed:
            self._state.put_desktop(desktop)
        for session in (*decision.new, *decision.moved, *decision.waiting):
            self._state.put_session(session)
        for ticket in decision.tickets:
            self._state.tickets[ticket.secret_hash] = ticket
        for used in decision.keys:
            self._state.keys[used.user_id, used.key] = (used, now)
        insert_entries(self._state.audit, decision.entries)

    def _round(self, pool_id: str) -> frozenset[str]:
        document = self._state.documents.get(round_name(pool_id))
        return round_of(document.value) if document is not None else frozenset()

    def _waiting(self, pool_id: str) -> Iterator[Waiting]:
        served = self._round(pool_id)
        for session_id in self._state.queues[pool_id]:
            session = self._state.sessions[session_id]
            yield Waiting(
                session_id=session.id,
                group_id=session.group_id,
                requested_at=session.requested_at,
                start=int(group_key(session.group_id) in served),
            )

    async def session(self, session_id: str) -> Session | None:
        return self._state.sessions.get(session_id)

    async def some(self, session_ids: Sequence[str]) -> tuple[Session, ...]:
        known = self._state.sessions
        return tuple(known[one] for one in dict.fromkeys(session_ids) if one in known)

    async def sessions(self, query: PageQuery) -> Page[Session]:
        check_query(query, filters=_FIELDS | {"live"}, text=False)
        wanted = {name: value for name, value in query.filters.items() if name != "live"}
        live = query.filters.get("live")
        rows = (
            one
            for one in self._state.sessions.values()
            if all(getattr(one, name) == value for name, value in wanted.items())
            and (live is None or (one.state in _LIVE) is LIVE_VALUES[live])
        )
        return page(rows, query, lambda one: one.id, descending=True)

    async def waiting(self, pool_id: str) -> tuple[Waiting, ...]:
        return tuple(self._waiting(pool_id))

    async def serve_queue(
        self, pool: Pool, order: Sequence[str], deadline_at: Instant, now: Instant
    ) -> tuple[Session, ...]:
        state, ready = self._state, Ready()
        owned = owners_only(state.pools.get(pool.id, pool), self._site(), now)
        if owned is None:
            return ()
        ready.add(self._ready(pool.id))
        ready.add_owners(self._owners(pool.id))
        queued = [state.sessions[one] for one in order if one in state.queues[pool.id]]
        served = serve(pool, queued, ready, deadline_at, now, owned=owned)
        for one in served:
            state.put_desktop(one.desktop)
            state.put_session(one.session)
            insert_entries(state.audit, [one.entry])
        before = self._round(pool.id)
        turned = round_after(before, served)
        if turned != before:
            name = round_name(pool.id)
            known = state.documents.get(name)
            state.documents[name] = Document(
                name=name,
                revision=known.revision + 1 if known is not None else 1,
                value=round_value(turned),
            )
        return tuple(one.session for one in served)

    async def advance(  # noqa: PLR0913 - as the port has it
        self,
        session_id: str,
        event: SessionEvent,
        now: Instant,
        *,
        why: str,
        deadline_at: Instant | None = None,
        generation: int | None = None,
        revision: int | None = None,
        lease_until: Instant | None = None,
        release: Release | None = None,
        change: SessionChange | None = None,
        actor: str = "broker",
        request_id: str = "",
        source: str = "",
    ) -> Session:
        old = self._state.sessions.get(session_id)
        moved = move_session(
            old,
            event,
            now,
            why=why,
            deadline_at=deadline_at,
            generation=generation,
            revision=revision,
            lease_until=lease_until,
            change=change,
        )
        self._state.must_know(self._state.endpoints, moved.endpoint_id)
        if (
            release is not None
            and old is not None
            and old.desktop_id is not None
            and old.state in SESSION_HOLDS_DESKTOP
            and moved.state not in SESSION_HOLDS_DESKTOP
        ):
            self._release(self._state.desktops[old.desktop_id], release, now)
        self._state.put_session(moved)
        if old is not None:
            entry = moved_entry(
                moved,
                event,
                now,
                why=why,
                came_from=old.state,
                actor=actor,
                request_id=request_id,
                source=source,
            )
            insert_entries(self._state.audit, [entry])
        return moved

    def _release(self, desktop: Desktop, release: Release, now: Instant) -> None:
        freed = release_desktop(desktop, release, now)
        if freed is None:
            return
        if release.job is not None:
            self._state.add_job(replace(release.job, generation=freed.generation))
        self._state.put_desktop(freed)

    async def active(self, session_ids: Mapping[str, Instant]) -> None:
        for session_id, at in session_ids.items():
            session = self._state.sessions.get(session_id)
            if session is not None and (session.active_at is None or session.active_at < at):
                self._state.put_session(replace(session, active_at=at))

    async def queue_lengths(self) -> Mapping[str, int]:
        return {pool_id: len(queue) for pool_id, queue in self._state.queues.items() if queue}

    async def abandoned(self, before: Instant, limit: int) -> tuple[Session, ...]:
        state = self._state
        queued = [state.sessions[one] for ids in state.queues.values() for one in ids]
        silent = [one for one in queued if last_sign(one) < before]
        return tuple(sorted(silent, key=lambda one: (last_sign(one), one.id))[:limit])

    async def dark(self, signs: Sequence[str], limit: int) -> tuple[Session, ...]:
        living = tuple(f"{sign}." for sign in signs)
        found = (
            one
            for one in map(self._state.sessions.__getitem__, self._state.held_places.values())
            if one.state is SessionState.ACTIVE
            and one.endpoint_id is None
            and one.display is not None
            and not one.display.startswith(living)
        )
        return tuple(sorted(found, key=lambda one: one.id)[:limit])

    async def counts(self, quotas: Sequence[Quota]) -> Mapping[str, int]:
        return self._counted(one for one in quotas if one.scope is not QuotaScope.USER)

    async def note_phases(
        self, session_id: str, phases: Sequence[PhaseReport], traffic: Traffic
    ) -> None:
        session = self._state.sessions.get(session_id)
        if session is not None:
            self._state.put_session(note_phases(session, phases, traffic))

    async def expired(self, now: Instant, limit: int) -> tuple[Session, ...]:
        timed = [self._state.sessions[one] for one in self._state.timed_sessions]
        return overdue(timed, now, limit)

    async def at_endpoints(
        self, endpoint_ids: Sequence[str], states: Iterable[SessionState]
    ) -> tuple[Session, ...]:
        wanted, allowed = set(endpoint_ids), set(states)
        return tuple(
            one
            for one in self._state.sessions.values()
            if one.endpoint_id in wanted and one.state in allowed
        )

    async def with_desktops(
        self, desktop_ids: Sequence[str], states: Iterable[SessionState]
    ) -> tuple[Session, ...]:
        wanted, allowed = set(desktop_ids), set(states)
        return tuple(
            one
            for one in self._state.sessions.values()
            if one.desktop_id in wanted and one.state in allowed
        )

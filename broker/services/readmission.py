"""Who waits is asked again, before a desktop is given to them: rules, groups and accounts may have
changed since they came."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from broker.architectures import rules_of
from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import SessionEvent
from broker.domain.model import DesktopState, Pool, PoolKind, Session, SessionState
from broker.limits import PAGE_LIMIT_MAX
from broker.ports import PageQuery
from broker.services.kit import Kit
from broker.services.policies import Policies
from broker.services.queues import Queues
from broker.services.tally import Tally

_log = logging.getLogger("trivium.queue")


@dataclass(slots=True)
class _Ready:
    """What a pool could give away now: so many on hosts, and those of these endpoints."""

    on_hosts: int
    endpoints: set[str]

    def could_give(self, session: Session, pool: Pool) -> bool:
        """Whether one of them may become this session's; it is counted as given then."""
        if rules_of(pool.architecture).runs_on_endpoint:
            return session.endpoint_id in self.endpoints
        if pool.kind is PoolKind.FLOATING:
            # in a dedicated pool it depends on the owner: somebody may wait before others in vain
            self.on_hosts -= 1
        return self.on_hosts >= 0


class Readmission:
    def __init__(self, kit: Kit, policies: Policies, queues: Queues, tally: Tally) -> None:
        self._kit = kit
        self._policies = policies
        self._queues = queues
        self._tally = tally

    async def still_admitted(self, pool: Pool, order: Sequence[str]) -> list[str]:
        """Those of the waiting sessions that may be served now, in the order given: as many as the
        ready desktops could be for. Whoever would not be admitted any more leaves the queue, with
        why; the next one is asked in their place."""
        ready = await self._ready(pool, len(order))
        admitted: list[str] = []
        left = False
        for session_id in order:
            if ready.on_hosts <= 0 and not ready.endpoints:
                break
            session = await self._kit.store.sessions.session(session_id)
            if session is None or session.state is not SessionState.QUEUED:
                continue
            on_hosts = ready.on_hosts
            if not ready.could_give(session, pool):
                continue
            why = await self._refused(session, pool)
            if not why:
                admitted.append(session_id)
                continue
            ready.on_hosts = on_hosts
            left = await self._cancel(session, why) or left
        if left:
            await self._queues.tell(pool.id)
        return admitted

    async def _ready(self, pool: Pool, waiting: int) -> _Ready:
        ready = _Ready(0, set())
        bound = rules_of(pool.architecture).runs_on_endpoint
        after: str | None = None
        while True:
            filters = {"pool_id": pool.id, "state": DesktopState.READY.value}
            query = PageQuery(limit=PAGE_LIMIT_MAX, after=after, filters=filters)
            page = await self._kit.store.desktops.desktops(query)
            for desktop in page.items:
                if desktop.endpoint_id is not None:
                    ready.endpoints.add(desktop.endpoint_id)
                else:
                    ready.on_hosts += 1
            after = page.next_after
            if after is None or (not bound and ready.on_hosts >= waiting):
                return ready

    async def _refused(self, session: Session, pool: Pool) -> str:
        store = self._kit.store
        user = await store.directory.user(session.user_id)
        endpoint = None
        if session.endpoint_id is not None:
            endpoint = await store.endpoints.endpoint(session.endpoint_id)
        return await self._policies.refused_since(session, pool, user, endpoint)

    async def _cancel(self, session: Session, why: str) -> bool:
        kit = self._kit
        try:
            moved = await kit.store.sessions.advance(
                session.id,
                SessionEvent.CANCELLED,
                kit.clock.now(),
                why=f"not admitted any more: {why}",
                revision=session.revision,
            )
        except IllegalTransitionError:
            # its client called, or it left by itself: the next look asks again
            return False
        self._tally.count(moved.state, moved.architecture)
        _log.info("session %s left the queue: %s", session.id, why)
        kit.events.publish(
            "session",
            id=moved.id,
            user_id=moved.user_id,
            state=moved.state,
            endpoint_id=moved.endpoint_id,
            display=moved.display,
        )
        return True

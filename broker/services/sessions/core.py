"""What every part of the sessions' service stands on: one careful way to move a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from broker import limits
from broker.domain.errors import BusyError, IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import SessionEvent
from broker.domain.model import Instant, Pool, Session, SessionState
from broker.ports import Release, SessionChange
from broker.services.delivery import Delivery
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.pools import Pools
from broker.services.queues import Queues
from broker.services.tally import Tally

BROKER = "broker"
"""who decides what nobody asked for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One move of a session; see SessionStore.advance."""

    event: SessionEvent
    why: str
    deadline_at: Instant | None = None
    lease_until: Instant | None = None
    release: Release | None = None
    change: SessionChange | None = None


Decide = Callable[[Session], Awaitable[Step | None]]
"""the step to take from the session as it is, or None to leave it so"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """`changed` is False where the session was left as it was."""

    before: Session
    after: Session

    @property
    def changed(self) -> bool:
        return self.before.revision != self.after.revision


class Core:
    def __init__(
        self, kit: Kit, pools: Pools, delivery: Delivery, queues: Queues, tally: Tally
    ) -> None:
        self.kit = kit
        self.pools = pools
        self.queues = queues
        self.delivery = delivery
        self.tally = tally

    @property
    def now(self) -> Instant:
        return self.kit.clock.now()

    async def pool_of(self, session: Session) -> Pool:
        return await self.pools.find(session.pool_id)

    async def find(self, session_id: str) -> Session | None:
        return await self.kit.store.sessions.session(session_id)

    async def move(
        self,
        session_id: str,
        decide: Decide,
        *,
        actor: str = BROKER,
        origin: Origin = NOWHERE,
    ) -> Moved:
        """Decide from the session as it is and carry the step out, if it still is so then; else
        look again. So no report, however late, acts on what it was not about.

        Raises:
            NotFoundError: there is no such session.
            BusyError: others moved it SESSION_TRIES_MAX times meanwhile.
        """
        store, refused = self.kit.store.sessions, -1
        for _ in range(limits.SESSION_TRIES_MAX):
            session = await store.session(session_id)
            if session is None:
                raise NotFoundError(f"there is no session {session_id!r}")
            step = await decide(session)
            if step is None:
                return Moved(before=session, after=session)
            try:
                moved = await store.advance(
                    session.id,
                    step.event,
                    self.now,
                    why=step.why,
                    deadline_at=step.deadline_at,
                    generation=session.generation,
                    revision=session.revision,
                    lease_until=step.lease_until,
                    release=step.release,
                    change=step.change,
                    actor=actor,
                    request_id=origin.request_id,
                    source=origin.source,
                )
            except IllegalTransitionError:
                if session.revision == refused:
                    raise  # nobody moved it: the step itself is not allowed
                refused = session.revision
                continue
            self.tell(moved)
            self._count(moved)
            return Moved(before=session, after=moved)
        raise BusyError("others change the session at the same moment", retry_after_s=1.0)

    def _count(self, session: Session) -> None:
        match session.state:
            case SessionState.ENDED | SessionState.FAILED | SessionState.CANCELLED:
                self.tally.count(session.state, session.architecture)
            case _:
                pass

    def tell(self, session: Session) -> None:
        """A hint for whoever waits for it, shows it, or holds its display open."""
        self.kit.events.publish(
            "session",
            id=session.id,
            user_id=session.user_id,
            state=session.state,
            endpoint_id=session.endpoint_id,
            display=session.display,
        )

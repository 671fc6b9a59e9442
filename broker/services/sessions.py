"""A session's life after the claim: what endpoints and displays report, disconnect, log-off.

Every change goes through `store.sessions.advance`, which holds it against the lifecycle table
and takes the desktop along in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker import limits
from broker.architectures import rules_of
from broker.domain.errors import (
    BadTicketError,
    ConflictError,
    ForbiddenError,
    IllegalTransitionError,
    NotFoundError,
)
from broker.domain.lifecycle import SESSION, DesktopEvent, SessionEvent
from broker.domain.model import (
    Architecture,
    Desktop,
    Identity,
    Instant,
    Job,
    JobState,
    JobVerb,
    PhaseReport,
    Pool,
    Session,
    SessionState,
    Traffic,
)
from broker.domain.roles import Permission, allows
from broker.ports import PageQuery, Release
from broker.services.delivery import Delivery, secret_hash
from broker.services.images import Images, Manifest
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.tally import Tally
from broker.services.watch import SessionWatch

_OPEN = frozenset({SessionState.DELIVERING, SessionState.ACTIVE, SessionState.DISCONNECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """`image_token` opens the manifest's image; `lease_until` is None without a lease."""

    manifest: Manifest
    image_token: str
    lease_until: Instant | None


class Sessions:
    def __init__(
        self,
        kit: Kit,
        pools: Pools,
        delivery: Delivery,
        images: Images,
        tally: Tally,
        watch: SessionWatch,
    ) -> None:
        self._kit = kit
        self._pools = pools
        self._delivery = delivery
        self._images = images
        self._tally = tally
        self._watch = watch

    # ------------------------------------------------------------------ reading

    def _may_see(self, identity: Identity, session: Session) -> bool:
        return session.user_id == identity.user_id or allows(identity.role, Permission.READ)

    async def get(self, identity: Identity, session_id: str) -> Session:
        """Raises NotFoundError, also for somebody else's session."""
        session = await self._kit.store.sessions.session(session_id)
        if session is None or not self._may_see(identity, session):
            raise NotFoundError(f"there is no session {session_id!r}")
        return session

    async def wait(
        self, identity: Identity, session_id: str, revision: int, wait_s: float
    ) -> Session:
        """The session once it is later than `revision`, or as it is after `wait_s` seconds."""
        session = await self.get(identity, session_id)
        if session.revision > revision:
            return session
        later = await self._watch.later_than(session_id, revision, min(wait_s, limits.WAIT_S_MAX))
        return later if later is not None else session

    def _may_change(self, identity: Identity, session: Session) -> None:
        own = session.user_id == identity.user_id
        if not own and not allows(identity.role, Permission.MANAGE_SESSIONS):
            raise ForbiddenError(f"ending somebody's session needs {Permission.MANAGE_SESSIONS}")

    # ------------------------------------------------------------------ asked by people

    async def log_off(self, identity: Identity, session_id: str) -> Session:
        """End a session, or leave the queue. A session that is over already is answered as is."""
        session = await self.get(identity, session_id)
        self._may_change(identity, session)
        own = session.user_id == identity.user_id
        why = "the person logged off" if own else f"ended by {identity.username}"
        if session.state in SESSION.terminal or session.state is SessionState.ENDING:
            return session
        if session.state is SessionState.QUEUED:
            moved = await self._move(session, SessionEvent.CANCELLED, why="left the queue")
            # everybody behind moved up
            for one in await self._kit.store.sessions.waiting(moved.pool_id):
                self._kit.events.publish("place", id=one.session_id, pool_id=moved.pool_id)
            return moved
        return await self.end(session, SessionEvent.LOG_OFF, why)

    async def disconnect(self, identity: Identity, session_id: str) -> Session:
        """Take the display away and keep the desktop for the pool's grace.

        Raises:
            ConflictError: the desktop runs on the endpoint, so there is nothing to come back to.
        """
        session = await self.get(identity, session_id)
        self._may_change(identity, session)
        if not rules_of(session.architecture).moves:
            text = f"a session under {session.architecture} cannot be disconnected, only ended"
            raise ConflictError(text)
        if not SESSION.allows(session.state, SessionEvent.DISCONNECTED):
            raise IllegalTransitionError(f"a session that is {session.state} has no display")
        endpoint_id = session.endpoint_id
        moved = await self.lost(session, "disconnected on request", leave_endpoint=True)
        if endpoint_id is not None:
            self._delivery.stop(endpoint_id, session.id, session.generation, moved.why)
        return moved

    # ------------------------------------------------------------------ told by endpoints

    async def redeem(self, session_id: str, secret: str, endpoint_id: str) -> Session:
        """Use a ticket for this session at this endpoint. Raises BadTicketError."""
        ticket = await self._kit.store.credentials.redeem_ticket(
            secret_hash(secret), self._kit.clock.now()
        )
        if ticket is None or ticket.session_id != session_id:
            raise BadTicketError
        session = await self._kit.store.sessions.session(session_id)
        if session is None or session.endpoint_id != endpoint_id:
            raise BadTicketError("the ticket is for another endpoint")
        if session.state not in _OPEN:
            raise BadTicketError("the session that the ticket is for is over")
        return session

    async def redeem_display(self, secret: str, session_id: str | None) -> Session:
        """Use a ticket to open a display: of this session, or of whichever it names.

        Raises:
            BadTicketError: not valid, of another session, or the session is over.
        """
        ticket = await self._kit.store.credentials.redeem_ticket(
            secret_hash(secret), self._kit.clock.now()
        )
        if ticket is None or (session_id is not None and ticket.session_id != session_id):
            raise BadTicketError
        session = await self._kit.store.sessions.session(ticket.session_id)
        if session is None or session.state not in _OPEN:
            raise BadTicketError("the session that the ticket is for is over")
        return session

    async def grant(self, session: Session) -> Grant:
        """What an endpoint that redeemed its ticket may fetch, and until when it may run."""
        pool = await self._pools.find(session.pool_id)
        rules = rules_of(session.architecture)
        image = await self._pools.image(pool.image_id)
        now = self._kit.clock.now()
        lease_until = rules.lease_until(pool, now)
        return Grant(
            manifest=self._images.manifest(image, boot_only=not rules.leased),
            image_token=self._images.token(
                image, session.id, lease_until or now + limits.TOKEN_S * 1000
            ),
            lease_until=lease_until,
        )

    async def _at(self, session_id: str, endpoint_id: str | None) -> Session | None:
        """The session, if it is this endpoint's: no endpoint speaks for another's."""
        session = await self._kit.store.sessions.session(session_id)
        if session is None or session.endpoint_id != endpoint_id:
            return None
        return session

    async def phases(
        self, session_id: str, endpoint_id: str, reports: Sequence[PhaseReport]
    ) -> None:
        """An endpoint finished these steps."""
        if reports and await self._at(session_id, endpoint_id) is not None:
            await self._kit.store.sessions.note_phases(session_id, reports, Traffic())

    async def traffic(self, session_id: str, endpoint_id: str | None, traffic: Traffic) -> None:
        """Bytes since the last report, as the endpoint (or, without one, the display) counted."""
        if traffic != Traffic() and await self._at(session_id, endpoint_id) is not None:
            await self._kit.store.sessions.note_phases(session_id, [], traffic)

    async def live(
        self, session_id: str, endpoint_id: str | None, generation: int
    ) -> Session | None:
        """The person has the desktop. Late, repeated or foreign reports are ignored."""
        session = await self._at(session_id, endpoint_id)
        if session is None or session.generation != generation:
            return None
        if not SESSION.allows(session.state, SessionEvent.REPORTED_LIVE):
            return session
        pool = await self._pools.find(session.pool_id)
        now = self._kit.clock.now()
        rules = rules_of(session.architecture)
        try:
            moved = await self._kit.store.sessions.advance(
                session_id,
                SessionEvent.REPORTED_LIVE,
                now,
                why="the desktop is in front of the person",
                generation=generation,
                lease_until=rules.lease_until(pool, now),
            )
        except IllegalTransitionError:
            return await self._kit.store.sessions.session(session_id)
        self._tally.count("live", session.architecture)
        if session.live_at is None:
            seconds = (now - session.requested_at) / 1000
            self._tally.took("to_live", session.architecture, seconds)
        self._tell(moved)
        return moved

    async def failed(
        self, session_id: str, endpoint_id: str | None, generation: int, why: str
    ) -> None:
        """The endpoint could not start the session, or lost it."""
        session = await self._at(session_id, endpoint_id)
        if session is None or session.generation != generation:
            return
        if SESSION.allows(session.state, SessionEvent.FAILED):
            await self.finish(session, SessionEvent.FAILED, why)

    async def ended(self, session_id: str, endpoint_id: str, generation: int) -> None:
        """The session is over at the endpoint: after Stop, or by the person's own log-off."""
        session = await self._at(session_id, endpoint_id)
        if session is None or session.generation != generation:
            return
        if SESSION.allows(session.state, SessionEvent.LOG_OFF):
            session = await self._move(
                session,
                SessionEvent.LOG_OFF,
                why="logged off at the endpoint",
                deadline_s=limits.ENDING_S,
            )
        if session.state is SessionState.ENDING:
            await self.finish(session, SessionEvent.FINISHED, session.why)

    async def lost(self, session: Session, why: str, *, leave_endpoint: bool = False) -> Session:
        """The session's endpoint or display went away; keep it for the architecture's time.

        With `leave_endpoint` the person walked away: the session does not come back by itself
        when that endpoint does.
        """
        if not SESSION.allows(session.state, SessionEvent.DISCONNECTED):
            return session
        pool = await self._pools.find(session.pool_id)
        now = self._kit.clock.now()
        moved = await self._kit.store.sessions.advance(
            session.id,
            SessionEvent.DISCONNECTED,
            now,
            why=why,
            deadline_at=rules_of(session.architecture).away_until(session, pool, now),
            leave_endpoint=leave_endpoint,
        )
        self._tell(moved)
        return moved

    async def endpoint_back(self, endpoint_id: str) -> None:
        """An endpoint connected: what it should be carrying is delivered to it again.

        Its agent carries on where it still can (and says so at once), and otherwise starts the
        session anew with the fresh ticket that comes with the order.
        """
        now = self._kit.clock.now()
        states = (SessionState.ACTIVE, SessionState.DISCONNECTED)
        for session in await self._kit.store.sessions.at_endpoints([endpoint_id], states):
            moved = await self._kit.store.sessions.advance(
                session.id,
                SessionEvent.RECONNECTED,
                now,
                why="its endpoint is back",
                deadline_at=now + limits.DELIVER_S * 1000,
            )
            self._tell(moved)

    async def carried(self, endpoint_id: str, session_ids: set[str]) -> None:
        """An endpoint says what it carries: stop there what is over, revive what was away."""
        for session_id in session_ids:
            session = await self._kit.store.sessions.session(session_id)
            if session is None or session.state in SESSION.terminal:
                generation = session.generation if session is not None else 0
                self._delivery.stop(endpoint_id, session_id, generation, "the session is over")
            elif await self._lease_is_old(session):
                await self._delivery.order_again(session)

    async def _lease_is_old(self, session: Session) -> bool:
        """Half of the lease is gone: with the broker in reach it is time for a new one."""
        if session.lease_until is None or session.state is not SessionState.ACTIVE:
            return False
        pool = await self._pools.find(session.pool_id)
        left_ms = session.lease_until - self._kit.clock.now()
        return left_ms < pool.lease_s * 1000 / 2

    async def renewed(self, session: Session, lease_until: Instant | None) -> None:
        """An endpoint that has the session up already was granted a new lease."""
        if lease_until is None or session.state is not SessionState.ACTIVE:
            return
        moved = await self._kit.store.sessions.advance(
            session.id,
            SessionEvent.LEASE_RENEWED,
            self._kit.clock.now(),
            why=session.why,
            generation=session.generation,
            lease_until=lease_until,
        )
        self._tell(moved)

    # ------------------------------------------------------------------ ending

    async def end(self, session: Session, event: SessionEvent, why: str) -> Session:
        """Begin the end: the endpoint is told and has ENDING_S to confirm; without one, at once."""
        session = await self._move(session, event, why=why, deadline_s=limits.ENDING_S)
        if session.state is not SessionState.ENDING:
            return session
        endpoint = (
            await self._kit.store.endpoints.endpoint(session.endpoint_id)
            if session.endpoint_id is not None
            else None
        )
        if endpoint is not None and (
            self._delivery.connected(endpoint.id) or endpoint.state.value == "online"
        ):
            await self._delivery.owe(session)
            return session
        return await self.finish(session, SessionEvent.FINISHED, why)

    async def finish(self, session: Session, event: SessionEvent, why: str) -> Session:
        """Move to a terminal state and give the desktop back, in one transaction."""
        release = await self._release(session)
        moved = await self._kit.store.sessions.advance(
            session.id, event, self._kit.clock.now(), why=why, release=release
        )
        outcome = "ended" if moved.state is SessionState.ENDED else "failed"
        self._tally.count(outcome, session.architecture)
        self._tell(moved)
        self._kit.events.publish("desktop", id=session.desktop_id, pool_id=session.pool_id)
        self._kit.events.publish("work", pool_id=session.pool_id)
        if session.desktop_id is not None and rules_of(session.architecture).runs_on_endpoint:
            desktop = await self._kit.store.desktops.desktop(session.desktop_id)
            if desktop is not None and desktop.state.value == "resetting":
                self._delivery.owe_fresh(desktop)
        return moved

    async def expire(self, session: Session) -> None:
        """The session's deadline has passed."""
        if session.state is SessionState.QUEUED:
            await self._move(session, SessionEvent.DEADLINE_PASSED, why="waited past the limit")
        elif session.state is SessionState.DISCONNECTED:
            await self.end(session, SessionEvent.DEADLINE_PASSED, "away for too long")
        elif SESSION.allows(session.state, SessionEvent.DEADLINE_PASSED):
            why = "the endpoint did not answer in time"
            await self.finish(session, SessionEvent.DEADLINE_PASSED, why)

    async def _move(
        self, session: Session, event: SessionEvent, *, why: str, deadline_s: int | None = None
    ) -> Session:
        now = self._kit.clock.now()
        moved = await self._kit.store.sessions.advance(
            session.id,
            event,
            now,
            why=why,
            deadline_at=now + deadline_s * 1000 if deadline_s is not None else None,
        )
        self._tell(moved)
        if moved.state is SessionState.CANCELLED:
            self._tally.count("cancelled", moved.architecture)
        return moved

    async def _release(self, session: Session) -> Release | None:
        if session.desktop_id is None:
            return None
        desktop = await self._kit.store.desktops.desktop(session.desktop_id)
        if desktop is None:
            return None
        pool = await self._pools.find(session.pool_id)
        return release_of(desktop, pool, self._kit)

    def _tell(self, session: Session) -> None:
        self._kit.events.publish(
            "session", id=session.id, user_id=session.user_id, state=session.state
        )

    async def at_endpoint(self, endpoint_id: str) -> tuple[Session, ...]:
        """Sessions that an endpoint may be carrying."""
        states = (SessionState.DELIVERING, SessionState.ACTIVE, SessionState.DISCONNECTED)
        return await self._kit.store.sessions.at_endpoints([endpoint_id], states)

    async def own(self, identity: Identity) -> tuple[Session, ...]:
        """The caller's live sessions."""
        query = PageQuery(limit=100, filters={"user_id": identity.user_id, "live": "true"})
        return (await self._kit.store.sessions.sessions(query)).items


def release_of(desktop: Desktop, pool: Pool, kit: Kit) -> Release:
    """What happens to this desktop when its session ends."""
    event = rules_of(Architecture(desktop.architecture)).release_event(pool)
    now = kit.clock.now()
    if event is DesktopEvent.RELEASED_KEEP:
        return Release(event=event, fresh=False, deadline_at=None)
    deleting = event is DesktopEvent.RELEASED_DELETE
    job = None
    if desktop.host_id is not None:
        job = Job(
            id=kit.ids.new("job"),
            verb=JobVerb.DESTROY if deleting else JobVerb.RESET,
            desktop_id=desktop.id,
            host_id=desktop.host_id,
            generation=desktop.generation + 1,
            state=JobState.QUEUED,
            attempts=0,
            deadline_at=None,
            not_before_at=now,
            error="",
            created_at=now,
            finished_at=None,
        )
    deadline_s = limits.DELETE_S if deleting else limits.RESET_S
    return Release(event=event, fresh=True, deadline_at=now + deadline_s * 1000, job=job)

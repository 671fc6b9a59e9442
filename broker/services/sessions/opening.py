"""Tickets shown: what opens a session's display, or what an endpoint may fetch for it."""

from __future__ import annotations

from dataclasses import dataclass

from broker import limits
from broker.architectures import rules_of
from broker.domain.errors import BadTicketError, ResumingError
from broker.domain.model import Desktop, Instant, Session, SessionState
from broker.services.images import Images, Manifest
from broker.services.parking import Parking
from broker.services.sessions.core import Core
from broker.services.tickets import place_of, secret_hash

_OPEN = frozenset({SessionState.DELIVERING, SessionState.ACTIVE, SessionState.DISCONNECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """`image_token` opens the manifest's image; `lease_until` is None without a lease."""

    manifest: Manifest
    image_token: str
    lease_until: Instant | None


class Opening:
    def __init__(self, core: Core, images: Images, parking: Parking) -> None:
        self._core = core
        self._images = images
        self._parking = parking

    async def _redeem(self, secret: str, session_id: str | None) -> tuple[Session, str]:
        kit = self._core.kit
        ticket = await kit.store.credentials.redeem_ticket(secret_hash(secret), kit.clock.now())
        if ticket is None or (session_id is not None and ticket.session_id != session_id):
            raise BadTicketError
        session = await self._core.find(ticket.session_id)
        if session is None or session.state not in _OPEN:
            raise BadTicketError("the session that the ticket is for is over")
        return session, ticket.id

    async def redeem(self, session_id: str, secret: str, endpoint_id: str) -> Session:
        """Use a ticket for this session at this endpoint. Raises BadTicketError."""
        session, _ = await self._redeem(secret, session_id)
        if session.endpoint_id != endpoint_id:
            raise BadTicketError("the ticket is for another endpoint")
        return session

    async def redeem_display(
        self, secret: str, session_id: str | None, browser: str | None = None
    ) -> tuple[Session, str]:
        """Use a ticket to open a display: of this session, or of whichever it names; the session,
        and the ticket's id. `browser` is the sign-in that shows it; None: an endpoint does.

        Raises:
            BadTicketError: not valid, of another session, the session is over, it is not at that
                browser, or it has moved from the endpoint that the ticket was given to.
        """
        session, ticket_id = await self._redeem(secret, session_id)
        endpoint_id = place_of(secret)
        kind_fits = (endpoint_id is None) is (browser is not None)
        if not kind_fits or (session.endpoint_id, session.browser) != (endpoint_id, browser):
            raise BadTicketError("the ticket is for another place than this, or the session moved")
        return session, ticket_id

    def check_runs(self, session: Session, desktop: Desktop) -> None:
        """See to it that the desktop is resumed if it rests.

        Raises:
            ResumingError: it does not run yet; an endpoint is sent another order when it does.
        """
        if self._parking.awake(desktop):
            return
        if session.endpoint_id is not None:
            self._core.delivery.order_later(session.endpoint_id, session.id)
        text = f"{desktop.name} is being resumed"
        raise ResumingError(text, retry_after_s=limits.RESUME_RETRY_S)

    async def grant(self, session: Session) -> Grant:
        """What an endpoint that redeemed its ticket may fetch, and until when it may run."""
        pool = await self._core.pool_of(session)
        rules = rules_of(session.architecture)
        image = await self._core.pools.image(pool.image_id)
        now = self._core.now
        lease_until = rules.lease_until(pool, now)
        return Grant(
            manifest=self._images.manifest(image, boot_only=not rules.leased),
            image_token=self._images.token(
                image, session.id, lease_until or now + limits.TOKEN_S * 1000
            ),
            lease_until=lease_until,
        )

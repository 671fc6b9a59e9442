"""A person's own pages: my desktops, and one session from the queue to the display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from broker.architectures import rules_of
from broker.domain.lifecycle import SESSION
from broker.domain.model import Architecture, Endpoint, Pool, Session, SessionState
from broker.domain.roles import Permission
from broker.ports import PageQuery
from broker.web.call import Call
from broker.web.console.lists import filter_text
from broker.web.console.render import Pages
from broker.web.console.watchers import watchers
from broker.web.console.words import PLACES
from broker.web.routes import Route, Surface

SEATS_MAX: Final = 20
"""endpoints offered while somebody types where he sits"""

_SEAT: Final = filter_text("endpoint", "the endpoint where the person sits")
_SEATS: Final = (
    filter_text("pool", "a pool's id"),
    filter_text("text", "part of an endpoint's name"),
)

_OFFERS: Final[Mapping[Architecture, str]] = {
    Architecture.VDI: "Opens in this browser, or on the thin client where you sit.",
    Architecture.IDV: "Starts on your computer, and works on when the network is gone.",
    Architecture.VOI: "Your computer boots it from the network.",
}
_SAYS: Final[Mapping[SessionState, str]] = {
    SessionState.QUEUED: "You are in the queue.",
    SessionState.DELIVERING: "Your desktop is being brought up.",
    SessionState.ACTIVE: "Your desktop is running.",
    SessionState.DISCONNECTED: "Your desktop is kept for you; connect again to go on.",
    SessionState.ENDING: "You are being logged off.",
    SessionState.ENDED: "This session is over.",
    SessionState.FAILED: "This session broke off.",
    SessionState.CANCELLED: "You left the queue.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCard:
    """A pool that the person may use, with the session he has there."""

    pool: Pool
    where: str
    offer: str
    needs_endpoint: bool
    session: Session | None
    place: int | None
    wait_s: int | None
    says: str
    desktop: str
    endpoint: str
    opens: bool


def says_of(session: Session) -> str:
    """The session's state in a sentence; with the reason where it did not go well."""
    sentence = _SAYS[session.state]
    if session.state in {SessionState.FAILED, SessionState.CANCELLED} and session.why:
        return f"{sentence} Reason: {session.why}."
    return sentence


def opens_here(session: Session) -> bool:
    """Whether its display opens in a browser: it runs on a host and no endpoint shows it."""
    return session.endpoint_id is None and not rules_of(session.architecture).needs_endpoint


def is_here(call: Call, session: Session) -> bool:
    """Whether it is in the browser that asks: where it is opened without asking anybody."""
    return session.endpoint_id is None and session.browser in {None, call.who.token_id}


class MyPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def _entitled(self, call: Call) -> list[Pool]:
        services = call.web.services
        mine = await services.policies.usable(call.who, await services.pools.all(), call.origin)
        return sorted(mine, key=lambda pool: (pool.title, pool.name))

    async def _card(self, call: Call, pool: Pool, session: Session | None) -> PoolCard:
        names: Mapping[str, str] = {}
        expected = None
        if session is not None:
            (session,) = await call.web.services.discretion.sessions([session], call.who.role)
            names = await call.web.names.learn(
                desktops=[session.desktop_id], endpoints=[session.endpoint_id]
            )
            expected = await call.web.services.queues.expected(session)
        return PoolCard(
            pool=pool,
            where=PLACES[pool.architecture],
            offer=_OFFERS[pool.architecture],
            needs_endpoint=rules_of(pool.architecture).needs_endpoint,
            session=session,
            place=expected.place if expected is not None else None,
            wait_s=expected.wait_s if expected is not None else None,
            says=says_of(session) if session is not None else "",
            desktop=names.get(session.desktop_id or "", "") if session is not None else "",
            endpoint=names.get(session.endpoint_id or "", "") if session is not None else "",
            opens=session is not None and opens_here(session),
        )

    async def my_desktops(self, call: Call) -> web.StreamResponse:
        services = call.web.services
        pools = {pool.id: pool for pool in await self._entitled(call)}
        own = {session.pool_id: session for session in await services.sessions.own(call.who)}
        # a session stays in sight when the entitlement is taken away under it
        for pool_id in own.keys() - pools.keys():
            pools[pool_id] = await services.pools.find(pool_id)
        user = await services.directory.user(call.who.user_id)
        context = {
            "cards": [await self._card(call, pool, own.get(pool.id)) for pool in pools.values()],
            "greeting": user.display_name,
            "seat": call.query.get("endpoint") or "",
            "this_url": call.request.path_qs,
        }
        return self._pages.answer(
            call, "me.html", context, here="/me", parts=("list",), topics="session,place"
        )

    async def my_session(self, call: Call) -> web.StreamResponse:
        services = call.web.services
        session = await services.sessions.get(call.who, call.part("session_id"))
        if session.user_id != call.who.user_id:
            raise web.HTTPSeeOther(f"/sessions/{session.id}")
        pool = await services.pools.find(session.pool_id)
        card = await self._card(call, pool, session)
        context: dict[str, Any] = {
            "session": session,
            "pool": pool,
            "place": card.place,
            "wait_s": card.wait_s,
            "wish": await self._wish(call, session),
            "says": card.says,
            "desktop": card.desktop,
            "endpoint": card.endpoint,
            "live": session.state not in SESSION.terminal,
            "opens": opens_here(session) and session.state not in SESSION.terminal,
            "here": is_here(call, session),
            "shadows": await watchers(call, session) if is_here(call, session) else (),
        }
        # `offer` is None where the desktop is not shown by this broker at all
        context["offer"] = await services.viewers.offer(session) if context["opens"] else None
        return self._pages.answer(
            call,
            "my_session.html",
            context,
            here="/me",
            parts=("status", "shadows"),
            topics="session,place,shadow",
        )

    async def _wish(self, call: Call, session: Session) -> Mapping[str, str] | None:
        """Where somebody asks for the session, while he waits for an answer. `asks`: who is to
        answer: the person here, or the one where it is open, whom this browser had asked."""
        wish = session.wish
        if wish is None or wish.until <= call.web.services.kit.clock.now():
            return None
        names = await call.web.names.learn(endpoints=[wish.endpoint_id, session.endpoint_id])
        place = session.endpoint_id if wish.browser == call.who.token_id else wish.endpoint_id
        where = names.get(place, "?") if place else "another browser"
        if is_here(call, session):
            return {"id": wish.id, "where": where, "asks": "here"}
        mine = wish.browser == call.who.token_id
        return {"id": wish.id, "where": where, "asks": "there"} if mine else None

    async def seats(self, call: Call) -> web.StreamResponse:
        """Endpoints of a pool that the person may use, by part of a name."""
        pool_id = call.query.get("pool") or ""
        found: Sequence[Endpoint] = ()
        if pool_id in {pool.id for pool in await self._entitled(call)}:
            query = PageQuery(
                limit=SEATS_MAX,
                text=call.query.get("text") or None,
                filters={"pool_id": pool_id, "state": "online"},
            )
            found = (await call.web.services.kit.store.endpoints.endpoints(query)).items
        seats = [{"name": endpoint.name, "words": endpoint.location} for endpoint in found]
        return call.answer({"seats": seats})

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/me",
                handler=self.my_desktops,
                need=Permission.OWN_SESSIONS,
                summary="My desktops",
                query=(_SEAT,),
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/me/seats",
                handler=self.seats,
                need=Permission.OWN_SESSIONS,
                summary="Endpoints where I may sit",
                query=_SEATS,
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/me/sessions/{session_id}",
                handler=self.my_session,
                need=Permission.OWN_SESSIONS,
                summary="One of my sessions",
                surface=Surface.PAGE,
            ),
        )

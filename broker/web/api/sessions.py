"""Sessions: connect, look, wait for news, disconnect, log off."""

from __future__ import annotations

from aiohttp import web

from broker.domain import errors
from broker.domain.errors import BadRequestError
from broker.domain.model import Architecture, SessionState
from broker.domain.roles import Permission, allows
from broker.limits import IDEMPOTENCY_KEY_CHARS_MAX, POOL_QUEUE_MAX, WAIT_S_MAX
from broker.services.connect import Connected
from broker.web.api import render_sessions as render
from broker.web.api.inputs import Body, Name
from broker.web.api.shapes import ConnectedShape, SessionShape
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import stamp_or_none
from broker.web.lists import Listed, listed, page_query
from broker.web.params import PAGE, choice, integer, text
from broker.web.routes import HeaderParam, Route

IDEMPOTENCY_KEY = "Idempotency-Key"
_REVISION_MAX = 2**31
_CONNECT = Audited(
    action="session.connect",
    by_service=True,
    told=(
        errors.NotEntitledError,
        errors.DeniedByRuleError,
        errors.SiteClosedError,
        errors.PoolClosedError,
        errors.WrongEndpointError,
        errors.IdempotencyMismatchError,
        errors.OverQuotaError,
        errors.ElsewhereError,
        errors.QueueFullError,
    ),
)
"""admission and claim write their own entries"""


class NewSession(Body, frozen=True, kw_only=True):
    """`pool` and `endpoint` are names or ids. VDI works without an endpoint, from a browser, which
    is known by its sign-in and gets a ticket; an endpoint gets its own with its order. Where the
    desktop runs on the endpoint (IDV, VOI), one must be named. `move` false: a session that is live
    at another place stays there (`session.elsewhere`), whatever its pool's `take_over` says."""

    pool: Name
    endpoint: Name | None = None
    move: bool = True


class SessionsApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def connect(self, call: Call) -> web.StreamResponse:
        body: NewSession = call.body
        connected = await self._web.services.connect.connect(
            call.who,
            body.pool,
            body.endpoint,
            _idempotency_key(call),
            call.origin,
            move=body.move,
        )
        shape = await self._connected(call, connected)
        if connected.session.state is SessionState.QUEUED:
            return call.answer(shape, 202)
        return call.answer(shape, 201 if connected.new else 200)

    async def _connected(self, call: Call, connected: Connected) -> ConnectedShape:
        session, names = connected.session, self._web.names
        names.note(call.who.user_id, call.who.username)
        if connected.desktop is not None:
            names.note(connected.desktop.id, connected.desktop.name)
        if connected.endpoint is not None:
            names.note(connected.endpoint.id, connected.endpoint.name)
        known = await names.learn(
            users=(session.user_id,),
            desktops=(session.desktop_id,),
            endpoints=(session.endpoint_id, session.wish.endpoint_id if session.wish else None),
        )
        services = self._web.services
        (told,) = await services.discretion.sessions([session], call.who.role)
        expected = await services.queues.expected(session, place=connected.place)
        now = services.kit.clock.now()
        return ConnectedShape(
            session=render.session(told, known, connected.pool, expected, now),
            ticket=connected.ticket,
            ticket_expires_at=stamp_or_none(connected.ticket_expires_at),
        )

    async def sessions(self, call: Call) -> web.StreamResponse:
        who = call.who
        own_only = not allows(who.role, Permission.READ)
        query = page_query(call, "sessions", {"user_id": who.user_id} if own_only else None)
        page = await self._web.services.kit.store.sessions.sessions(query)
        shapes = await render.sessions(self._web, page.items, who.role)
        return call.answer(listed("sessions", shapes, page.next_after))

    async def session(self, call: Call) -> web.StreamResponse:
        sessions = self._web.services.sessions
        seen, wait_s = call.query.get("seen"), call.query.get("wait_s", 0)
        if seen is None or wait_s == 0:
            found = await sessions.get(call.who, call.part("id"))
        else:
            place = call.query.get("place")
            found = await sessions.wait(call.who, call.part("id"), seen, wait_s, place)
        return call.answer((await render.sessions(self._web, [found], call.who.role))[0])

    async def log_off(self, call: Call) -> web.StreamResponse:
        session = await self._web.services.sessions.log_off(call.who, call.part("id"), call.origin)
        return call.answer((await render.sessions(self._web, [session], call.who.role))[0], 202)

    async def disconnect(self, call: Call) -> web.StreamResponse:
        session = await self._web.services.sessions.disconnect(
            call.who, call.part("id"), call.origin
        )
        return call.answer((await render.sessions(self._web, [session], call.who.role))[0])

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="POST",
                path="/api/v1/sessions",
                audit=_CONNECT,
                handler=self.connect,
                need=Permission.OWN_SESSIONS,
                summary="Give me a desktop of this pool: new (201), mine already (200), or a "
                "place in the queue (202)",
                request=NewSession,
                answers={201: ConnectedShape, 200: ConnectedShape, 202: ConnectedShape},
                errors=(
                    errors.NotFoundError,
                    errors.NotEntitledError,
                    errors.DeniedByRuleError,
                    errors.SiteClosedError,
                    errors.PoolClosedError,
                    errors.WrongEndpointError,
                    errors.IdempotencyMismatchError,
                    errors.OverQuotaError,
                    errors.ElsewhereError,
                    errors.QueueFullError,
                    errors.BusyError,
                ),
                headers=(
                    HeaderParam(
                        name=IDEMPOTENCY_KEY,
                        says="the same key and body again answers the same session",
                    ),
                ),
            ),
            Route(
                method="GET",
                path="/api/v1/sessions",
                handler=self.sessions,
                need=Permission.OWN_SESSIONS,
                summary="Sessions, newest first; without the permission to read, only mine",
                answers={200: Listed[SessionShape]},
                query=(
                    *PAGE,
                    text("user_id", "only of this user"),
                    text("pool_id", "only of this pool"),
                    text("desktop_id", "only with this desktop"),
                    text("endpoint_id", "only at this endpoint"),
                    choice("state", SessionState, "only in this state"),
                    choice("architecture", Architecture, "only under this architecture"),
                    choice("live", ("true", "false"), "only those that are not over, or are"),
                ),
            ),
            Route(
                method="GET",
                path="/api/v1/sessions/{id}",
                handler=self.session,
                need=Permission.OWN_SESSIONS,
                summary="One session; with `seen`, as soon as its revision is later. Whoever waits "
                "in a queue must call at least every 90 s, or leaves it",
                answers={200: SessionShape},
                errors=(errors.NotFoundError,),
                query=(
                    integer("seen", 0, _REVISION_MAX, "the revision that I know"),
                    integer("wait_s", 0, int(WAIT_S_MAX), "how long to wait for a later one"),
                    integer(
                        "place",
                        0,
                        POOL_QUEUE_MAX,
                        "the place in the queue that I know: another one is answered, too",
                    ),
                ),
            ),
            Route(
                method="DELETE",
                path="/api/v1/sessions/{id}",
                audit=Audited(action="session.log_off", about="session_id", by_service=True),
                handler=self.log_off,
                need=Permission.OWN_SESSIONS,
                summary="Log off, or leave the queue",
                answers={202: SessionShape},
                errors=(errors.NotFoundError, errors.IllegalTransitionError),
            ),
            Route(
                method="POST",
                path="/api/v1/sessions/{id}/disconnect",
                audit=Audited(action="session.disconnect", about="session_id", by_service=True),
                handler=self.disconnect,
                need=Permission.OWN_SESSIONS,
                summary="Take the display away and keep the desktop for the pool's grace",
                answers={200: SessionShape},
                errors=(errors.NotFoundError, errors.ConflictError),
            ),
        )


def _idempotency_key(call: Call) -> str | None:
    """Raises BadRequestError for a key that is not short printable ASCII."""
    key = call.request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    if not key or len(key) > IDEMPOTENCY_KEY_CHARS_MAX or not (key.isascii() and key.isprintable()):
        text_ = f"an {IDEMPOTENCY_KEY} is 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable characters"
        raise BadRequestError(text_, fields={"field": IDEMPOTENCY_KEY})
    return key

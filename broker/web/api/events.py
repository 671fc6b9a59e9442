"""Server-sent events: hints that something changed, for pages that then look again.

Hints of one thing within EVENTS_GATHER_S are told once. A plain user hears of own sessions only.
Every EVENTS_BEAT_S a comment shows that the stream lives, and the listener's token is checked
again: a stream does not outlive the sign-in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from broker.domain import errors
from broker.domain.errors import BusyError, NotSignedInError, UnavailableError
from broker.domain.model import Identity
from broker.domain.roles import Permission, allows
from broker.limits import (
    ACTIVITY_S,
    EVENT_STREAMS_MAX,
    EVENT_STREAMS_PER_USER_MAX,
    EVENTS_BEAT_S,
    EVENTS_GATHER_S,
    EVENTS_PENDING_MAX,
)
from broker.ports import Hint, Subscription
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import encode
from broker.web.params import choices
from broker.web.routes import Route

TOPICS: Final = (
    "session",
    "place",
    "shadow",
    "desktop",
    "pool",
    "endpoint",
    "host",
    "user",
    "policy",
    "site",
    "campaign",
    "overview",
)
"""what may be listened to; other hints are between the broker's own parts"""
OWN_TOPICS: Final = ("session", "place", "shadow")
"""what a plain user may listen to"""
MISSED: Final = "missed"
"""event that says: hints were lost, look at everything"""
_SAYS_WHOSE: Final = frozenset({"session", "shadow"})
_RETRY_MS: Final = 2000
_BUSY_RETRY_S: Final = 10.0


class Gathered:
    """Hints on their way to one listener: the latest of each thing, bounded."""

    def __init__(self, identity: Identity, own_sessions: set[str]) -> None:
        self._reader = allows(identity.role, Permission.READ)
        self._user_id = identity.user_id
        self._own_sessions = own_sessions
        self._pending: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._missed = False
        self.some = asyncio.Event()

    def take(self, hint: Hint) -> None:
        if hint.topic == MISSED:
            self._missed = True
        elif not self._reader and not self._is_own(hint):
            return
        elif len(self._pending) >= EVENTS_PENDING_MAX:
            self._pending.clear()
            self._missed = True
        else:
            self._pending[hint.topic, str(hint.data.get("id"))] = hint.data
        self.some.set()

    def _is_own(self, hint: Hint) -> bool:
        """A hint of a session says whose it is; a hint of a place only names the session."""
        if hint.topic in _SAYS_WHOSE and hint.data.get("user_id") == self._user_id:
            self._own_sessions.add(str(hint.data.get("id")))
            return True
        return hint.topic == "place" and hint.data.get("id") in self._own_sessions

    def text(self) -> bytes:
        """Everything gathered, as events; a comment where there is nothing."""
        self.some.clear()
        if not self._pending and not self._missed:
            return b": alive\n\n"
        lines: list[bytes] = []
        if self._missed:
            lines.append(b"event: missed\ndata: {}\n\n")
        for (topic, _), data in self._pending.items():
            lines.append(b"event: %b\ndata: %b\n\n" % (topic.encode(), encode(data)))
        self._pending.clear()
        self._missed = False
        return b"".join(lines)


class EventsApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def events(self, call: Call) -> web.StreamResponse:
        who, running = call.who, self._web.running
        own_streams = sum(user_id == who.user_id for user_id in running.streams.values())
        if (
            running.draining
            or len(running.streams) >= EVENT_STREAMS_MAX
            or own_streams >= EVENT_STREAMS_PER_USER_MAX
        ):
            raise BusyError("no more event streams here", retry_after_s=_BUSY_RETRY_S)
        reads = allows(who.role, Permission.READ)
        topics = call.query.get("topics", TOPICS if reads else OWN_TOPICS)
        wanted = topics if reads else tuple(one for one in topics if one in OWN_TOPICS)
        services = self._web.services
        subscription = services.kit.events.subscribe(
            *(wanted or OWN_TOPICS), queue_max=EVENTS_PENDING_MAX
        )
        running.streams[subscription] = who.user_id
        try:
            # read after the subscription began, so that none falls between
            own = () if reads else await services.sessions.own(who)
            gathered = Gathered(who, {session.id for session in own})
            return await self._stream(call, subscription, gathered)
        finally:
            running.streams.pop(subscription, None)
            subscription.close()

    async def _stream(
        self, call: Call, subscription: Subscription, gathered: Gathered
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        # a proxy that keeps the connection would wait for the next answer on it
        response.force_close()
        await call.stream(response)
        await response.write(f"retry: {_RETRY_MS}\n\n".encode())
        async with asyncio.TaskGroup() as tasks:
            pump = tasks.create_task(_pump(subscription, gathered), name="event stream")
            try:
                await self._write(call, response, gathered, pump)
            except ConnectionError:
                # the listener went away
                pass
            finally:
                subscription.close()
                pump.cancel()
        return response

    async def _write(
        self,
        call: Call,
        response: web.StreamResponse,
        gathered: Gathered,
        pump: asyncio.Task[None],
    ) -> None:
        clock, sessions = self._web.services.kit.clock, self._web.services.sessions
        checked_s = here_s = clock.monotonic()
        while not pump.done():
            try:
                async with asyncio.timeout(EVENTS_BEAT_S):
                    await gathered.some.wait()
                await asyncio.sleep(EVENTS_GATHER_S)
            except TimeoutError:
                pass
            if clock.monotonic() - checked_s >= EVENTS_BEAT_S:
                checked_s = clock.monotonic()
                if not await _still_signed_in(call):
                    return
            if clock.monotonic() - here_s >= ACTIVITY_S:
                here_s = clock.monotonic()
                # who listens need not call to keep a place in a queue
                with contextlib.suppress(UnavailableError, BusyError):
                    await sessions.here(call.who)
            if not pump.done():
                await response.write(gathered.text())

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/events",
                handler=self.events,
                need=Permission.OWN_SESSIONS,
                summary="Hints of changes as server-sent events; a plain user hears of own "
                "sessions only",
                answers={200: None},
                errors=(errors.BusyError,),
                query=(choices("topics", TOPICS, "some of these, separated by commas"),),
                stream=True,
            ),
        )


async def _pump(subscription: Subscription, gathered: Gathered) -> None:
    """Take hints as they come: waiting for them must not be cut off by the writer's clock."""
    try:
        async for hint in subscription:
            gathered.take(hint)
    finally:
        # the writer looks whether there is more to come
        gathered.some.set()


async def _still_signed_in(call: Call) -> bool:
    """Whether the token still opens what this stream was opened with."""
    before = call.who
    try:
        now = await call.identify()
    except NotSignedInError:
        return False
    return now.user_id == before.user_id and now.role == before.role

"""Hints between processes, and the ways to endpoints and to people's screens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from broker.domain.model import Desktop, Identity, Image, Notice, Pool, Session, Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Says that something changed: look. Never the truth itself. `data` is small and JSON-able."""

    topic: str
    data: Mapping[str, Any]


class Subscription(Protocol):
    def __aiter__(self) -> AsyncIterator[Hint]: ...

    def close(self) -> None: ...


class Events(Protocol):
    """Hints between tasks and processes. Losing one costs time, never truth."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def publish(self, topic: str, **data: Any) -> None:
        """Never blocks, never raises for a slow or absent listener."""

    def subscribe(self, *topics: str, queue_max: int = 1000) -> Subscription:
        """Hints of these topics from now on. A listener that falls `queue_max` behind loses its
        oldest hints and gets Hint("missed") once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOrder:
    """Tell an endpoint to bring this session up. `ticket` is its own one-use ticket."""

    session: Session
    desktop: Desktop
    pool: Pool
    image: Image
    username: str
    ticket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopOrder:
    """Tell an endpoint to end this session; then, for its own desktop, to make it fresh.

    `moved`: only its part in it, for the session goes on elsewhere or rests; no answer comes.
    """

    session_id: str
    generation: int
    reason: str
    moved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshOrder:
    """Tell a fat endpoint to bring its desktop to the image, as `generation`."""

    desktop_id: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeOrder:
    """Show this message to the person of the session."""

    session_id: str
    notice: Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentOrder:
    """Ask the person whether the session may move to another endpoint."""

    session_id: str
    wish: Wish
    endpoint_name: str


Order: TypeAlias = StartOrder | StopOrder | FreshOrder | NoticeOrder | ConsentOrder


class EndpointLink(Protocol):
    """The endpoints connected to this process. Implemented in services/conversation."""

    def connected(self, endpoint_id: str) -> bool: ...

    def connected_ids(self) -> Sequence[str]: ...

    def send(self, endpoint_id: str, order: Order) -> bool:
        """Queue an order; False when it is not connected here or its queue is full."""

    def drop(self, endpoint_id: str) -> None:
        """Close the link of an endpoint that is retired, if it is connected here."""


class Line(Protocol):
    """One endpoint's connection: whole text messages, in order, both ways. A WebSocket, or a
    simulated one."""

    @property
    def closed(self) -> bool: ...

    async def receive(self) -> str | bytes | None:
        """The next message; None when the endpoint has gone. Raises ProtocolError for what is
        no text message, or too long a one."""

    async def send(self, data: bytes) -> None:
        """Returns when the transport took it. Raises ConnectionError when it is closed."""

    async def close(self, code: int, why: str) -> None:
        """Close it, with a WebSocket close code; may be called twice."""


class DisplayClient(Protocol):
    """The person's end of an open display: a WebSocket, or a fake."""

    async def ready(self, session_id: str, width: int, height: int, protocol: str) -> None:
        """The display is open; frames of that protocol follow (Console). Size in pixels."""

    async def receive(self) -> bytes:
        """The next input; b"" when the client has gone."""

    async def send(self, frame: bytes) -> None:
        """Returns when the transport took it: this is what holds the desktop back."""

    async def ping(self) -> None:
        """Returns when the client has answered a ping that went the way of the frames. At most
        one is under way. Raises ConnectionError when it has gone."""

    async def close(self, code: str, detail: str) -> None:
        """Say why (a stable code) and close; may be called twice."""


class Displays(Protocol):
    """The displays open in this process. Implemented in gateway/, used by web/ and services."""

    async def serve(
        self,
        client: DisplayClient,
        *,
        ticket: str,
        session_id: str | None = None,
        browser: str | None = None,
    ) -> str:
        """Redeem the ticket, open the display, relay until it ends; answers why it ended, as a
        stable code. With `session_id` the ticket must be of that session. `browser` is the sign-in
        (token id) of the person whose socket it is; None: an endpoint's. The client is closed
        then. Raises TriviumError, before `ready`, when it could not be opened; the client is
        not closed then, so that the caller may tell it."""

    def kill(
        self, session_id: str, detail: str = "", code: str = "display.killed",
        browser: str | None = None,
    ) -> bool:  # fmt: skip
        """End the session's display at once; False when none is open here. `code` is the stable
        code that its client is closed with. `browser`: only the one of that sign-in."""

    def elsewhere(self, session_id: str, endpoint_id: str | None, display: str | None) -> bool:
        """Whether the display that is open here for the session is for another place than this
        (None: a browser), or in a browser, but not the session's own (`display`) any more."""

    def open_sessions(self) -> tuple[str, ...]:
        """The sessions whose displays are open here."""


class ShadowDisplays(Protocol):
    """The staff's displays of other people's sessions in this process. Implemented in gateway/."""

    @property
    def open_count(self) -> int: ...

    async def serve(
        self,
        client: DisplayClient,
        *,
        who: Identity,
        session_id: str,
        shadow_id: str,
        ticket: str,
    ) -> str:
        """Redeem the ticket, show the desktop until it ends; answers why it ended, as a stable
        code. The client is closed then. Raises TriviumError, before `ready`, when it could not be
        opened; the client is not closed then."""

    def end(self, shadow_id: str, code: str) -> bool:
        """End it at once; False when it is not open here. `code` is the stable code that its
        client is closed with."""

"""A broker for agents' tests: real sockets, `broker.wire`, no database and no services.

It does what it is told: enrols for tokens, challenges and proves, sends the orders that a test
gives it, grants, serves segments and displays, and misbehaves on request. Everything it was told
is kept in `received`. `python -m tests.support.fake_broker` runs it alone, for measuring.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from hashlib import blake2b
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from aiohttp import WSMsgType, web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker import wire

Message = TypeVar("Message")
SEGMENT_BYTES = 20_000


@dataclass(slots=True)
class Enrolled:
    id: str
    name: str
    kind: str
    public_key: bytes


@dataclass(slots=True)
class Link:
    ws: web.WebSocketResponse
    transport: asyncio.BaseTransport | None
    boot_id: str
    heartbeats: int = 0


@dataclass(slots=True)
class Misbehaviour:
    """What goes wrong next. Counters go down by one each time."""

    refuse: wire.Refused | None = None
    """instead of a Challenge"""
    refuse_http: int = 0
    """how many links are answered 503 with Retry-After: 1"""
    enrol_busy: int = 0
    """how many enrolments are answered 503"""
    lose_enrolment: int = 0
    """how many enrolments are carried out and the answer lost"""
    after_welcome: list[bytes | str] = field(default_factory=list)
    """frames sent after the next Welcomes: bytes as binary, text as text"""
    spoil: Counter[int] = field(default_factory=Counter)
    """how many times the segment of that number comes wrong"""
    no_token: int = 0
    """how many segments are answered 401"""
    cut_segment: int = 0
    """how many segments end in the middle"""
    no_pong: bool = False
    ping_s: float | None = None
    """between two pings; a link or display that does not answer is closed"""


def segment(image_id: str, index: int) -> bytes:
    return blake2b(f"{image_id} {index}".encode(), digest_size=32).digest() * (SEGMENT_BYTES // 32)


def image(*, version: int = 1, segments: int = 12, boot_segments: int = 6) -> wire.ImageRef:
    return wire.ImageRef(
        image_id=f"img_{version}",
        name="win",
        version=version,
        segments=segments,
        boot_segments=boot_segments,
        segment_bytes=SEGMENT_BYTES,
    )


class FakeBroker:
    """Use as an async context manager; `url` is valid inside."""

    def __init__(self, *, heartbeat_s: float = 1.0, installation_id: str = "ins_fake") -> None:
        self.installation_id = installation_id
        self.heartbeat_s = heartbeat_s
        self.lease_s = 3600
        self.tokens: set[str] = set()
        self.enrolled: dict[str, Enrolled] = {}
        self.links: dict[str, Link] = {}
        self.received: list[tuple[str, wire.FromAgent]] = []
        self.segments: Counter[int] = Counter()
        self.displays: dict[str, asyncio.BaseTransport | None] = {}
        self.input_bytes = 0
        self.connects = 0
        self.wrong = Misbehaviour()
        self.image = image()
        self.port = 0
        self._tickets: dict[str, tuple[str, str]] = {}
        self._architectures: dict[str, str] = {}
        self._image_tokens: set[str] = set()
        self._made = 0
        self._sending: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.end()

    async def begin(self, port: int = 0) -> None:
        """Listen; on the same port again after `end`, this is a restarted broker."""
        app = web.Application()
        app.router.add_post(wire.ENROL_PATH, self._enrol)
        app.router.add_get(wire.LINK_PATH, self._link)
        app.router.add_get(wire.DISPLAY_PATH, self._display)
        app.router.add_get(wire.SEGMENT_PATH, self._segment)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port or self.port, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def end(self) -> None:
        """Stop listening and cut every connection, as a crash does."""
        open_now = [link.transport for link in self.links.values()]
        for transport in [*open_now, *self.displays.values()]:
            _abort(transport)
        if self._runner is not None:
            await self._runner.cleanup()

    def make_tokens(self, count: int) -> list[str]:
        made = [self._new("token") for _ in range(count)]
        self.tokens.update(made)
        return made

    def _new(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}_{self._made}"

    # --------------------------------------------------------------- for tests

    def id_of(self, name: str) -> str:
        return next(one.id for one in self.enrolled.values() if one.name == name)

    def told(self, kind: type[Message], *, of: str | None = None) -> list[Message]:
        """Messages of this kind, of one endpoint or of all."""
        return [
            message
            for endpoint_id, message in self.received
            if isinstance(message, kind) and of in {None, endpoint_id}
        ]

    def start(
        self, endpoint_id: str, architecture: str, *, session_id: str = "", generation: int = 1
    ) -> str:
        """Order a session; returns its id. Called again with the id it repeats the order."""
        session_id = session_id or self._new("ses")
        ticket = self._new("ticket")
        self._tickets[ticket] = (session_id, endpoint_id)
        self._architectures[session_id] = architecture
        self.send(
            endpoint_id,
            wire.Start(
                session_id=session_id,
                desktop_id=f"dsk_{session_id}",
                desktop_name="lab-1",
                generation=generation,
                architecture=architecture,
                pool="lab",
                username="li.na",
                ticket=ticket,
                image=self.image,
            ),
        )
        return session_id

    def stop(self, endpoint_id: str, session_id: str, generation: int = 1) -> None:
        order = wire.Stop(session_id=session_id, generation=generation, reason="logged off")
        self.send(endpoint_id, order)

    def send(self, endpoint_id: str, message: wire.FromBroker) -> None:
        self.send_raw(endpoint_id, wire.encode(message).decode())

    def send_raw(self, endpoint_id: str, data: bytes | str) -> None:
        link = self.links[endpoint_id]
        sending = link.ws.send_bytes(data) if isinstance(data, bytes) else link.ws.send_str(data)
        task = asyncio.get_running_loop().create_task(_quietly(sending))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def cut(self, endpoint_id: str) -> None:
        """The network fails: no closing handshake."""
        _abort(self.links[endpoint_id].transport)

    def cut_display(self, session_id: str) -> None:
        _abort(self.displays[session_id])

    # --------------------------------------------------------------- enrolment

    async def _enrol(self, request: web.Request) -> web.StreamResponse:
        asked = msgspec.json.decode(await request.read(), type=wire.EnrolRequest)
        if self.wrong.enrol_busy:
            self.wrong.enrol_busy -= 1
            return web.Response(status=503, headers={"Retry-After": "1"})
        if asked.token not in self.tokens:
            problem = {"code": "enrolment.refused", "detail": "unknown or used", "status": 400}
            return web.json_response(problem, status=400)
        self.tokens.remove(asked.token)
        known = [one.id for one in self.enrolled.values() if one.name == asked.name]
        endpoint_id = known[0] if known else self._new("ept")
        self.enrolled[endpoint_id] = Enrolled(
            id=endpoint_id,
            name=asked.name,
            kind=asked.kind,
            public_key=bytes.fromhex(asked.public_key),
        )
        if self.wrong.lose_enrolment:
            self.wrong.lose_enrolment -= 1
            _abort(request.transport)
        answer = wire.EnrolAnswer(endpoint_id=endpoint_id, installation_id=self.installation_id)
        return web.Response(body=wire.encode(answer), status=201, content_type="application/json")

    # -------------------------------------------------------------------- link

    async def _link(self, request: web.Request) -> web.StreamResponse:
        self.connects += 1
        if self.wrong.refuse_http:
            self.wrong.refuse_http -= 1
            return web.Response(status=503, headers={"Retry-After": "1"})
        ws = web.WebSocketResponse(
            protocols=(wire.SUBPROTOCOL,),
            compress=False,
            autoping=not self.wrong.no_pong,
            heartbeat=self.wrong.ping_s,
        )
        await ws.prepare(request)
        assert ws.ws_protocol == wire.SUBPROTOCOL
        assert "Origin" not in request.headers
        hello = await self._handshake(ws)
        if hello is None:
            return ws
        here = hello.endpoint_id
        self.links[here] = Link(ws, request.transport, hello.boot_id)
        for frame in self.wrong.after_welcome[:1]:
            self.wrong.after_welcome.pop(0)
            self.send_raw(here, frame)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                self._take(here, message.data)
        if here in self.links and self.links[here].ws is ws:
            del self.links[here]
        return ws

    async def _handshake(self, ws: web.WebSocketResponse) -> wire.Hello | None:
        try:
            hello = wire.decode_from_agent(await ws.receive_str())
        except TypeError:
            return None
        assert isinstance(hello, wire.Hello)
        endpoint = self.enrolled.get(hello.endpoint_id)
        refused = self.wrong.refuse
        if endpoint is None:
            refused = wire.Refused(code="endpoint.bad_proof", detail="unknown", final=True)
        if refused is not None or endpoint is None:
            await _quietly(ws.send_str(wire.encode(refused).decode()))
            await ws.close()
            return None
        nonce = self._new("nonce")
        challenge = wire.Challenge(nonce=nonce, installation_id=self.installation_id)
        await ws.send_str(wire.encode(challenge).decode())
        try:
            proof = wire.decode_from_agent(await ws.receive_str())
        except TypeError:
            return None
        assert isinstance(proof, wire.Proof)
        payload = wire.proof_payload(self.installation_id, endpoint.id, nonce)
        key = Ed25519PublicKey.from_public_bytes(endpoint.public_key)
        try:
            key.verify(bytes.fromhex(proof.signature), payload)
        except InvalidSignature:
            refused = wire.Refused(code="endpoint.bad_proof", final=True)
            await ws.send_str(wire.encode(refused).decode())
            await ws.close()
            return None
        welcome = wire.Welcome(heartbeat_s=self.heartbeat_s, time_ms=round(time.time() * 1000))
        await ws.send_str(wire.encode(welcome).decode())
        return hello

    def _take(self, here: str, data: str) -> None:
        message = wire.decode_from_agent(data)
        if isinstance(message, wire.Heartbeat) and not message.sessions:
            self.links[here].heartbeats += 1
            return
        self.received.append((here, message))
        if isinstance(message, wire.Redeem):
            self._grant(here, message)

    def _grant(self, here: str, message: wire.Redeem) -> None:
        if self._tickets.pop(message.ticket, None) != (message.session_id, here):
            return
        idv = self._architectures[message.session_id] == "idv"
        count = self.image.segments if idv else self.image.boot_segments
        token = self._new("image_token")
        self._image_tokens.add(token)
        self.send(
            here,
            wire.Grant(
                session_id=message.session_id,
                image=self.image,
                image_token=token,
                digests=tuple(
                    blake2b(segment(self.image.image_id, index), digest_size=16).hexdigest()
                    for index in range(count)
                ),
                lease_until_ms=round((time.time() + self.lease_s) * 1000) if idv else None,
            ),
        )

    # ---------------------------------------------------------------- segments

    async def _segment(self, request: web.Request) -> web.StreamResponse:
        image_id, index = request.match_info["image_id"], int(request.match_info["index"])
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.wrong.no_token or token not in self._image_tokens:
            self.wrong.no_token = max(self.wrong.no_token - 1, 0)
            return web.Response(status=401)
        self.segments[index] += 1
        data = segment(image_id, index)
        if self.wrong.spoil[index]:
            self.wrong.spoil[index] -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        if self.wrong.cut_segment:
            self.wrong.cut_segment -= 1
            answer = web.StreamResponse(headers={"Content-Length": str(len(data))})
            await answer.prepare(request)
            await answer.write(data[:100])
            _abort(request.transport)
            return answer
        return web.Response(body=data, content_type="application/octet-stream")

    # ---------------------------------------------------------------- displays

    async def _display(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(
            protocols=(wire.SUBPROTOCOL,), compress=False, heartbeat=self.wrong.ping_s
        )
        await ws.prepare(request)
        try:
            opening = wire.decode_display_open(await ws.receive_str())
        except TypeError:
            return ws
        session_id, _ = self._tickets.pop(opening.ticket, ("", ""))
        if not session_id:
            refused = wire.DisplayRefused(code="ticket.refused", detail="unknown or used")
            await ws.send_str(wire.encode(refused).decode())
            await ws.close()
            return ws
        self.displays[session_id] = request.transport
        ready = wire.DisplayReady(session_id=session_id, width=800, height=600)
        await ws.send_str(wire.encode(ready).decode())
        await ws.send_bytes(b"\0" * 3000)
        async for message in ws:
            if message.type is WSMsgType.BINARY:
                self.input_bytes += len(message.data)
                await _quietly(ws.send_bytes(b"\0" * 200))
        if self.displays.get(session_id) is request.transport:
            del self.displays[session_id]
        return ws


def _abort(transport: asyncio.BaseTransport | None) -> None:
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


async def _quietly(sending: Coroutine[Any, Any, None]) -> None:
    try:
        await sending
    except (ConnectionError, RuntimeError):
        return


async def _alone(count: int) -> None:
    """Serve until killed, for endpoints in another process; prints address and tokens as JSON."""
    broker = FakeBroker(heartbeat_s=30.0)
    await broker.begin()
    print(json.dumps({"url": broker.url, "tokens": broker.make_tokens(count)}), flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_alone(int(sys.argv[1])))

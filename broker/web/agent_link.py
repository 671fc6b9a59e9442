"""The endpoints' link: `GET /agent/v1/link`. Translates between the wire and the services.

Implements the EndpointLink port, for here are the sockets. An idle endpoint costs one handler
task and one small record: there is no writer task and no timer for each. Orders wait in a short
queue and are written by a task that lives only while there is something to write; silent
endpoints are found by one sweep over all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from broker import limits, wire
from broker.domain.errors import (
    BadEnrolmentError,
    BadProofError,
    BusyError,
    ProtocolError,
    TriviumError,
    UnavailableError,
)
from broker.domain.model import Endpoint, PhaseReport, Traffic
from broker.ports import FreshOrder, StartOrder, StopOrder
from broker.services.bundle import Services
from broker.services.endpoints import check_protocol

_log = logging.getLogger("trivium.link")

SWEEP_S: Final = 10.0
"""between two looks for silent endpoints and changed paces"""
PACE_CHANGE_MIN: Final = 0.2
"""share by which the pace must change before endpoints are told"""
CLOSE_REPLACED: Final = 4000
"""WebSocket close code: the same endpoint connected anew"""
CLOSE_SILENT: Final = 4001
"""WebSocket close code: no sign of life for SILENT_S"""
CLOSE_REFUSED: Final = 4003
"""WebSocket close code: see the Refused message before it"""
_FINAL: Final = (BadProofError, BadEnrolmentError, ProtocolError)


_Message = TypeVar("_Message", wire.Hello, wire.Proof)


def _text(message: WSMessage) -> str:
    """A text message's text; ConnectionError when the peer closed, ProtocolError otherwise."""
    if message.type is WSMsgType.TEXT:
        return str(message.data)
    if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED}:
        raise ConnectionResetError
    if message.type is WSMsgType.ERROR:
        raise ProtocolError("a frame was malformed or too large")
    raise ProtocolError("only text messages are spoken here")


class Connection:
    """One endpoint's socket."""

    __slots__ = ("endpoint_id", "heard_s", "orders", "pace_s", "phases", "writing", "ws")

    def __init__(self, ws: web.WebSocketResponse, endpoint_id: str, heard_s: float) -> None:
        self.ws = ws
        self.endpoint_id = endpoint_id
        self.heard_s = heard_s
        self.pace_s = 0.0
        self.orders: deque[bytes] | None = None
        self.phases: dict[str, list[PhaseReport]] | None = None
        self.writing = False


class AgentLink:
    """The EndpointLink port, and the handler of the link's socket."""

    def __init__(self) -> None:
        self._connections: dict[str, Connection] = {}
        self._services: Services | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._closing = False

    def attach(self, services: Services) -> None:
        """The services need the link and the link needs them: this closes the circle."""
        self._services = services

    @property
    def _with(self) -> Services:
        if self._services is None:
            raise RuntimeError("attach() comes before the first connection")
        return self._services

    # ------------------------------------------------------------------ EndpointLink

    def connected(self, endpoint_id: str) -> bool:
        return endpoint_id in self._connections

    def connected_ids(self) -> Sequence[str]:
        return tuple(self._connections)

    def send(self, endpoint_id: str, order: StartOrder | StopOrder | FreshOrder) -> bool:
        connection = self._connections.get(endpoint_id)
        if connection is None:
            return False
        return self._queue(connection, wire.encode(self._message(order)))

    def _message(self, order: StartOrder | StopOrder | FreshOrder) -> wire.FromBroker:
        match order:
            case StopOrder():
                return wire.Stop(
                    session_id=order.session_id,
                    generation=order.generation,
                    reason=order.reason,
                )
            case FreshOrder():
                return wire.MakeFresh(desktop_id=order.desktop_id, generation=order.generation)
            case StartOrder():
                return wire.Start(
                    session_id=order.session.id,
                    desktop_id=order.desktop.id,
                    desktop_name=order.desktop.name,
                    generation=order.session.generation,
                    architecture=order.session.architecture,
                    pool=order.pool.name,
                    username=order.username,
                    ticket=order.ticket,
                    image=self._image_ref(order),
                )

    def _image_ref(self, order: StartOrder) -> wire.ImageRef:
        segments, boot_segments = self._with.images.sizes(order.image)
        return wire.ImageRef(
            image_id=order.image.id,
            name=order.image.name,
            version=order.image.version,
            segments=segments,
            boot_segments=boot_segments,
            segment_bytes=limits.SEGMENT_BYTES,
        )

    def _queue(self, connection: Connection, data: bytes) -> bool:
        if connection.ws.closed or self._tasks is None:
            return False
        if connection.orders is None:
            connection.orders = deque()
        if len(connection.orders) >= limits.AGENT_QUEUE_MAX:
            return False
        connection.orders.append(data)
        if not connection.writing:
            connection.writing = True
            self._tasks.create_task(self._write(connection), name="orders")
        return True

    async def _write(self, connection: Connection) -> None:
        try:
            while connection.orders:
                await connection.ws.send_str(connection.orders.popleft().decode())
        except (ConnectionError, RuntimeError):
            # the socket died; the reader's end does the rest, and what is owed is pushed again
            connection.orders = None
        finally:
            connection.writing = False
            if not connection.orders:
                connection.orders = None

    # ------------------------------------------------------------------ upkeep

    async def run(self) -> None:
        """Owns the writers and looks for silent endpoints, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    await self._with.kit.clock.sleep(SWEEP_S)
                    self._sweep(tasks)
            finally:
                self._tasks = None

    def _sweep(self, tasks: asyncio.TaskGroup) -> None:
        now_s = self._with.kit.clock.monotonic()
        pace_s = self._with.endpoints.pace_s()
        for connection in tuple(self._connections.values()):
            if now_s - connection.heard_s > max(limits.SILENT_S, 3 * connection.pace_s):
                tasks.create_task(
                    connection.ws.close(code=CLOSE_SILENT, message=b"silent"), name="close silent"
                )
            elif abs(pace_s - connection.pace_s) > PACE_CHANGE_MIN * connection.pace_s:
                connection.pace_s = pace_s
                self._queue(connection, wire.encode(wire.Pace(heartbeat_s=pace_s)))

    async def close(self) -> None:
        """The broker stops: close every link, so that agents look for another broker at once."""
        self._closing = True
        connections = tuple(self._connections.values())
        for start in range(0, len(connections), limits.ADMISSIONS_AT_ONCE_MAX):
            await asyncio.gather(
                *(
                    one.ws.close(code=WSCloseCode.SERVICE_RESTART, message=b"the broker stops")
                    for one in connections[start : start + limits.ADMISSIONS_AT_ONCE_MAX]
                ),
                return_exceptions=True,
            )

    # ------------------------------------------------------------------ one endpoint

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The socket's handler. Browsers are refused: an agent sends no Origin."""
        if "Origin" in request.headers:
            return web.Response(status=403, text="this address is for agents\n")
        ws = web.WebSocketResponse(
            protocols=(wire.SUBPROTOCOL,),
            compress=False,
            max_msg_size=limits.AGENT_MESSAGE_BYTES_MAX,
            timeout=5.0,
        )
        await ws.prepare(request)
        connection = await self._admit(ws)
        if connection is None:
            return ws
        try:
            await self._converse(connection)
        finally:
            await self._leave(connection)
        return ws

    async def _admit(self, ws: web.WebSocketResponse) -> Connection | None:
        services = self._with
        try:
            services.endpoints.admit()
        except BusyError as error:
            await self._refuse(ws, error)
            return None
        try:
            async with asyncio.timeout(limits.HELLO_S):
                endpoint, agent = await self._handshake(ws)
        except TimeoutError:
            await ws.close(code=CLOSE_SILENT, message=b"no handshake in time")
            return None
        except TriviumError as error:
            await self._refuse(ws, error)
            return None
        except (ConnectionError, msgspec.DecodeError) as error:
            _log.debug("handshake failed: %s", type(error).__name__)
            await self._refuse(ws, ProtocolError("the handshake was not understood"))
            return None
        finally:
            services.endpoints.admitted()
        connection = Connection(ws, endpoint.id, services.kit.clock.monotonic())
        await self._enter(connection, agent)
        return connection

    async def _handshake(self, ws: web.WebSocketResponse) -> tuple[Endpoint, wire.Hello]:
        """Hello, Challenge, Proof. Raises TriviumError, DecodeError or ConnectionError."""
        services = self._with
        hello = await self._expect(ws, wire.Hello)
        check_protocol(hello.protocol, wire.PROTOCOL)
        nonce = services.endpoints.challenge()
        installation = services.endpoints.installation_id
        challenge = wire.Challenge(nonce=nonce, installation_id=installation)
        await ws.send_str(wire.encode(challenge).decode())
        proof = await self._expect(ws, wire.Proof)
        try:
            signature = bytes.fromhex(proof.signature)
        except ValueError as error:
            raise BadProofError from error
        payload = wire.proof_payload(installation, hello.endpoint_id, nonce)
        endpoint = await services.endpoints.prove(
            hello.endpoint_id, payload, signature, hello.agent_version
        )
        return endpoint, hello

    async def _expect(self, ws: web.WebSocketResponse, kind: type[_Message]) -> _Message:
        """The next message, which must be of this kind."""
        message = await ws.receive()
        found = wire.decode_from_agent(_text(message))
        if not isinstance(found, kind):
            raise ProtocolError(f"{kind.__name__.lower()} was expected here")
        return found

    async def _refuse(self, ws: web.WebSocketResponse, error: TriviumError) -> None:
        refused = wire.Refused(
            code=error.code,
            detail=error.detail,
            retry_after_s=error.retry_after_s,
            final=isinstance(error, _FINAL),
        )
        try:
            await ws.send_str(wire.encode(refused).decode())
        except ConnectionError:
            return
        await ws.close(code=CLOSE_REFUSED, message=error.code.encode())

    async def _enter(self, connection: Connection, agent: wire.Hello) -> None:
        services = self._with
        older = self._connections.get(connection.endpoint_id)
        self._connections[connection.endpoint_id] = connection
        services.endpoints.connected_here = len(self._connections)
        services.tally.count("agents_connected", "all")
        if older is not None:
            # one key in two places, or a socket that died unseen: the newer one counts
            services.tally.count("agents_replaced", "all")
            await older.ws.close(code=CLOSE_REPLACED, message=b"connected anew")
        connection.pace_s = services.endpoints.pace_s()
        welcome = wire.Welcome(heartbeat_s=connection.pace_s, time_ms=services.kit.clock.now())
        await connection.ws.send_str(wire.encode(welcome).decode())
        services.delivery.forget(connection.endpoint_id)
        await services.sessions.endpoint_back(connection.endpoint_id)
        await services.delivery.refresh([connection.endpoint_id])
        _log.debug("endpoint %s is online, boot %s", connection.endpoint_id, agent.boot_id)

    async def _leave(self, connection: Connection) -> None:
        services = self._with
        await self._flush_all_phases(connection)
        if self._connections.get(connection.endpoint_id) is connection:
            del self._connections[connection.endpoint_id]
            services.endpoints.connected_here = len(self._connections)
            if not self._closing:
                # when the broker itself stops, the endpoints are not lost: they come back
                await services.endpoints.gone(connection.endpoint_id)

    async def _converse(self, connection: Connection) -> None:
        services = self._with
        while True:
            message = await connection.ws.receive()
            try:
                text = _text(message)
            except ConnectionError:
                return
            except ProtocolError as error:
                await self._refuse(connection.ws, error)
                return
            connection.heard_s = services.kit.clock.monotonic()
            try:
                received = wire.decode_from_agent(text)
            except msgspec.DecodeError:
                await self._refuse(connection.ws, ProtocolError("a message was not understood"))
                return
            try:
                if not await self._take(connection, received):
                    return
            except UnavailableError as error:
                # the endpoint reports again when it is back; closing makes it do so
                _log.warning("endpoint %s: %s", connection.endpoint_id, error.detail)
                await self._refuse(connection.ws, error)
                return
            except TriviumError as error:
                _log.info("endpoint %s: %s: %s", connection.endpoint_id, error.code, error.detail)

    async def _take(self, connection: Connection, message: wire.FromAgent) -> bool:
        """Carry out one message; False ends the conversation."""
        services, here = self._with, connection.endpoint_id
        match message:
            case wire.Heartbeat():
                await self._heartbeat(connection, message)
            case wire.Report():
                self._note_phase(connection, message)
            case wire.Redeem():
                await self._grant(connection, message)
            case wire.Live():
                await self._flush_phases(connection, message.session_id)
                await services.sessions.live(message.session_id, here, message.generation)
            case wire.Failed():
                await self._flush_phases(connection, message.session_id)
                why = f"{message.code}: {message.detail}"[: limits.NAME_CHARS_MAX]
                await services.sessions.failed(message.session_id, here, message.generation, why)
            case wire.Ended():
                await self._flush_phases(connection, message.session_id)
                if message.traffic is not None:
                    await self._traffic(connection, message.traffic)
                await services.sessions.ended(message.session_id, here, message.generation)
            case wire.Fresh():
                await services.engine_work.endpoint_fresh(
                    here, message.desktop_id, message.generation
                )
            case wire.Bye():
                return False
            case wire.Hello() | wire.Proof():
                await self._refuse(connection.ws, ProtocolError("the handshake is over"))
                return False
        return True

    async def _heartbeat(self, connection: Connection, message: wire.Heartbeat) -> None:
        services = self._with
        services.endpoints.heard(connection.endpoint_id)
        for traffic in message.sessions:
            await self._traffic(connection, traffic)
        if message.sessions:
            await services.sessions.carried(
                connection.endpoint_id, {one.session_id for one in message.sessions}
            )

    async def _traffic(self, connection: Connection, traffic: wire.SessionTraffic) -> None:
        """What the endpoint counted. Display bytes pass through the broker's own relay, which
        counts them, so the endpoint's figure for these is left out."""
        await self._with.sessions.traffic(
            traffic.session_id,
            connection.endpoint_id,
            Traffic(
                control=max(0, traffic.control),
                image=max(0, traffic.image),
            ),
        )

    def _note_phase(self, connection: Connection, report: wire.Report) -> None:
        """Phases are kept until the session is live and then written in one statement."""
        if connection.phases is None:
            connection.phases = {}
        reports = connection.phases.setdefault(report.session_id, [])
        if len(connection.phases) > limits.PHASES_MAX or len(reports) >= limits.PHASES_MAX:
            return
        reports.append(
            PhaseReport(
                name=report.phase[: limits.NAME_CHARS_MAX],
                took_ms=max(0.0, report.took_ms),
                bytes_down=max(0, report.bytes_down),
                bytes_up=max(0, report.bytes_up),
            )
        )

    async def _flush_phases(self, connection: Connection, session_id: str) -> None:
        if connection.phases is None:
            return
        reports = connection.phases.pop(session_id, [])
        if not connection.phases:
            connection.phases = None
        await self._with.sessions.phases(session_id, connection.endpoint_id, reports)

    async def _flush_all_phases(self, connection: Connection) -> None:
        for session_id in tuple(connection.phases or ()):
            try:
                await self._flush_phases(connection, session_id)
            except TriviumError as error:
                _log.warning("phases of %s were lost: %s", session_id, error.detail)

    async def _grant(self, connection: Connection, message: wire.Redeem) -> None:
        services = self._with
        try:
            session = await services.sessions.redeem(
                message.session_id, message.ticket, connection.endpoint_id
            )
        except TriviumError as error:
            _log.info("endpoint %s: %s", connection.endpoint_id, error.code)
            self._with.tally.count("tickets_refused", "all")
            return
        grant = await services.sessions.grant(session)
        await services.sessions.renewed(session, grant.lease_until)
        manifest = grant.manifest
        self._queue(
            connection,
            wire.encode(
                wire.Grant(
                    session_id=session.id,
                    image=wire.ImageRef(
                        image_id=manifest.image.id,
                        name=manifest.image.name,
                        version=manifest.image.version,
                        segments=manifest.segments,
                        boot_segments=manifest.boot_segments,
                        segment_bytes=limits.SEGMENT_BYTES,
                    ),
                    image_token=grant.image_token,
                    digests=manifest.digests,
                    lease_until_ms=grant.lease_until,
                )
            ),
        )

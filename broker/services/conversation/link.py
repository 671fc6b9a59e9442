"""The endpoints connected to this process, each over its line. Implements EndpointLink.

An idle endpoint costs what waits for its next message and one small record: there is no writer
task and no timer for each. Orders wait in a short queue and are written by a task that lives
only while there is something to write; silent endpoints are found by one sweep over all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from broker import limits, wire
from broker.domain.errors import BusyError, ProtocolError, TriviumError, UnavailableError
from broker.ports import Line, Order
from broker.services.bundle import Services
from broker.services.conversation.connection import Connection
from broker.services.conversation.handshake import refuse, shake_hands
from broker.services.conversation.messages import Messages
from broker.services.conversation.orders import order_message

_log = logging.getLogger("trivium.link")

SWEEP_S: Final = 10.0
"""between two looks for silent endpoints and changed paces"""
PACE_CHANGE_MIN: Final = 0.2
"""share by which the pace must change before endpoints are told"""
CLOSE_RESTART: Final = 1012
"""close code (RFC 6455's registry): the broker stops, look for another at once"""
CLOSE_REPLACED: Final = 4000
"""close code: the same endpoint connected anew"""
CLOSE_SILENT: Final = 4001
"""close code: no sign of life for SILENT_S"""
CLOSE_RETIRED: Final = 4002
"""close code: the endpoint is retired and will not be let in again"""


class AgentLink:
    """The EndpointLink port, and what every line's conversation goes through.

    Whoever has a line calls `admit` once, then `take` with each message until it says no, and
    `leave` at the end, whatever happened.
    """

    def __init__(self) -> None:
        self._connections: dict[str, Connection] = {}
        self._services: Services | None = None
        self._messages: Messages | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._closing = False

    def attach(self, services: Services) -> None:
        """The services need the link and the link needs them: this closes the circle."""
        self._services = services
        self._messages = Messages(services, self._queue)

    @property
    def _with(self) -> Services:
        if self._services is None:
            raise RuntimeError("attach() comes before the first connection")
        return self._services

    @property
    def _said(self) -> Messages:
        if self._messages is None:
            raise RuntimeError("attach() comes before the first connection")
        return self._messages

    # ------------------------------------------------------------------ EndpointLink

    def connected(self, endpoint_id: str) -> bool:
        return endpoint_id in self._connections

    def connected_ids(self) -> Sequence[str]:
        return tuple(self._connections)

    def send(self, endpoint_id: str, order: Order) -> bool:
        connection = self._connections.get(endpoint_id)
        if connection is None:
            return False
        message = order_message(order, self._with.images, self._with.kit.clock.now())
        return self._queue(connection, wire.encode(message))

    def drop(self, endpoint_id: str) -> None:
        connection = self._connections.get(endpoint_id)
        if connection is not None and self._tasks is not None:
            # behind the orders' task: what was queued before is written before
            self._tasks.create_task(
                connection.line.close(CLOSE_RETIRED, "retired"), name="close retired"
            )

    def _queue(self, connection: Connection, data: bytes) -> bool:
        if connection.line.closed or self._tasks is None:
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
                await connection.line.send(connection.orders.popleft())
        except ConnectionError:
            # the line died; the reader's end does the rest, and what is owed is pushed again
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
                    connection.line.close(CLOSE_SILENT, "silent"), name="close silent"
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
                    one.line.close(CLOSE_RESTART, "the broker stops")
                    for one in connections[start : start + limits.ADMISSIONS_AT_ONCE_MAX]
                ),
                return_exceptions=True,
            )

    # ------------------------------------------------------------------ one endpoint

    async def admit(self, line: Line) -> Connection | None:
        """Let an endpoint in; None when it was turned away, and the line is closed then."""
        services = self._with
        try:
            services.endpoints.admit()
        except BusyError as error:
            await refuse(line, error)
            return None
        try:
            async with asyncio.timeout(limits.HELLO_S):
                endpoint, hello = await shake_hands(line, services.endpoints)
        except TimeoutError:
            await line.close(CLOSE_SILENT, "no handshake in time")
            return None
        except TriviumError as error:
            await refuse(line, error)
            return None
        except (ConnectionError, wire.DecodeError) as error:
            _log.debug("handshake failed: %s", type(error).__name__)
            await refuse(line, ProtocolError("the handshake was not understood"))
            return None
        finally:
            services.endpoints.admitted()
        connection = Connection(line, endpoint.id, services.kit.clock.monotonic())
        try:
            await self._enter(connection, hello)
        except BaseException:
            # nobody else will: an endpoint that stayed in the list would count as connected
            await self.leave(connection)
            raise
        return connection

    async def _enter(self, connection: Connection, agent: wire.Hello) -> None:
        services = self._with
        older = self._connections.get(connection.endpoint_id)
        self._connections[connection.endpoint_id] = connection
        services.endpoints.connected_here = len(self._connections)
        services.tally.count("agents_connected", "all")
        if older is not None:
            # one key in two places, or a line that died unseen: the newer one counts
            services.tally.count("agents_replaced", "all")
            await older.line.close(CLOSE_REPLACED, "connected anew")
        connection.pace_s = services.endpoints.pace_s()
        welcome = wire.Welcome(heartbeat_s=connection.pace_s, time_ms=services.kit.clock.now())
        await connection.line.send(wire.encode(welcome))
        services.delivery.forget(connection.endpoint_id)
        await services.sessions.endpoint_back(connection.endpoint_id)
        await services.delivery.refresh([connection.endpoint_id])
        _log.debug("endpoint %s is online, boot %s", connection.endpoint_id, agent.boot_id)

    async def take(self, connection: Connection, text: str | bytes) -> bool:
        """One message of an endpoint that is let in; False ends the conversation."""
        connection.heard_s = self._with.kit.clock.monotonic()
        try:
            message = wire.decode_from_agent(text)
        except wire.DecodeError:
            await refuse(connection.line, ProtocolError("a message was not understood"))
            return False
        try:
            return await self._said.take(connection, message)
        except UnavailableError as error:
            # the endpoint reports again when it is back; closing makes it do so
            _log.warning("endpoint %s: %s", connection.endpoint_id, error.detail)
            await refuse(connection.line, error)
            return False
        except TriviumError as error:
            _log.info("endpoint %s: %s: %s", connection.endpoint_id, error.code, error.detail)
            return True

    async def leave(self, connection: Connection) -> None:
        """The line is over."""
        services = self._with
        await self._said.flush(connection)
        if self._connections.get(connection.endpoint_id) is connection:
            del self._connections[connection.endpoint_id]
            services.endpoints.connected_here = len(self._connections)
            if not self._closing:
                # when the broker itself stops, the endpoints are not lost: they come back
                await services.endpoints.gone(connection.endpoint_id)

"""Hints between processes over NATS, core messages only: at most once, nothing stored.

Listeners in the same process get each hint at once, whether the bus is there or not; the bus
carries it to the others. Every connect, the first too, tells listeners that hints may have been
missed meanwhile. `run` must be a task of the application: it connects, sends and reconnects for
ever, with full jitter, and ends after `close`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from broker.domain.errors import ConfigError
from broker.events.memory import MemoryEvents
from broker.limits import (
    BUS_CONNECT_S,
    BUS_PAUSE_S_MAX,
    BUS_PING_S,
    HINT_BYTES_MAX,
    HINTS_OUT_MAX,
)
from broker.ports import Chance, Clock, Hint, Subscription
from broker.waiting import sleep_or_set

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.5
"""limit of the first pause; it doubles with each failure up to BUS_PAUSE_S_MAX"""
_DOUBLINGS_MAX: Final = 16
_SCHEMES: Final = frozenset({"nats", "tls", "ws", "wss"})


class _Wire(msgspec.Struct, frozen=True):
    """A hint on the bus."""

    topic: str
    data: dict[str, Any]


class NatsEvents:
    """The Events port for several broker processes of one installation.

    `url` may hold user and password. Raises ConfigError where it is not a NATS address.
    """

    def __init__(self, *, url: str, installation_id: str, clock: Clock, chance: Chance) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ConfigError("nats_url: not an address of the form nats://host:port")
        self._url = url
        self._shown = f"{parts.hostname}:{parts.port or 4222}"
        self._subject = f"trivium.{_token(installation_id)}.hints"
        self._clock = clock
        self._chance = chance
        self._local = MemoryEvents()
        self._out: deque[bytes] = deque(maxlen=HINTS_OUT_MAX)
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._connected = False
        self.dropped = 0
        """hints that never reached the bus: no room, too large, not JSON"""

    @property
    def connected(self) -> bool:
        return self._connected

    async def open(self) -> None:
        """Nothing is waited for: a bus that is away must not keep a broker from starting."""

    async def close(self) -> None:
        """Every subscription ends, and `run` does."""
        self._closing.set()
        self._wake.set()
        await self._local.close()

    def publish(self, topic: str, **data: Any) -> None:
        self._local.publish(topic, **data)
        try:
            payload = msgspec.json.encode(_Wire(topic, data))
        except (TypeError, ValueError):
            _log.exception("hint %s is not JSON and stays in this process", topic)
            self.dropped += 1
            return
        full = len(self._out) == HINTS_OUT_MAX
        if full or len(payload) > HINT_BYTES_MAX:
            self.dropped += 1
        if len(payload) <= HINT_BYTES_MAX:
            self._out.append(payload)
            self._wake.set()

    def subscribe(self, *topics: str, queue_max: int = 1000) -> Subscription:
        return self._local.subscribe(*topics, queue_max=queue_max)

    async def run(self) -> None:
        """Keep the bus connected until `close`. Never raises for the bus's sake."""
        failures = 0
        while not self._closing.is_set():
            try:
                await self._one_connection()
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever the client raises, hints go on
                _log.warning("no message bus at %s: %s", self._shown, type(error).__name__)
                failures += 1
            if self._connected:
                self._connected, failures = False, 0
            limit = min(BUS_PAUSE_S_MAX, _FIRST_PAUSE_S * 2 ** min(failures, _DOUBLINGS_MAX))
            await sleep_or_set(self._clock, self._chance.uniform(0, limit), self._closing)

    async def _one_connection(self) -> None:
        """Connect, then send until the connection or this process ends."""
        lost = asyncio.Event()

        async def closed() -> None:
            lost.set()
            self._wake.set()

        async def failed(error: Exception) -> None:
            _log.info("message bus at %s: %s", self._shown, type(error).__name__)

        client = Client()
        try:
            async with asyncio.timeout(BUS_CONNECT_S):
                await client.connect(
                    servers=[self._url],
                    name="trivium",
                    # pauses are ours: the client's own have no jitter
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    no_echo=True,
                    connect_timeout=int(BUS_CONNECT_S),
                    ping_interval=int(BUS_PING_S),
                    error_cb=failed,
                    closed_cb=closed,
                )
                await client.subscribe(self._subject, cb=self._receive)
                await client.flush(timeout=int(BUS_CONNECT_S))
            self._connected = True
            _log.info("message bus at %s connected", self._shown)
            self._local.missed()
            await self._send(client, lost)
        finally:
            async with asyncio.timeout(BUS_CONNECT_S):
                await client.close()

    async def _send(self, client: Client, lost: asyncio.Event) -> None:
        while not lost.is_set() and not self._closing.is_set():
            self._wake.clear()
            while self._out and not lost.is_set():
                await client.publish(self._subject, self._out.popleft())
            if not self._out and not lost.is_set() and not self._closing.is_set():
                await self._wake.wait()

    async def _receive(self, message: Msg) -> None:
        """A hint of another process; what is not one is ignored."""
        if len(message.data) > HINT_BYTES_MAX:
            return
        try:
            wire = msgspec.json.decode(message.data, type=_Wire)
        except msgspec.DecodeError:
            _log.warning("message bus: something that is not a hint")
            return
        self._local.deliver(Hint(topic=wire.topic, data=wire.data))


def _token(installation_id: str) -> str:
    """One word of a NATS subject: letters, digits, dash and underscore; others become `_`."""
    safe = "".join(
        one if one.isascii() and (one.isalnum() or one in "-_") else "_" for one in installation_id
    )
    return safe or "_"

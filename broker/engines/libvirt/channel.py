"""A guest's agent, heard over its machine's virtio-serial port (broker/guest_wire.py).

libvirt carries the port as a stream, from this machine's daemon as from a distant one. The guest
is hostile: it is read a little at a time, a line that is too long is passed over, and what it
says is believed about itself alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import libvirt

from broker.domain.errors import EngineError
from broker.engines.libvirt.connection import HostConnection
from broker.engines.libvirt.errors import telling
from broker.guest_wire import (
    LINE_BYTES_MAX,
    PORT_NAME,
    FromGuest,
    ToGuest,
    decode,
    encode,
)
from broker.limits import GUEST_CHUNK_BYTES, GUEST_LINES_PER_S, GUEST_READ_PAUSE_S

_AGAIN: Final = -2
"""what libvirt answers when a call would have to wait"""
_ENDS: Final = libvirt.VIR_STREAM_EVENT_HANGUP | libvirt.VIR_STREAM_EVENT_ERROR
_READ: Final = libvirt.VIR_STREAM_EVENT_READABLE | _ENDS
_SEND_TRIES: Final = 20
_SEND_PAUSE_S: Final = 0.1


class Lines:
    """Bytes in, whole lines out that are not empty; what is longer than a line may be is dropped to
    its end."""

    def __init__(self) -> None:
        self._rest = b""
        self._dropping = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        *whole, rest = (self._rest + data).split(b"\n")
        for line in whole:
            if line and not self._dropping and len(line) < LINE_BYTES_MAX:
                yield line
            self._dropping = False
        if self._dropping or len(rest) >= LINE_BYTES_MAX:
            self._dropping, rest = True, b""
        self._rest = rest


class GuestChannel:
    """One open port. `said` is called on the loop with each message, `ended` once."""

    def __init__(
        self, host: HostConnection, said: Callable[[FromGuest], object], ended: Callable[[], object]
    ) -> None:
        self._host = host
        self._said = said
        self._ended = ended
        self._lines = Lines()
        self._loop = asyncio.get_running_loop()
        self._stream: Any = None
        self._closed = False

    async def open(self, uuid: str, *, force: bool) -> None:
        """`force`: whoever else has the port loses it. Raises EngineError."""

        def work(connection: Any) -> Any:
            with telling(self._host.name, "reach a guest"):
                stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
                domain = connection.lookupByUUIDString(uuid)
                flags = libvirt.VIR_DOMAIN_CHANNEL_FORCE if force else 0
                domain.openChannel(PORT_NAME, stream, flags)
                self._stream = stream
                stream.eventAddCallback(_READ, self._readable, None)
                self._host.opened(self._shut_own)
            if self._closed:
                self._shut(stream)

        await self._host.hear(work)

    async def send(self, message: ToGuest) -> None:
        """Raises EngineError when the guest takes nothing."""
        data = encode(message)
        for _ in range(_SEND_TRIES):
            data = await self._host.speak(functools.partial(self._send, data))
            if not data:
                return
            await asyncio.sleep(_SEND_PAUSE_S)
        raise EngineError("the guest takes nothing")

    async def close(self) -> None:
        if not self._closed:
            self._end()
            stream = self._stream
            if stream is not None:
                with contextlib.suppress(EngineError):
                    await self._host.speak(lambda: self._shut(stream))

    # ------------------------------------------------------------------- on a thread

    def _send(self, data: bytes) -> bytes:
        """Answers what is left to send."""
        if self._closed:
            raise EngineError("the guest's port is closed")
        with telling(self._host.name, "speak to a guest"):
            sent = self._stream.send(data)
        return data if sent == _AGAIN else data[sent:]

    def _shut_own(self) -> None:
        """The connection is left."""
        self._shut(self._stream)

    def _shut(self, stream: Any) -> None:
        self._host.shut(self._shut_own)
        with contextlib.suppress(libvirt.libvirtError):
            stream.eventRemoveCallback()
        with contextlib.suppress(libvirt.libvirtError):
            stream.abort()

    # ------------------------------------------------------ on libvirt's event thread

    def _readable(self, stream: Any, events: int, _opaque: object) -> None:
        data = b""
        if events & libvirt.VIR_STREAM_EVENT_READABLE:
            try:
                got = stream.recv(GUEST_CHUNK_BYTES)
            except libvirt.libvirtError:
                got = b""
            if got == _AGAIN:
                return
            data = got
        with contextlib.suppress(libvirt.libvirtError):
            # nothing more until this much was heard
            if data:
                stream.eventUpdateCallback(_ENDS)
            else:
                stream.eventRemoveCallback()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._received, data)

    # ------------------------------------------------------------------- on the loop

    def _received(self, data: bytes) -> None:
        if self._closed:
            return
        if not data:
            self._end()
            return
        for line in self._lines.feed(data):
            message = decode(line)
            if message is not None:
                self._said(message)
        # each line costs the loop its time, however short it is
        pause_s = max(GUEST_READ_PAUSE_S, data.count(b"\n") / GUEST_LINES_PER_S)
        self._loop.call_later(pause_s, self._listen)

    def _listen(self) -> None:
        if not self._closed:
            with contextlib.suppress(libvirt.libvirtError):
                self._stream.eventUpdateCallback(_READ)

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            self._ended()

"""A small VNC client over a session's WebSocket: sees whole pictures, presses keys.

Speaks RFB 3.8 as RFC 6143 describes it, raw pixels only, and follows a screen that changes its
size.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, Self

import aiohttp

from broker.domain.model import Desktop
from broker.ports import Console, Engine
from tests.support.app import API, App, Person
from tests.support.guest_machine import Screen

GENEROUS_S: Final = 120
_BITS: Final = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
"""32 bits a pixel, little-endian: blue, green, red, nothing"""
_RAW, _SIZE = 0, -223
_SHIFT: Final = 0xFFE1
SHIFTED: Final = '~!@#$%^&*()_+{}|:"<>?'
_KEYSYMS: Final = {"\n": 0xFF0D, "\t": 0xFF09, "\b": 0xFF08}
_PAUSE_S: Final = 0.08
"""between two keys: an emulated keyboard holds few"""


class Wire(Protocol):
    """What carries a display: a WebSocket, as aiohttp has it."""

    async def send_bytes(self, data: bytes) -> None: ...

    async def receive(self, within_s: float | None = None, /) -> aiohttp.WSMessage: ...

    async def close(self) -> object: ...


class DisplayClosedError(Exception):
    """`code`: why, as the broker says."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Display:
    """A person's eyes and hands at an open display."""

    def __init__(self, socket: Wire) -> None:
        self._socket = socket
        self._rest = bytearray()
        self._pixels = bytearray()
        self._width = self._height = 0

    # ---------------------------------------------------------------------- opening

    @classmethod
    async def over(cls, socket: Wire) -> Self:
        """Shake hands with the machine's VNC server."""
        one = cls(socket)
        greeting = await one._take(12)
        assert greeting == b"RFB 003.008\n", greeting
        await socket.send_bytes(greeting)
        kinds = await one._take((await one._take(1))[0])
        assert 1 in kinds, "the display wants a password"
        await socket.send_bytes(b"\x01")
        assert await one._take(4) == bytes(4)
        await socket.send_bytes(b"\x01")  # shared
        width, height, *_, name = struct.unpack(">HH16sI", await one._take(24))
        await one._take(name)
        one._resize(width, height)
        await socket.send_bytes(b"\x00\x00\x00\x00" + _BITS)
        await socket.send_bytes(struct.pack(">BxHii", 2, 2, _RAW, _SIZE))
        return one

    # ----------------------------------------------------------------------- seeing

    async def look(self) -> Screen:
        """The whole picture, as it is now."""
        while True:
            size = (self._width, self._height)
            await self._socket.send_bytes(struct.pack(">BBHHHH", 3, 0, 0, 0, *size))
            if await self._updated() and size == (self._width, self._height):
                return self._screen()

    async def ended(self) -> str:
        """Read on until the display is closed; why, as the broker says."""
        try:
            async with asyncio.timeout(GENEROUS_S):
                while True:
                    self._rest.clear()
                    await self._more()
        except DisplayClosedError as closed:
            return closed.code

    def _screen(self) -> Screen:
        pixels = bytearray(self._width * self._height * 3)
        for place, source in enumerate((2, 1, 0)):
            pixels[place::3] = self._pixels[source::4]
        return Screen(width=self._width, height=self._height, pixels=bytes(pixels))

    def _resize(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._pixels = bytearray(width * height * 4)

    async def _updated(self) -> bool:
        """One message; whether pixels came with it."""
        match (await self._take(1))[0]:
            case 0:
                pixels = False
                (count,) = struct.unpack(">xH", await self._take(3))
                for _ in range(count):
                    pixels |= await self._rectangle()
                return pixels
            case 2:
                return False
            case 3:
                (length,) = struct.unpack(">3xI", await self._take(7))
                await self._take(length)
                return False
            case other:
                raise AssertionError(f"the display says {other}")

    async def _rectangle(self) -> bool:
        x, y, width, height, kind = struct.unpack(">HHHHi", await self._take(12))
        if kind == _SIZE:
            self._resize(width, height)
            return False
        assert kind == _RAW, kind
        data = await self._take(width * height * 4)
        for row in range(height):
            at = ((y + row) * self._width + x) * 4
            self._pixels[at : at + width * 4] = data[row * width * 4 : (row + 1) * width * 4]
        return True

    async def _take(self, size: int) -> bytes:
        while len(self._rest) < size:
            await self._more()
        taken = bytes(self._rest[:size])
        del self._rest[:size]
        return taken

    async def _more(self) -> None:
        message = await self._socket.receive(GENEROUS_S)
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise DisplayClosedError(str(message.extra or message.data or ""))
        self._rest += message.data

    # ----------------------------------------------------------------------- typing

    async def type(self, text: str) -> None:
        """Press these keys, one after the other."""
        for letter in text:
            shifted = letter.isupper() or letter in SHIFTED
            if shifted:
                await self._key(_SHIFT, down=True)
            for down in (True, False):
                await self._key(_KEYSYMS.get(letter, ord(letter)), down=down)
            if shifted:
                await self._key(_SHIFT, down=False)
            await asyncio.sleep(_PAUSE_S)

    async def _key(self, keysym: int, *, down: bool) -> None:
        await self._socket.send_bytes(struct.pack(">BBxxI", 4, down, keysym))

    async def close(self) -> None:
        await self._socket.close()


@asynccontextmanager
async def display_of(app: App, who: Person, connected: dict[str, Any]) -> AsyncIterator[Display]:
    """The display of a session, opened as a browser opens it. `connected`: what POST /sessions
    answered. Raises DisplayClosedError with the code of whatever it was refused with."""
    url = f"{app.url}{API}/sessions/{connected['session']['id']}/display"
    async with app.http.ws_connect(url, headers=who.headers, max_msg_size=0) as socket:
        await socket.send_json({"type": "display_open", "ticket": connected["ticket"]})
        answer = await socket.receive_json(timeout=GENEROUS_S)
        if answer["type"] != "display_ready":
            raise DisplayClosedError(answer["code"])
        display = await Display.over(socket)
        try:
            yield display
        finally:
            await display.close()


class _ConsoleWire:
    """A console of an engine's, as if a WebSocket led to it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def send_bytes(self, data: bytes) -> None:
        await self._console.send(data)

    async def receive(self, within_s: float | None = None, /) -> aiohttp.WSMessage:
        async with asyncio.timeout(within_s):
            data = await self._console.receive()
        kind = aiohttp.WSMsgType.BINARY if data else aiohttp.WSMsgType.CLOSED
        return aiohttp.WSMessage(kind, data, None)

    async def close(self) -> None:
        await self._console.close()


@asynccontextmanager
async def display_at(engine: Engine, desktop: Desktop) -> AsyncIterator[Display]:
    """The display of a machine, straight from its engine."""
    async with display_on(await engine.console(desktop)) as display:
        yield display


@asynccontextmanager
async def display_on(console: Console) -> AsyncIterator[Display]:
    """What an open console shows; closed at the end of the block."""
    wire = _ConsoleWire(console)
    try:
        yield await Display.over(wire)
    finally:
        await wire.close()

"""A machine's VNC at a port of its host, through TLS with certificates both ways (VeNCrypt).

The broker is the viewer until the server has let it in; then it plays the server's greeting to
whoever the display is for, who sees RFB 3.8 without a password, as from a server nearby. Nothing is
given to a server, nor taken from one, before its certificate was found to be good.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from broker.domain.errors import EngineError, HostUnreachableError
from broker.limits import DISPLAY_HANDSHAKE_S, FRAME_BYTES_MAX

VERSION: Final = b"RFB 003.008\n"
NONE: Final = 1
VENCRYPT: Final = 19
X509_NONE: Final = 260
OK: Final = bytes(4)
_VENCRYPT_VERSION: Final = b"\x00\x02"
_PASSWORDS: Final = frozenset({261, 262, 263, 264})
"""X509Vnc, X509Plain, X509SASL and its TLS twin: they want more than a certificate"""


class CertifiedStream:
    """Bytes both ways, from the greeting on; what is lost is an OSError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._say = bytearray(VERSION)
        self._heard = bytearray()
        self._choosing = False
        self._through = False
        self._ended = False
        self._changed = asyncio.Event()

    async def read(self, most: int) -> bytes:
        """b"" when the other side ended it."""
        while not self._say and not self._through and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if self._say:
            said = bytes(self._say[:most])
            del self._say[:most]
            return said
        if self._ended:
            return b""
        try:
            return await self._reader.read(most)
        except ssl.SSLError as error:
            raise ConnectionResetError("the display's TLS broke") from error

    def write(self, data: bytes) -> None:
        """Raises ConnectionError for a viewer that does not speak RFB 3.8."""
        if not self._through:
            self._heard += data
            data = self._greeted()
            self._changed.set()
        if data:
            self._writer.write(data)

    def _greeted(self) -> bytes:
        """The viewer's part of the greeting is taken; what follows it is the server's."""
        if not self._choosing and len(self._heard) >= len(VERSION):
            if not self._heard.startswith(VERSION):
                raise ConnectionResetError("the viewer does not speak RFB 3.8")
            del self._heard[: len(VERSION)]
            self._choosing = True
            self._say += bytes([1, NONE])
        if self._choosing and self._heard:
            if self._heard[0] != NONE:
                raise ConnectionResetError("the viewer chose what was not offered")
            self._say += OK
            self._through = True
            return bytes(self._heard[1:])
        return b""

    async def drain(self) -> None:
        await self._writer.drain()

    def abort(self) -> None:
        self._ended = True
        self._changed.set()
        self._writer.transport.abort()

    async def wait_closed(self) -> None:
        try:
            await self._writer.wait_closed()
        except ssl.SSLError as error:
            raise ConnectionResetError("the display's TLS broke") from error


async def open_display(
    address: str, port: int, *, context: ssl.SSLContext, name: str, host: str
) -> CertifiedStream:
    """`name`: whom the server's certificate must be for; `host`: for words. Raises EngineError."""
    shown = f"the display at {host}"
    try:
        async with asyncio.timeout(DISPLAY_HANDSHAKE_S):
            reader, writer = await asyncio.open_connection(address, port, limit=FRAME_BYTES_MAX)
            try:
                await _choose(reader, writer, shown)
                await writer.start_tls(context, server_hostname=name)
                await _let_in(reader, shown)
            except BaseException:
                writer.transport.abort()
                raise
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message
        raise EngineError(f"the certificate of {shown} is not taken: {why}") from None
    except ssl.SSLError:
        raise EngineError(f"{shown} does not take the broker's certificate") from None
    except asyncio.IncompleteReadError:
        raise EngineError(f"{shown} hung up") from None
    except (OSError, TimeoutError):
        raise HostUnreachableError(f"{shown} does not answer") from None
    return CertifiedStream(reader, writer)


async def _choose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shown: str) -> None:
    """As far as TLS begins (RFC 6143 7.1; the RFB protocol's community version 7.2.19)."""
    greeting = await reader.readexactly(len(VERSION))
    if not greeting.startswith(b"RFB ") or greeting < VERSION:
        raise EngineError(f"{shown} does not speak RFB 3.8")
    writer.write(VERSION)
    types = await reader.readexactly((await reader.readexactly(1))[0])
    if VENCRYPT not in types:
        raise EngineError(f"{shown} has no TLS (vnc_tls in its qemu.conf)")
    writer.write(bytes([VENCRYPT]))
    if await reader.readexactly(2) < _VENCRYPT_VERSION:
        raise EngineError(f"{shown} has no TLS with certificates")
    writer.write(_VENCRYPT_VERSION)
    if await reader.readexactly(1) != b"\x00":
        raise EngineError(f"{shown} has no TLS with certificates")
    count = (await reader.readexactly(1))[0]
    listed = await reader.readexactly(4 * count)
    kinds = {int.from_bytes(listed[at : at + 4]) for at in range(0, len(listed), 4)}
    if X509_NONE not in kinds:
        wants = "a password beside" if kinds & _PASSWORDS else "no TLS with"
        raise EngineError(f"{shown} wants {wants} certificates")
    writer.write(X509_NONE.to_bytes(4))
    if await reader.readexactly(1) != b"\x01":
        raise EngineError(f"{shown} refuses TLS")
    await writer.drain()


async def _let_in(reader: asyncio.StreamReader, shown: str) -> None:
    """The first word through TLS. With TLS 1.3 the server looks at the broker's certificate only
    after the broker has found its own to be good, so it is here that a refusal is heard."""
    try:
        result = await reader.readexactly(len(OK))
    except (OSError, asyncio.IncompleteReadError):
        raise EngineError(f"{shown} does not take the broker's certificate") from None
    if result != OK:
        raise EngineError(f"{shown} refuses the broker")

"""VNC viewers (RFB 3.8, RFC 6143): the security handshake, played to both ends.

To the viewer the relay is the server until the pass is proven; to the desktop's server it is the
viewer until that has let it in without a password. What the viewer is told as the result waits
for both. From then on, beginning with the viewer's ClientInit, nothing is read.

Without a certificate the pass is proven by VNC's own authentication (type 2: a challenge that is
encrypted with DES under the password's first 8 characters). With one, everything goes through TLS
by VeNCrypt (type 19), with that (X509Vnc) or with the session's id as user name and the whole
password (X509Plain).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from broker.domain.errors import BadTicketError, TriviumError
from broker.domain.viewers import ViewerKind
from broker.gateway.relay import RefusedError, Streams, Viewer, encrypt
from broker.limits import RELAY_HANDSHAKE_S
from broker.ports import Ids
from broker.services.viewers import VNC_PASSWORD_CHARS, Knock, Viewers

VERSION: Final = b"RFB 003.008\n"
NONE, VNC_AUTH, VENCRYPT = 1, 2, 19
"""security types"""
X509_VNC, X509_PLAIN = 261, 262
"""VeNCrypt's subtypes"""
OK: Final = bytes(4)
_STEPS: Final = 3
"""greeting, types, result"""
_FAILED: Final = (1).to_bytes(4)
_VENCRYPT_VERSION: Final = b"\x00\x02"
_CHALLENGE_BYTES: Final = 16
_USERNAME_BYTES_MAX: Final = 128
_PASSWORD_BYTES_MAX: Final = 256


def failure(detail: str) -> bytes:
    """SecurityResult: refused, with the reason."""
    reason = detail.encode()
    return _FAILED + len(reason).to_bytes(4) + reason


def response_of(password: str, challenge: bytes) -> bytes:
    """What VNC authentication answers to the challenge: DES in ECB mode, the bits of each of the
    key's bytes in reverse order."""
    key = password.encode()[:VNC_PASSWORD_CHARS].ljust(VNC_PASSWORD_CHARS, b"\x00")
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    # three times the same key is DES; the pass lives two minutes and works once
    encryptor = Cipher(TripleDES(mirrored * 3), modes.ECB()).encryptor()  # noqa: S305
    return encryptor.update(challenge) + encryptor.finalize()


class InnerHandshake:
    """The viewer's part of the handshake with the desktop's server, fed as bytes come.

    The server is hostile: at most its greeting, its list of types and its result are read.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._step = 0

    def done(self) -> bool:
        """The server has let the relay in."""
        return self._step == _STEPS

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(what to answer the server, what is the viewer's already). Raises RefusedError."""
        if self.done():
            return b"", data
        self._rest += data
        answer = bytearray()
        while not self.done() and (said := self._next()) is not None:
            answer += said
        if not self.done():
            return bytes(answer), b""
        rest, self._rest = bytes(self._rest), bytearray()
        return bytes(answer), rest

    def _next(self) -> bytes | None:
        """The answer to the next whole message; None while it is not whole."""
        match self._step:
            case 0 if (greeting := self._take(len(VERSION))) is not None:
                if not greeting.startswith(b"RFB ") or greeting < VERSION:
                    raise RefusedError("the desktop does not speak RFB 3.8")
                answer = VERSION
            case 1 if (types := self._types()) is not None:
                if NONE not in types:
                    raise RefusedError("the desktop's display wants a password")
                answer = bytes([NONE])
            case 2 if (result := self._take(len(OK))) is not None:
                if result != OK:
                    raise RefusedError("the desktop refuses its display")
                answer = b""
            case _:
                return None
        self._step += 1
        return answer

    def _types(self) -> bytes | None:
        if not self._rest or len(self._rest) < 1 + self._rest[0]:
            return None
        taken = self._take(1 + self._rest[0])
        return taken[1:] if taken is not None else None

    def _take(self, size: int) -> bytes | None:
        if len(self._rest) < size:
            return None
        taken = bytes(self._rest[:size])
        del self._rest[:size]
        return taken


class VncViewer(Viewer):
    """A viewer that has proven its pass, and is told so once the desktop has let us in, too."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(streams)
        self._inner = InnerHandshake()
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._told = False

    async def receive(self) -> bytes:
        while not self._inner.done() or not self._answers.empty():
            try:
                async with asyncio.timeout(RELAY_HANDSHAKE_S):
                    answer = await self._answers.get()
            except TimeoutError:
                return b""
            if answer:
                return answer
        return await super().receive()

    async def send(self, frame: bytes) -> None:
        if self._inner.done():
            await super().send(frame)
            return
        try:
            answer, rest = self._inner.feed(frame)
        except RefusedError as error:
            await self._tell(failure(str(error)))
            raise ConnectionError(str(error)) from error
        if self._inner.done():
            await self._tell(OK)
        # once it is done there may be no answer: whoever waits for one goes on to the viewer
        self._answers.put_nowait(answer)
        if rest:
            await super().send(rest)

    async def close(self, code: str, detail: str) -> None:
        if not self._told:
            await self._tell(failure(detail))
        await super().close(code, detail)

    async def refuse(self, error: TriviumError) -> None:
        await self._tell(failure(error.detail))

    async def _tell(self, result: bytes) -> None:
        self._told = True
        await super().send(result)


class VncGreet:
    """From the greeting to the pass. `tls`: the certificate's context; None: no encryption."""

    def __init__(self, viewers: Viewers, ids: Ids, tls: ssl.SSLContext | None = None) -> None:
        self._viewers = viewers
        self._ids = ids
        self._tls = tls

    async def __call__(self, streams: Streams) -> tuple[Knock, Viewer]:
        reader, writer = streams
        writer.write(VERSION)
        if await reader.readexactly(len(VERSION)) != VERSION:
            raise RefusedError("the viewer does not speak RFB 3.8")
        wanted = VENCRYPT if self._tls is not None else VNC_AUTH
        writer.write(bytes([1, wanted]))
        if (await reader.readexactly(1))[0] != wanted:
            raise RefusedError("the viewer wants another kind of security")
        kind = VNC_AUTH
        if self._tls is not None:
            kind = await self._encrypted(streams, self._tls)
        viewer = VncViewer(streams)
        try:
            if kind == X509_PLAIN:
                knock = await self._by_name(reader)
            else:
                knock = await self._by_challenge(streams)
        except BadTicketError as error:
            await viewer.refuse(error)
            raise
        return knock, viewer

    async def _encrypted(self, streams: Streams, tls: ssl.SSLContext) -> int:
        """VeNCrypt 0.2 up to the end of the TLS handshake; the subtype."""
        reader, writer = streams
        writer.write(_VENCRYPT_VERSION)
        if await reader.readexactly(2) != _VENCRYPT_VERSION:
            raise RefusedError("the viewer does not speak VeNCrypt 0.2")
        offered = (X509_PLAIN, X509_VNC)
        list_ = b"".join(one.to_bytes(4) for one in offered)
        writer.write(b"\x00" + bytes([len(offered)]) + list_)
        kind = int.from_bytes(await reader.readexactly(4))
        if kind not in offered:
            raise RefusedError("the viewer wants another kind of security")
        try:
            async with asyncio.timeout(0):
                early = await reader.read(1)
        except TimeoutError:
            early = b""
        if early:
            raise RefusedError("something was said ahead of the encryption")
        writer.write(b"\x01")
        await encrypt(writer, tls)
        return kind

    async def _by_name(self, reader: asyncio.StreamReader) -> Knock:
        lengths = await reader.readexactly(8)
        username, password = int.from_bytes(lengths[:4]), int.from_bytes(lengths[4:])
        if username > _USERNAME_BYTES_MAX or password > _PASSWORD_BYTES_MAX:
            raise RefusedError("the user name or the password is too long")
        try:
            session_id = (await reader.readexactly(username)).decode("ascii")
            secret = (await reader.readexactly(password)).decode("ascii")
        except UnicodeDecodeError:
            raise BadTicketError from None
        return await self._viewers.knock(ViewerKind.VNC, session_id, secret)

    async def _by_challenge(self, streams: Streams) -> Knock:
        reader, writer = streams
        chance = self._ids.secret().encode()
        challenge = hashlib.sha256(chance).digest()[:_CHALLENGE_BYTES]
        writer.write(challenge)
        response = await reader.readexactly(_CHALLENGE_BYTES)
        found = None
        for one in self._viewers.waiting():
            if hmac.compare_digest(response_of(one.secret, challenge), response):
                found = one
        if found is None:
            raise BadTicketError
        return await self._viewers.knock(ViewerKind.VNC, found.session_id, found.secret)

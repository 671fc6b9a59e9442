"""What a shadow's viewer may say to the desktop: the broker's word, not the viewer's politeness.

Of RFB (RFC 6143) the handshake is held to version 3.8 without a password, and always asks for a
shared desktop, so that nobody is thrown off by it. Who only looks on may say how he wants his
picture and ask for it; who takes part sends keys and pointer, too. Clipboard, sound, the screen's
size and the power switch stay here for both: nobody was asked for them. A message of a kind that is
not known ends the shadow: its length, and so what follows, is anybody's guess. So that a pointer's
message has one length, the desktop is not told that a viewer knows of a mouse's further buttons.
Nothing is kept but the first bytes of the message in hand.
"""

from __future__ import annotations

from typing import Final, Protocol

from broker.domain.shadowing import ShadowMode
from broker.gateway.inputs import ENCODINGS, LENGTHS, MORE, MORE_BUTTONS, POINTER, Encodings

VERSION: Final = b"RFB 003.008\n"
_NO_PASSWORD: Final = 1
_SHARED: Final = 1
_FENCE: Final = 248
_FENCE_HEAD: Final = 9
_FENCE_BYTES_MAX: Final = 64
_CLIENT_INIT: Final = len(VERSION) + 1
"""where its one byte is"""
_PASSES: Final = frozenset({0, ENCODINGS, 3, 150, _FENCE})
"""pixel format, encodings, update requests, continuous updates, fences"""
_TAKES_PART: Final = frozenset({4, POINTER})
"""keys, pointer"""
_NOTHING: Final = (0x7FFFFFFF).to_bytes(4)
"""an encoding that nobody has: it keeps the place, and so the length, of one that is withheld"""
_QEMU: Final = 255
_SCAN_CODE: Final = 0
_QEMU_KINDS: Final = frozenset({_SCAN_CODE, 1})
"""keys with their scan codes, sound"""


class NotHarmlessError(Exception):
    """The viewer, or the desktop's server, said what is not let through."""


class Guard(Protocol):
    """One shadow's; fed in the order of the stream, cut anywhere."""

    def up(self, data: bytes) -> bytes:
        """What of it goes to the desktop. Raises NotHarmlessError."""

    def down(self, data: bytes) -> None:
        """The desktop's bytes, before they go to the viewer. Raises NotHarmlessError."""


class SimulatedGuard:
    """A simulated desktop: what goes up is input and nothing else."""

    def __init__(self, mode: ShadowMode) -> None:
        self._mode = mode

    def up(self, data: bytes) -> bytes:
        return data if self._mode is ShadowMode.INTERACTIVE else b""

    def down(self, data: bytes) -> None:
        """Pictures of the broker's own making."""


class RfbGuard:
    def __init__(self, mode: ShadowMode) -> None:
        self._mode = mode
        self._greeting = b""
        self._at = 0
        self._head = bytearray()
        self._left = 0
        self._passes = False
        self._asking: Encodings | None = None

    def down(self, data: bytes) -> None:
        missing = len(VERSION) - len(self._greeting)
        if missing:
            self._greeting += data[:missing]
            if not VERSION.startswith(self._greeting):
                raise NotHarmlessError("the desktop does not speak RFB 3.8")

    def up(self, data: bytes) -> bytes:
        begins = min(len(data), _CLIENT_INIT + 1 - self._at)
        passed = bytearray(self._handshake(byte) for byte in data[:begins])
        rest = data[begins:]
        at = 0
        while at < len(rest):
            if not self._left:
                passed += self._begin(rest[at])
                at += 1
                continue
            taken = rest[at : at + self._left]
            if self._asking is not None:
                passed += b"".join(map(_offered, self._asking.feed(taken)))
            elif self._passes:
                passed += taken
            self._left -= len(taken)
            at += len(taken)
        return bytes(passed)

    def _handshake(self, byte: int) -> int:
        if len(self._greeting) < len(VERSION):
            raise NotHarmlessError("the viewer spoke before the desktop said its version")
        at = self._at
        self._at += 1
        if at < len(VERSION) and byte != VERSION[at]:
            raise NotHarmlessError("the viewer does not speak RFB 3.8")
        if at == len(VERSION) and byte != _NO_PASSWORD:
            raise NotHarmlessError("the viewer wants another kind of security")
        return _SHARED if at == _CLIENT_INIT else byte

    def _begin(self, byte: int) -> bytes:
        """One more byte of a message's head; the head once it tells the length, if it passes."""
        self._head.append(byte)
        kind = self._head[0]
        if kind not in LENGTHS:
            raise NotHarmlessError(f"the viewer sent a message of the unknown kind {kind}")
        told_by, length_of = LENGTHS[kind]
        if len(self._head) < told_by:
            return b""
        head = bytes(self._head)
        self._head.clear()
        self._check(head)
        self._left = length_of(head) - told_by
        self._passes = kind in _PASSES or self._takes_part(head)
        self._asking = Encodings() if kind == ENCODINGS else None
        if kind == POINTER:
            head = bytes([kind, head[1] & ~MORE])
        return head if self._passes else b""

    def _takes_part(self, head: bytes) -> bool:
        key = head[0] in _TAKES_PART or (head[0] == _QEMU and head[1] == _SCAN_CODE)
        return key and self._mode is ShadowMode.INTERACTIVE

    @staticmethod
    def _check(head: bytes) -> None:
        if head[0] == _FENCE and head[_FENCE_HEAD - 1] > _FENCE_BYTES_MAX:
            raise NotHarmlessError("the viewer sent a fence that is too long")
        if head[0] == _QEMU and head[1] not in _QEMU_KINDS:
            raise NotHarmlessError(f"the viewer sent a message of the unknown kind 255.{head[1]}")


def _offered(encoding: bytes) -> bytes:
    """As the desktop is told it."""
    return _NOTHING if encoding == MORE_BUTTONS else encoding


def guard_of(protocol: str, mode: ShadowMode) -> Guard:
    """Raises NotHarmlessError for a protocol in which nothing can be held back."""
    match protocol:
        case "vnc":
            return RfbGuard(mode)
        case "simulated":
            return SimulatedGuard(mode)
        case _:
            raise NotHarmlessError(f"a display of the kind {protocol} is not shadowed")

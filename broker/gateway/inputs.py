"""Which of a viewer's bytes are its person's doing, for the idle time.

Viewers speak by themselves, too: in RFB they ask for each new picture, so that a desktop with a
clock on it would never be idle. Of the viewer's messages (RFC 6143 7.5 and the extensions that
viewers use) only types and lengths are looked at, and nothing is kept of them. What cannot be
followed counts as input from there on. The desktop's messages are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from broker.domain.session_time import Signs

_BEFORE_MESSAGES: Final = 12 + 1 + 1
"""bytes of version, security type (None) and ClientInit"""
ENCODINGS, POINTER = 2, 5
_KEY, _CUT_TEXT, _QEMU = 4, 6, 255
_SCAN_CODE, _SOUND_FORMAT = 0, 2
"""what QEMU's message is about, and the last byte of one about sound"""
_PERSONS: Final = frozenset({_KEY, POINTER, _CUT_TEXT})
MORE_BUTTONS: Final = (-316).to_bytes(4, signed=True)
"""the pseudo-encoding of a viewer that can tell of a mouse's further buttons"""
MORE: Final = 0x80
"""in a pointer's mask: of a viewer that said so, one byte with further buttons follows"""
_WORD_BYTES: Final = 4


def _qemu_length(head: bytes) -> int:
    """A key with its scan code, else sound: switched, or its format."""
    if head[1] == _SCAN_CODE:
        return 12
    return 10 if head[3] == _SOUND_FORMAT else 4


LENGTHS: Final[Mapping[int, tuple[int, Callable[[bytes], int]]]] = {
    0: (1, lambda _: 20),  # pixel format
    ENCODINGS: (4, lambda head: 4 + _WORD_BYTES * int.from_bytes(head[2:4])),
    3: (1, lambda _: 10),  # update request
    _KEY: (1, lambda _: 8),
    POINTER: (2, lambda _: 6),
    # negative lengths are of the clipboard's extension
    _CUT_TEXT: (8, lambda head: 8 + abs(int.from_bytes(head[4:8], signed=True))),
    150: (1, lambda _: 10),  # continuous updates
    248: (9, lambda head: 9 + head[8]),  # fence
    250: (1, lambda _: 4),  # xvp
    251: (7, lambda head: 8 + 16 * head[6]),  # desktop size
    _QEMU: (4, _qemu_length),
}
"""type -> how many bytes tell the length, and the length that they tell"""


class Encodings:
    """The list of encodings that a viewer asks for, cut anywhere."""

    def __init__(self) -> None:
        self._part = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Those that are whole by now, each of four bytes."""
        data = self._part + data
        whole = len(data) - len(data) % _WORD_BYTES
        self._part = data[whole:]
        return [data[at : at + _WORD_BYTES] for at in range(0, whole, _WORD_BYTES)]


class AnyInput:
    """A protocol that is not followed: every byte is the person's, or may be (`signs`)."""

    def __init__(self, signs: Signs = Signs.INPUT) -> None:
        self.signs = signs

    def feed(self, data: bytes) -> bool:
        """Whether the person did something."""
        return bool(data)


class RfbInput(AnyInput):
    """RFB from the viewer's greeting on, cut anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self._skip = _BEFORE_MESSAGES
        self._head = bytearray()
        self._asking: Encodings | None = None
        self._more_buttons = False
        self._lost = False

    def feed(self, data: bytes) -> bool:
        at, person = 0, False
        while at < len(data) and not self._lost:
            passed = min(self._skip, len(data) - at)
            self._skip -= passed
            if self._asking is not None:
                self._more_buttons |= MORE_BUTTONS in self._asking.feed(data[at : at + passed])
            at += passed
            if at == len(data):
                break
            self._head.append(data[at])
            at += 1
            told_by, length_of = LENGTHS.get(self._head[0], (0, None))
            if length_of is None:
                self._lost = True
            elif len(self._head) == told_by:
                head = bytes(self._head)
                person |= _is_persons(head)
                self._skip = length_of(head) - told_by + self._further(head)
                self._head.clear()
        return person or self._lost

    def _further(self, head: bytes) -> int:
        """Bytes beyond what the kind alone tells. The latest list of encodings counts."""
        self._asking = None
        if head[0] == ENCODINGS:
            self._asking, self._more_buttons = Encodings(), False
        return int(head[0] == POINTER and self._more_buttons and bool(head[1] & MORE))


def _is_persons(head: bytes) -> bool:
    return head[0] in _PERSONS or (head[0] == _QEMU and head[1] == _SCAN_CODE)


def input_of(protocol: str) -> AnyInput:
    """What follows the viewer's side of that protocol (Console.protocol)."""
    match protocol:
        case "vnc":
            return RfbInput()
        case "spice":
            return AnyInput(Signs.DEVICES)
        case "rdp":
            return AnyInput(Signs.SERVER)
        case _:
            return AnyInput()

"""The simulated display's binary format: what a browser draws and what it sends.

Down, one message holds one or more records. A record is a header of 16 bytes, big-endian, and
its payload:

    offset  size  field
    0       1     type   0 screen, 1 fill, 2 text
    1       2     x      pixels from the left
    3       2     y      pixels from the top
    5       2     w      width in pixels
    7       2     h      height in pixels
    9       3     rgb    red, green, blue
    12      4     n      length of the payload

    screen  the display's size is w by h from now on; no payload; clear it to rgb
    fill    draw the rectangle in rgb; the payload stands for its compressed pixels, skip it
    text    draw the payload (UTF-8, one line) in rgb from x, y, at most w wide, letters h high

Up, one message holds one or more events of 9 bytes, big-endian:

    0       1     kind   1 pointer moved, 2 button pressed, 3 button released, 4 key pressed
    1       2     x
    3       2     y
    5       4     code   kind 4: the Unicode code point (8 backspace, 13 enter); else the button

What does not follow this is skipped, never an error: a desktop does not fall over its input.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from broker.limits import DISPLAY_INPUT_BYTES_MAX, FRAME_BYTES_MAX

SCREEN: Final = 0
FILL: Final = 1
TEXT: Final = 2

MOVED: Final = 1
PRESSED: Final = 2
RELEASED: Final = 3
KEY: Final = 4

HEADER = struct.Struct(">BHHHH3sI")
EVENT = struct.Struct(">BHHI")

Colour: TypeAlias = tuple[int, int, int]

_PIXELS = hashlib.shake_256(b"trivium simulated display").digest(FRAME_BYTES_MAX)
"""incompressible bytes that stand for compressed pixels"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in pixels."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record, as read back by `records`."""

    type: int
    box: Box
    rgb: Colour
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InputEvent:
    kind: int
    x: int
    y: int
    code: int


def _record(kind: int, box: Box, rgb: Colour, payload: bytes) -> bytes:
    return HEADER.pack(kind, box.x, box.y, box.w, box.h, bytes(rgb), len(payload)) + payload


def screen(width: int, height: int, rgb: Colour) -> bytes:
    return _record(SCREEN, Box(x=0, y=0, w=width, h=height), rgb, b"")


def fill(box: Box, rgb: Colour, size: int = 0) -> bytes:
    """A rectangle that takes `size` bytes on the wire: at least its header, at most a frame."""
    length = min(max(size, HEADER.size), FRAME_BYTES_MAX) - HEADER.size
    return _record(FILL, box, rgb, _PIXELS[:length])


def text(box: Box, rgb: Colour, line: str) -> bytes:
    return _record(TEXT, box, rgb, line.encode("utf-8", "replace"))


def records(frame: bytes) -> Iterator[Record]:
    """Read a frame back.

    Raises:
        ValueError: it is cut short, or holds an unknown type.
    """
    at = 0
    while at < len(frame):
        if len(frame) - at < HEADER.size:
            raise ValueError("a record's header is cut short")
        kind, x, y, w, h, rgb, length = HEADER.unpack_from(frame, at)
        at += HEADER.size
        if kind not in {SCREEN, FILL, TEXT} or len(frame) - at < length:
            raise ValueError("a record is unknown or cut short")
        payload = frame[at : at + length]
        yield Record(
            type=kind, box=Box(x=x, y=y, w=w, h=h), rgb=(rgb[0], rgb[1], rgb[2]), payload=payload
        )
        at += length


def input_events(data: bytes) -> Iterator[InputEvent]:
    """The events of one input message; what is not one is skipped."""
    whole = len(data) - len(data) % EVENT.size
    if len(data) > DISPLAY_INPUT_BYTES_MAX:
        return
    for kind, x, y, code in EVENT.iter_unpack(data[:whole]):
        if kind in {MOVED, PRESSED, RELEASED, KEY}:
            yield InputEvent(kind=kind, x=x, y=y, code=code)


def input_message(*events: InputEvent) -> bytes:
    """What a client sends."""
    return b"".join(EVENT.pack(one.kind, one.x, one.y, one.code) for one in events)

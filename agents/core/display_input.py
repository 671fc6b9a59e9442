"""What a person at a simulated desktop sends up the display: events of 9 bytes.

The format is that of the simulated engine's display (broker/engines/simulated/frames.py):
kind, x, y, code, big-endian. A whole operation stays below the 100 bytes that were measured for
one of a remote desktop (Microsoft, "Remote Desktop Protocol bandwidth requirements").
"""

from __future__ import annotations

import struct

from agents.chance import Chance

_EVENT = struct.Struct(">BHHI")
_MOVED, _PRESSED, _RELEASED, _KEY = 1, 2, 3, 4
_BUTTON_LEFT = 1
_LETTERS = (0x61, 0x7B)
_MOVES_MAX = 8
KEY_SHARE = 0.2
"""share of operations that are a keystroke: the share of time that the calibration gives to
writing"""
CLICK_SHARE = 0.1
"""share of pointer movements that end in a click: assumption"""


def input_message(chance: Chance, width: int, height: int) -> bytes:
    """One operation of a person on a screen of that size: a key, or a movement of the pointer
    that now and then ends in a click."""
    x_max, y_max = min(width, 0x10000), min(height, 0x10000)
    if chance.uniform(0.0, 1.0) < KEY_SHARE:
        return _EVENT.pack(_KEY, 0, 0, int(chance.uniform(*_LETTERS)))
    parts = []
    x = y = 0
    for _ in range(1 + int(chance.uniform(0, _MOVES_MAX))):
        x, y = int(chance.uniform(0, x_max)), int(chance.uniform(0, y_max))
        parts.append(_EVENT.pack(_MOVED, x, y, 0))
    if chance.uniform(0.0, 1.0) < CLICK_SHARE:
        parts.append(_EVENT.pack(_PRESSED, x, y, _BUTTON_LEFT))
        parts.append(_EVENT.pack(_RELEASED, x, y, _BUTTON_LEFT))
    return b"".join(parts)

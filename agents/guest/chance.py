"""Chance of this machine: the one file of the guest agent that draws it."""

from __future__ import annotations

import os

_BYTES = 6


class Chance:
    """The kernel's: machines that were resumed from one saved memory draw differently."""

    def draw(self, count: int) -> bytes:
        """So many bytes."""
        return os.urandom(count)  # noqa: TID251 -- this is the port

    def up_to(self, most: float) -> float:
        """Evenly between nothing and that."""
        return most * int.from_bytes(self.draw(_BYTES), "big") / (1 << 8 * _BYTES)

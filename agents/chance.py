"""Chance from a key: a draw depends on the key and the count of draws, on nothing else.

A hash in counter mode costs 16 bytes and a counter per endpoint, where a Mersenne Twister
would cost 2.5 KiB; and as no two endpoints share one, the order in which sockets wake does not
change what any of them draws.
"""

from __future__ import annotations

from hashlib import blake2b

_SCALE = 1 / (1 << 64)


def key_of(*parts: str | int) -> bytes:
    """16 bytes that depend on every part and on where each ends."""
    return blake2b("\0".join(str(part) for part in parts).encode(), digest_size=16).digest()


def fraction_of(key: bytes, label: str) -> float:
    """A number in [0, 1) that depends on `key` and `label` alone."""
    drawn = blake2b(label.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(drawn, "big") * _SCALE


class Chance:
    """An endless row of draws from one key."""

    __slots__ = ("_drawn", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._drawn = 0

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        self._drawn += 1
        return low + (high - low) * fraction_of(self._key, str(self._drawn))

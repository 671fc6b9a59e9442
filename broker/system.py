"""The system's clock, ids and chance: the only file of the broker that may read them. And the
lock that keeps a second broker from a data directory."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import secrets
import threading
import time
from pathlib import Path
from typing import IO

from broker.domain.errors import ConfigError
from broker.domain.model import Instant

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS = 10
_CHANCE_DIGITS = 12
_PAGE_BYTES = 4096


def _base32(number: int, digits: int) -> str:
    out: list[str] = []
    for _ in range(digits):
        out.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(out))


class SystemClock:
    """Wall time for records, monotonic time for measuring."""

    def now(self) -> Instant:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Entropy:
    """The system's random bytes for ids, fetched a page at a time and each used once: a system
    call for each id cost as much as everything else about it."""

    def __init__(self) -> None:
        self._page = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        """`count` bytes, at most a page. Not for use by two threads at once."""
        if self._used + count > len(self._page):
            self._page, self._used = secrets.token_bytes(_PAGE_BYTES), 0
        taken = self._page[self._used : self._used + count]
        self._used += count
        return taken


class SystemIds:
    """Ids that sort by the time they were made: 50 bits of ms, then 60 bits of chance.

    Within one process and one millisecond the chance part counts up, so that order holds there
    too (as ULID's monotonic form does).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entropy = _Entropy()
        self._last_ms = 0
        self._tail = 0

    def new(self, prefix: str) -> str:
        with self._lock:
            now_ms = max(time.time_ns() // 1_000_000, self._last_ms)
            if now_ms == self._last_ms:
                self._tail += 1
            else:
                self._last_ms = now_ms
                # the top bit stays free so that counting up cannot overflow
                chance = int.from_bytes(self._entropy.take(8))
                self._tail = chance >> (64 - 5 * _CHANCE_DIGITS + 1)
            tail = self._tail
        return f"{prefix}_{_base32(now_ms, _TIME_DIGITS)}{_base32(tail, _CHANCE_DIGITS)}"

    def secret(self) -> str:
        # straight from the system: no secret to come lies in this process's memory
        return secrets.token_urlsafe(32)


class SystemChance:
    """Chance for jitter; with a seed, the same every time."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 - jitter and models, no secrets

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all at once."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


class AnchorFile:
    """Implements broker.ports.AnchorKeeper with a file of one line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def kept(self) -> str:
        def read() -> str:
            try:
                with self._path.open(encoding="utf-8", errors="replace") as file:
                    return file.read(_PAGE_BYTES).strip()
            except FileNotFoundError:
                return ""

        return await asyncio.to_thread(read)

    async def keep(self, anchor: str) -> None:
        await asyncio.to_thread(write_private, self._path, anchor + "\n")


def lock_data(data: Path) -> IO[str]:
    """Held, until it is closed, while a broker uses this data directory with SQLite.

    Raises:
        ConfigError: a broker holds it already.
    """
    path = data / "broker.lock"
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise ConfigError(
            f"another broker (process {owner}) uses the data directory; stop it, or set "
            "TRIVIUM_DATA to another one"
        ) from error
    handle.seek(0)
    handle.truncate()
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    return handle

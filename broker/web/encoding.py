"""JSON out, and the form of times in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import msgspec

from broker.domain.model import Instant

encode: Final = msgspec.json.Encoder().encode

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def stamp(at: Instant) -> str:
    """RFC 3339 in UTC with milliseconds: 2026-11-21T08:00:00.123Z."""
    seconds, ms = divmod(at, 1000)
    # the seconds of one list are mostly alike
    return f"{_second(seconds)}.{ms:03d}Z"


def stamp_or_none(at: Instant | None) -> str | None:
    return None if at is None else stamp(at)

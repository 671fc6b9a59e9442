"""Hosts that are not heard: since when and why, as one document that every process reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from broker.domain.model import Instant

SILENCE_DOCUMENT: Final = "host_silence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Nothing is heard from a host since then. why: in words, as far as is known."""

    since: Instant
    why: str = ""

    def lasts_s(self, now: Instant) -> float:
        return max(0, now - self.since) / 1000


def plain(silent: Mapping[str, Silence]) -> dict[str, object]:
    """By host id, as it is stored."""
    return {"hosts": {host_id: asdict(one) for host_id, one in sorted(silent.items())}}


def silent_of(value: Mapping[str, Any]) -> dict[str, Silence]:
    """As it was stored: host id -> its silence."""
    hosts: Mapping[str, Mapping[str, Any]] = value.get("hosts", {})
    return {
        host_id: Silence(since=int(one["since"]), why=str(one.get("why", "")))
        for host_id, one in hosts.items()
    }

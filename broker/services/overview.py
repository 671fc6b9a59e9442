"""How things stand: counts from the store, rates and a series from this process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from broker.domain.errors import TriviumError
from broker.domain.model import Architecture, Instant
from broker.ports import Overview
from broker.services.kit import Kit
from broker.services.tally import SAMPLE_S, Sample, Tally

_log = logging.getLogger("trivium.overview")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One architecture now. Rates are per minute over the last minute of this process."""

    desktops: Mapping[str, int]
    sessions: Mapping[str, int]
    waiting: int
    connects_per_min: float
    live_per_min: float
    failures_per_min: float


class Overviews:
    def __init__(self, kit: Kit, tally: Tally) -> None:
        self._kit = kit
        self._tally = tally

    async def sample(self) -> None:
        """Put one point into the series and tell the console; called every SAMPLE_S."""
        counts = await self._kit.store.overview()
        self._tally.mark(self._kit.clock.monotonic())
        self._tally.series.append(
            Sample(
                at=self._kit.clock.now(),
                counts={
                    arch.value: {
                        "active": counts.sessions.get((arch, "active"), 0),
                        "delivering": counts.sessions.get((arch, "delivering"), 0),
                        "waiting": counts.sessions.get((arch, "queued"), 0),
                        "ready": counts.desktops.get((arch, "ready"), 0),
                    }
                    for arch in Architecture
                },
            )
        )
        self._kit.events.publish("overview")

    async def run(self) -> None:
        """Sample for ever. What the store does not answer is a gap in the series."""
        while True:
            try:
                await self.sample()
            except TriviumError as error:
                _log.warning("the series has a gap: %s", error.detail)
            await self._kit.clock.sleep(SAMPLE_S)

    async def now(self) -> tuple[Instant, Overview, dict[str, Standing]]:
        """(when, the raw counts, architecture -> how it stands)."""
        counts = await self._kit.store.overview()
        now_s = self._kit.clock.monotonic()
        standings: dict[str, Standing] = {}
        for arch in Architecture:
            sessions = _of(counts.sessions, arch)
            standings[arch.value] = Standing(
                desktops=_of(counts.desktops, arch),
                sessions=sessions,
                waiting=sessions.get("queued", 0),
                connects_per_min=self._tally.per_minute("connects", arch, now_s),
                live_per_min=self._tally.per_minute("live", arch, now_s),
                failures_per_min=self._tally.per_minute("failed", arch, now_s),
            )
        return self._kit.clock.now(), counts, standings

    @property
    def series(self) -> tuple[Sample, ...]:
        """The last ten minutes, oldest first."""
        return tuple(self._tally.series)


def _of(counts: Mapping[tuple[str, str], int], first: str) -> dict[str, int]:
    return {state: count for (one, state), count in counts.items() if one == first}

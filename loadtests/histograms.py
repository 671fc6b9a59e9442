"""HDR histograms of microseconds: record, merge, encode. Three digits, 1 µs to one hour."""

from __future__ import annotations

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from loadtests.limits import HDR_DIGITS, HDR_HIGHEST_US, HDR_LOWEST_US

PERCENTILES: tuple[float, ...] = (
    0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99, 100,
)  # fmt: skip


class Histogram:
    """Latencies in ms; values outside the range are held at its ends."""

    def __init__(self) -> None:
        self._hdr = HdrHistogram(HDR_LOWEST_US, HDR_HIGHEST_US, HDR_DIGITS)

    @classmethod
    def of(cls, values_ms: Iterable[float]) -> Histogram:
        histogram = cls()
        for value in values_ms:
            histogram.record(value)
        return histogram

    def record(self, value_ms: float) -> None:
        value_us = round(value_ms * 1000)
        self._hdr.record_value(min(max(value_us, HDR_LOWEST_US), HDR_HIGHEST_US))

    def merge(self, encoded: str) -> None:
        """Adds a histogram that `encode` gave, from another process or another run."""
        self._hdr.decode_and_add(encoded.encode("ascii"))

    def encode(self) -> str:
        """HdrHistogram V2, compressed, Base64: readable by every HDR library."""
        encoded: bytes = self._hdr.encode()
        return encoded.decode("ascii")

    @property
    def count(self) -> int:
        return int(self._hdr.get_total_count())

    def percentile_ms(self, percentile: float) -> float:
        return float(self._hdr.get_value_at_percentile(percentile)) / 1000

    def percentiles_ms(self) -> dict[str, float]:
        return {f"{p:g}": self.percentile_ms(p) for p in PERCENTILES} if self.count else {}

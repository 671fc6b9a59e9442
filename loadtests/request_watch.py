"""Listens to Locust's request events and keeps a histogram for each name. Runs under gevent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from locust.env import Environment

from loadtests.histograms import Histogram
from loadtests.records import RequestTotals

PHASE = "PHASE"
"""request type under which phases are put into Locust's statistics; not a request"""


@dataclass(slots=True)
class _Named:
    count: int = 0
    failures: int = 0
    bytes_down: int = 0
    took: Histogram = field(default_factory=Histogram)


class RequestWatch:
    """Totals of one process. Names come from a fixed set, so memory stays bounded."""

    def __init__(self, environment: Environment) -> None:
        self._by_name: dict[str, _Named] = {}
        self.count = 0
        environment.events.request.add_listener(self._on_request)  # type: ignore[no-untyped-call]

    def _on_request(
        self,
        *,
        request_type: str,
        name: str,
        response_time: float,
        response_length: int,
        exception: object = None,
        **_: object,
    ) -> None:
        if request_type == PHASE:
            return
        self.count += 1
        named = self._by_name.setdefault(name, _Named())
        named.count += 1
        named.bytes_down += response_length
        if exception:
            named.failures += 1
        else:
            named.took.record(response_time)

    def totals(self, worker: int) -> Iterator[RequestTotals]:
        for name, named in sorted(self._by_name.items()):
            yield RequestTotals(
                worker=worker,
                name=name,
                count=named.count,
                failures=named.failures,
                bytes_down=named.bytes_down,
                histogram=named.took.encode(),
            )

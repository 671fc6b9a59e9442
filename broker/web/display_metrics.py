"""The displays of this process, as metrics."""

from __future__ import annotations

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from broker.services.measures import ROUND_TRIP_BOUNDS_S, Measures
from broker.web.histograms import cumulated


def display_metrics(measures: Measures, open_now: int) -> list[Metric]:
    """Labels are directions and the stable codes of why a display ended; none names a session."""
    carried = CounterMetricFamily(
        "trivium_display_bytes", "Bytes that displays carried", labels=("direction",)
    )
    carried.add_metric(("down",), measures.bytes_down)
    carried.add_metric(("up",), measures.bytes_up)
    ends = CounterMetricFamily("trivium_display_ends", "Displays that ended", labels=("why",))
    for why, count in sorted(measures.ends.items()):
        ends.add_metric((why,), count)
    trips = HistogramMetricFamily(
        "trivium_display_round_trip_seconds",
        "From a display's gateway to the person's client and back, as measured",
    )
    trips.add_metric(
        (), cumulated(ROUND_TRIP_BOUNDS_S, measures.round_trips), measures.round_trips_sum_s
    )
    return [
        GaugeMetricFamily("trivium_displays_open", "Displays open in this process", value=open_now),
        carried,
        ends,
        trips,
    ]

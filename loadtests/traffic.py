"""Bytes on the wire by architecture, as measured and at real scale, and where VDI breaks even.

VDI costs bytes for as long as it is used; IDV and VOI cost bytes when an image changes or boots.
The break-even is the time of use after which VDI's display traffic has passed the other's image
traffic: bytes · 8 / (kbit/s · 1000) / 60 minutes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from loadtests.calibration import Calibration, Spread
from loadtests.cast import Scale
from loadtests.collect import BrokerSession
from loadtests.records import SessionRecord, TrafficBytes


class Kinds(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes by kind, both directions added."""

    control: float
    display: float
    image: float
    total: float


class Bytes(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on the wire of one architecture.

    The totals are of the whole campaign; `per_session` of the mean session that was live.
    display_kbit_s: display while live, as it crossed the wire. kbit_s: everything, from arrival
    to log-off. moved_image: sessions that moved image data; the others had it in their cache.

    Modelled, at real scale: `modelled` is the mean session with image bytes times the campaign's
    bytes_scale. real_display_kbit_s is display_kbit_s divided by its speed, for what is on the
    screen runs as fast as everything simulated. real_image_bytes is of a session that moved
    image data, real_image_s how long that takes one endpoint alone on 1 Gbit/s.
    """

    control: int
    display: int
    image: int
    total: int
    per_session: Kinds
    display_kbit_s: float
    kbit_s: float
    moved_image: int
    modelled: Kinds
    real_display_kbit_s: float
    real_image_bytes: float
    real_image_s: float


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that VDI's display traffic is held against. Minutes of use: at the display rate
    that the campaign measured (None: nothing was), and at the calibrated one."""

    name: str
    title: str
    image_bytes: Spread
    assumption: bool
    source: str
    minutes_measured: float | None
    minutes: Spread


class Headline(msgspec.Struct, frozen=True, kw_only=True):
    """Rates in kbit/s at speed 1; first_picture_bytes crosses once when a display opens."""

    measured_kbit_s: float | None
    calibrated_kbit_s: Spread
    first_picture_bytes: float
    rows: tuple[BreakEven, ...]


def bytes_of(
    records: Sequence[SessionRecord],
    known: Mapping[str, BrokerSession],
    scale: Scale,
    calibration: Calibration,
) -> Bytes:
    """Bytes of the records of one architecture. The broker's count is taken where it is known:
    it may have grown after the client's last look."""
    live = [record for record in records if record.live]
    traffic = [_traffic(record, known) for record in records]
    sums = {
        kind: sum(getattr(each, kind) for each in traffic)
        for kind in ("control", "display", "image")
    }
    total = sum(sums.values())
    n = max(len(live), 1)
    each = {kind: value / n for kind, value in sums.items()}
    seconds = sum(_live_s(record) for record in live)
    stay_s = sum(record.stay_ms for record in records) / 1000
    shown = sum(max(_traffic(record, known).display - _before_live(record), 0) for record in live)
    display_kbit_s = shown * 8 / 1000 / seconds if seconds else 0.0
    moved = sum(1 for one in traffic if one.image)
    image = each["image"] * scale.bytes_scale
    moved_bytes = sums["image"] * scale.bytes_scale / max(moved, 1)
    return Bytes(
        control=sums["control"],
        display=sums["display"],
        image=sums["image"],
        total=total,
        per_session=Kinds(total=total / n, **each),
        display_kbit_s=display_kbit_s,
        kbit_s=total * 8 / 1000 / stay_s if stay_s else 0.0,
        moved_image=moved,
        modelled=Kinds(
            control=each["control"],
            display=each["display"],
            image=image,
            total=each["control"] + each["display"] + image,
        ),
        real_display_kbit_s=display_kbit_s / scale.speed,
        real_image_bytes=moved_bytes,
        real_image_s=moved_bytes / calibration["network.gigabit"].mean,
    )


def headline(vdi: Bytes, voi: Bytes, scale: Scale, calibration: Calibration) -> Headline:
    """VDI against one VOI boot, one IDV delta and one full IDV image."""
    rate = calibration.display_kbit_s()
    measured = vdi.real_display_kbit_s or None
    rows = []
    for name, title in (
        ("voi_boot", "one streamed VOI boot"),
        ("idv_delta", "one IDV image update (delta)"),
        ("idv_full", "one full IDV image (first fill)"),
    ):
        figure = calibration[f"images.{name}"]
        size = Spread(low=figure.low, mean=figure.mean, high=figure.high)
        rows.append(_against(name, title, size, measured, rate, figure.source, figure.assumption))
    if voi.moved_image:
        ran = voi.real_image_bytes
        size = Spread(low=ran, mean=ran, high=ran)
        source = f"this campaign's image bytes, times bytes scale {scale.bytes_scale:g}"
        title = "one VOI boot as this campaign ran it"
        rows.append(_against("voi_boot_ran", title, size, measured, rate, source, False))  # noqa: FBT003
    return Headline(
        measured_kbit_s=measured,
        calibrated_kbit_s=rate,
        first_picture_bytes=calibration["display.first_picture"].mean,
        rows=tuple(rows),
    )


def break_even_minutes(image_bytes: float, display_kbit_s: float) -> float:
    """Minutes of use after which a display of that rate has moved `image_bytes`."""
    return image_bytes * 8 / (display_kbit_s * 1000) / 60 if display_kbit_s > 0 else math.inf


def _against(
    name: str,
    title: str,
    size: Spread,
    measured: float | None,
    rate: Spread,
    source: str,
    assumption: bool,  # noqa: FBT001 - a mark of the figure
) -> BreakEven:
    return BreakEven(
        name=name,
        title=title,
        image_bytes=size,
        assumption=assumption,
        source=source,
        minutes_measured=break_even_minutes(size.mean, measured) if measured else None,
        minutes=Spread(
            low=break_even_minutes(size.low, rate.high),
            mean=break_even_minutes(size.mean, rate.mean),
            high=break_even_minutes(size.high, rate.low),
        ),
    )


def _traffic(record: SessionRecord, known: Mapping[str, BrokerSession]) -> TrafficBytes:
    session = known.get(record.session_id or "")
    return record.traffic if session is None else session.traffic


def _live_s(record: SessionRecord) -> float:
    return ((record.work_ms or 0.0) + (record.log_off_ms or 0.0)) / 1000


def _before_live(record: SessionRecord) -> int:
    """Bytes of the display that came down before the person had the desktop."""
    return sum(phase.bytes_down for phase in record.phases)

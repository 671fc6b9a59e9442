"""The site's settings as a document: how they are kept, whoever reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import date
from typing import Any, Final

from broker.domain.calendar import Holiday
from broker.domain.settings import ServiceState, SiteSettings

SITE_DOCUMENT: Final = "site"


def plain(settings: SiteSettings) -> dict[str, object]:
    """As they are stored."""
    holidays = [{"day": one.day.isoformat(), "name": one.name} for one in settings.holidays]
    return {**asdict(settings), "state": settings.state.value, "holidays": holidays}


def settings_of(value: Mapping[str, Any]) -> SiteSettings:
    """As they were saved, by this version or another: what it does not know is left out."""
    names = {field.name for field in fields(SiteSettings)}
    known = {name: one for name, one in value.items() if name in names}
    known["state"] = ServiceState(known.get("state", ServiceState.OPEN))
    known["holidays"] = tuple(
        Holiday(day=date.fromisoformat(one["day"]), name=one["name"])
        for one in known.get("holidays", ())
    )
    return SiteSettings(**known)

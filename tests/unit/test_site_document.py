"""The site's settings as they are kept: nothing is lost, and another version's are read."""

from __future__ import annotations

import json
from datetime import date

import pytest

from broker.domain.calendar import Holiday
from broker.domain.settings import ServiceState, SiteSettings
from broker.domain.site import plain, settings_of

HOLIDAYS = (
    Holiday(day=date(2026, 12, 25), name="Christmas"),
    Holiday(day=date(2027, 1, 1), name="元旦"),
)
SET = SiteSettings(
    state=ServiceState.MAINTENANCE,
    message="back at noon",
    time_zone="Europe/Berlin",
    holidays=HOLIDAYS,
    desktops_max=500,
    memory_mib_max=1_000_000,
    rebalance_above=0.8,
    rebalance_by=0.2,
)


@pytest.mark.parametrize("settings", [SET, SiteSettings()])
def test_what_is_kept_is_read_again_as_it_was(settings: SiteSettings) -> None:
    assert settings_of(json.loads(json.dumps(plain(settings)))) == settings


def test_days_and_states_are_kept_as_text() -> None:
    kept = plain(SET)
    assert kept["state"] == "maintenance"
    assert kept["holidays"] == [
        {"day": "2026-12-25", "name": "Christmas"},
        {"day": "2027-01-01", "name": "元旦"},
    ]
    assert kept["time_zone"] == "Europe/Berlin"


def test_what_was_not_kept_is_as_it_is_at_first() -> None:
    assert settings_of({}) == SiteSettings()
    assert settings_of({"state": "draining"}) == SiteSettings(state=ServiceState.DRAINING)


def test_what_this_version_does_not_know_is_left_out() -> None:
    assert settings_of({**plain(SET), "colour": "green"}) == SET

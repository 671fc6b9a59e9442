"""How a plan is carried out: what does not change who arrives when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from loadtests.limits import END_S, IN_FLIGHT_MAX, LIVE_S, SETTLE_S

PLAN_FILE = "plan.jsonl"
SETTINGS_FILE = "settings.json"
RAW_FOLDER = "raw"

CAMPAIGN_VARIABLE = "TRIVIUM_CAMPAIGN"
"""the campaign's folder, for the processes of Locust"""
CAST_VARIABLE = "TRIVIUM_CAST"
"""the cast's file, for the processes of Locust"""

Positive = Annotated[float, msgspec.Meta(gt=0.0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Written into the campaign's folder, so that every Locust process reads the same.

    in_flight_max: arrivals under way in one process before the next is dropped. live_s: from due
    to live. end_s: from log-off to the ended session. settle_s: after the last log-off, for the
    broker's records to come to rest.
    """

    url: str
    in_flight_max: Annotated[int, msgspec.Meta(ge=1)] = IN_FLIGHT_MAX
    live_s: Positive = LIVE_S
    end_s: Positive = END_S
    settle_s: Positive = SETTLE_S


def write_settings(folder: Path, settings: Settings) -> None:
    (folder / SETTINGS_FILE).write_bytes(msgspec.json.encode(settings))


def read_settings(folder: Path) -> Settings:
    return msgspec.json.decode((folder / SETTINGS_FILE).read_bytes(), type=Settings)

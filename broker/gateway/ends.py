"""Why displays end."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class DisplayEnd(StrEnum):
    """Why a display ended; what `serve` answers and the client is closed with."""

    CLIENT_CLOSED = "display.client_closed"
    CLIENT_STALLED = "display.client_stalled"
    DESKTOP_CLOSED = "display.desktop_closed"
    DESKTOP_FAILED = "display.desktop_failed"
    INPUT_TOO_LARGE = "display.input_too_large"
    BROKER_STOPS = "display.broker_stops"
    KILLED = "display.killed"
    SIGNED_OUT = "display.signed_out"
    TAKEN_OVER = "display.taken_over"
    TIME_LIMIT = "display.time_limit"


DETAILS: Final[Mapping[DisplayEnd, str]] = {
    DisplayEnd.CLIENT_CLOSED: "the client closed the display",
    DisplayEnd.CLIENT_STALLED: "the client took no frame for too long",
    DisplayEnd.DESKTOP_CLOSED: "the desktop closed the display",
    DisplayEnd.DESKTOP_FAILED: "the desktop sent something that is not a display",
    DisplayEnd.INPUT_TOO_LARGE: "an input message was too large",
    DisplayEnd.BROKER_STOPS: "this broker stops",
    DisplayEnd.KILLED: "the session has ended",
    DisplayEnd.SIGNED_OUT: "the person signed out",
    DisplayEnd.TAKEN_OVER: "the session was opened somewhere else",
    DisplayEnd.TIME_LIMIT: "the display was open for as long as one may be",
}

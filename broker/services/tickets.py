"""Secrets that open a session once, and the place that each is good for.

A ticket names the endpoint it was given to, within the secret itself, so that its hash covers the
name. When the session moves, whatever was handed out for the place it left opens nothing more.
"""

from __future__ import annotations

import hashlib
from typing import Final

_MARK: Final = "."
"""between the endpoint's id and the random part; neither has one"""
VIEWER_PREFIX: Final = "vwr"
"""what ids of viewers' tickets begin with"""
_VIEWER_MARK: Final = "~"
"""between the parts of a viewer's ticket; none has one"""


def secret_hash(secret: str) -> bytes:
    """How secrets are stored: SHA-256. They have 256 random bits, so no salt is needed."""
    return hashlib.sha256(secret.encode()).digest()


def ticket_for(endpoint_id: str | None, secret: str) -> str:
    """The ticket for this endpoint; None is a browser."""
    return secret if endpoint_id is None else f"{endpoint_id}{_MARK}{secret}"


def viewer_ticket(protocol: str, browser: str | None, secret: str) -> str:
    """The ticket that opens the session in a viewer outside the browser, over that protocol.

    It names the sign-in that asked for it, so that it dies when the session moves to another.
    """
    return _VIEWER_MARK.join((protocol, browser or "", secret))


def protocol_of(ticket: str) -> str:
    """The protocol of a viewer's ticket; empty for any other."""
    protocol, mark, _ = ticket.partition(_VIEWER_MARK)
    return protocol if mark else ""


def place_of(ticket: str) -> str | None:
    """The endpoint that the ticket was given to; None is a browser."""
    place, mark, _ = ticket.rpartition(_MARK)
    return place if mark else None


def in_viewer(display: str) -> bool:
    """Whether a session's display was opened with a viewer's ticket, outside the browser."""
    return display.rpartition(_MARK)[2].startswith(f"{VIEWER_PREFIX}_")

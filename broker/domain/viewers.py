"""The kinds of viewers that open a session outside the browser."""

from __future__ import annotations

from enum import StrEnum


class ViewerKind(StrEnum):
    """By the protocol that the viewer speaks; the same names as the engines' consoles have."""

    VNC = "vnc"
    RDP = "rdp"
    SPICE = "spice"

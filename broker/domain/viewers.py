"""What shows a desktop: the browser's page, or viewers outside it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ViewerKind(StrEnum):
    """By the protocol that the viewer speaks; the same names as the engines' consoles have."""

    VNC = "vnc"
    RDP = "rdp"
    SPICE = "spice"


IN_BROWSERS: Final = frozenset({"simulated", "vnc"})
"""protocols that the console's page draws"""


class Shown(StrEnum):
    """Where a desktop is seen that runs on a host."""

    PAGE = "page"
    VIEWER = "viewer"
    """in a viewer outside the browser only"""
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a person may open a session in. `kinds`: viewers that the broker takes and the desktop's
    host has displays for; `lacking`: viewers that only the broker does not take."""

    shown: Shown
    kinds: tuple[ViewerKind, ...] = ()
    lacking: tuple[ViewerKind, ...] = ()


def offer(displays: Collection[str] | None, doors: Collection[ViewerKind]) -> Offer:
    """`displays`: protocols that the desktop's host shows its machines in; None: not known (yet),
    then the page tries, and says what comes of it. `doors`: viewers that the broker takes."""
    if displays is None:
        return Offer(shown=Shown.PAGE, kinds=tuple(one for one in ViewerKind if one in doors))
    kinds = tuple(one for one in ViewerKind if one in displays and one in doors)
    if IN_BROWSERS & set(displays):
        return Offer(shown=Shown.PAGE, kinds=kinds)
    lacking = tuple(one for one in ViewerKind if one in displays and one not in doors)
    return Offer(shown=Shown.VIEWER if kinds else Shown.NOWHERE, kinds=kinds, lacking=lacking)

"""What a person is offered to see a desktop in, by what its host and the broker have."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from broker.domain.viewers import Offer, Shown, ViewerKind, offer

VNC, RDP, SPICE = ViewerKind.VNC, ViewerKind.RDP, ViewerKind.SPICE
ALL = (VNC, RDP, SPICE)


@pytest.mark.parametrize(
    ("displays", "doors", "made"),
    [
        ({"simulated"}, ALL, Offer(shown=Shown.PAGE)),
        ({"vnc"}, (), Offer(shown=Shown.PAGE)),
        ({"vnc", "rdp"}, ALL, Offer(shown=Shown.PAGE, kinds=(VNC, RDP))),
        ({"vnc", "spice"}, (RDP,), Offer(shown=Shown.PAGE)),
        ({"rdp"}, ALL, Offer(shown=Shown.VIEWER, kinds=(RDP,))),
        ({"rdp", "spice"}, (RDP,), Offer(shown=Shown.VIEWER, kinds=(RDP,), lacking=(SPICE,))),
        ({"rdp"}, (VNC,), Offer(shown=Shown.NOWHERE, lacking=(RDP,))),
        (set(), ALL, Offer(shown=Shown.NOWHERE)),
        # no desktop yet, or nobody knows its host: the page finds out
        (None, (SPICE, VNC), Offer(shown=Shown.PAGE, kinds=(VNC, SPICE))),
        (None, (), Offer(shown=Shown.PAGE)),
    ],
)
def test_a_desktop_is_offered_where_its_host_shows_it(
    displays: Collection[str] | None, doors: Collection[ViewerKind], made: Offer
) -> None:
    given = offer(displays, doors)
    assert (given.shown, given.kinds) == (made.shown, made.kinds)
    if made.shown is not Shown.PAGE:
        assert given.lacking == made.lacking

"""VDI: the desktop runs on a server; pixels, input and devices cross the wire.

Place, start, connect, reclaim. If the server is gone the session is lost; if only the endpoint
is gone the desktop runs on for the pool's grace, and the person may come back from anywhere.
"""

from __future__ import annotations

from broker.architectures.rules import PhaseRule, Rules
from broker.domain.model import Architecture, DesktopState, EndpointKind

RULES = Rules(
    architecture=Architecture.VDI,
    title="Virtual Desktop Infrastructure",
    endpoint_kind=EndpointKind.THIN,
    runs_on_endpoint=False,
    needs_endpoint=False,
    moves=True,
    leased=False,
    first_state=DesktopState.PLANNED,
    phases=(
        PhaseRule(
            name="display_open", says="the ticket is redeemed, the display opens", simulated=False
        ),
        PhaseRule(name="first_frame", says="the first picture arrives", simulated=False),
        PhaseRule(name="logon", says="profile and policy in the desktop", simulated=True),
    ),
)

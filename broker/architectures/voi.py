"""VOI: the endpoint's bare metal boots an image streamed from the server, block by block.

Choose the image by endpoint and group, serve boot and blocks, reset the write layer. Without the
server a streamed desktop stops.
"""

from __future__ import annotations

from broker.architectures.rules import PhaseRule, Rules
from broker.domain.model import Architecture, DesktopState, EndpointKind

RULES = Rules(
    architecture=Architecture.VOI,
    title="Virtual OS Infrastructure",
    endpoint_kind=EndpointKind.FAT,
    runs_on_endpoint=True,
    needs_endpoint=True,
    moves=False,
    leased=False,
    first_state=DesktopState.UNAVAILABLE,
    phases=(
        PhaseRule(
            name="boot_order", says="the ticket is redeemed for a boot manifest", simulated=False
        ),
        PhaseRule(name="boot_stream", says="the boot's blocks are streamed", simulated=False),
        PhaseRule(name="os_start", says="kernel, services and shell start", simulated=True),
    ),
)

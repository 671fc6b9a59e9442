"""IDV: the desktop runs in the endpoint's hypervisor, from a centrally managed image.

Entitle, distribute the image, lease, sync. The endpoint works on without the broker until its
lease ends; the desktop cannot move to another endpoint.
"""

from __future__ import annotations

from broker.architectures.rules import PhaseRule, Rules
from broker.domain.model import Architecture, DesktopState, EndpointKind

RULES = Rules(
    architecture=Architecture.IDV,
    title="Intelligent Desktop Virtualization",
    endpoint_kind=EndpointKind.FAT,
    runs_on_endpoint=True,
    needs_endpoint=True,
    moves=False,
    leased=True,
    first_state=DesktopState.UNAVAILABLE,
    phases=(
        PhaseRule(name="lease", says="the ticket is redeemed for a lease", simulated=False),
        PhaseRule(
            name="image_check",
            says="the cached image is held against the manifest",
            simulated=False,
        ),
        PhaseRule(name="image_fetch", says="missing segments are fetched", simulated=False),
        PhaseRule(name="local_boot", says="the local hypervisor boots it", simulated=True),
    ),
)

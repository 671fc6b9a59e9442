"""The phases of a session, in order: who times them, and whether their length is a model's.

The endpoint's phases are those of the broker's architectures; a test holds the two against each
other, since this package does not import the broker.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

ARCHITECTURE_TITLES: Mapping[str, str] = {
    "vdi": "Virtual Desktop Infrastructure",
    "idv": "Intelligent Desktop Virtualization",
    "voi": "Virtual OS Infrastructure",
}


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """`measured`: timed as it happened; else its length comes from the calibration, divided by
    the speed at which the campaign ran. `image`: its length is that of an image transfer."""

    name: str
    title: str
    says: str
    measured: bool = True
    image: bool = False


SIGN_IN = Phase(
    name="sign_in", title="Sign in", says="from the due instant to the token, late starts included"
)
ASSIGN = Phase(name="assign", title="Assign", says="POST /sessions until its answer")
QUEUE = Phase(name="queue", title="Queue", says="waiting for a desktop, for those who had to")
DELIVER = Phase(name="deliver", title="Deliver", says="from the assigned to the live desktop")
HANDOVER = Phase(
    name="handover",
    title="Hand-over",
    says="the part of the delivery that no endpoint step covers: orders, reports, notice",
)
TOTAL = Phase(name="total", title="Due to live", says="all of it, from the due instant")
LOG_OFF = Phase(name="log_off", title="Log off", says="from DELETE to the ended session")

ENDPOINT: Mapping[str, tuple[Phase, ...]] = {
    "vdi": (
        Phase(name="display_open", title="Open display", says="ticket redeemed, display opens"),
        Phase(name="first_frame", title="First frame", says="the first picture arrives"),
        Phase(name="logon", title="Logon", says="profile and policy", measured=False),
    ),
    "idv": (
        Phase(name="lease", title="Lease", says="ticket redeemed for a lease"),
        Phase(name="image_check", title="Check image", says="cache held against the manifest"),
        Phase(name="image_fetch", title="Fetch image", says="missing segments", image=True),
        Phase(name="local_boot", title="Local boot", says="local hypervisor", measured=False),
    ),
    "voi": (
        Phase(name="boot_order", title="Boot order", says="ticket redeemed for a manifest"),
        Phase(name="boot_stream", title="Stream boot", says="the boot's blocks", image=True),
        Phase(name="os_start", title="OS start", says="kernel and services", measured=False),
    ),
}


def phases_of(architecture: str) -> tuple[Phase, ...]:
    """Every phase of an architecture, in the order in which a report shows them."""
    endpoint = ENDPOINT[architecture]
    return (SIGN_IN, ASSIGN, QUEUE, DELIVER, *endpoint, HANDOVER, TOTAL, LOG_OFF)


def stack_of(architecture: str) -> tuple[Phase, ...]:
    """The phases whose sum is the total."""
    return (SIGN_IN, ASSIGN, QUEUE, *ENDPOINT[architecture], HANDOVER)

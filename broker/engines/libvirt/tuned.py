"""A pool's shares and limits on a machine that is there: while it runs, for its next start, and on
its way to another host. Blocking; raises libvirt's error."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import libvirt

from broker.domain.model import Resources
from broker.engines.libvirt import xml
from broker.engines.libvirt.cpu_shares import Groups
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.tags import mac_address
from broker.engines.libvirt.tuning import Tuning
from broker.ports import Operation

TUNED: Final = ("qemu", "lxc")
"""kinds of hypervisors whose machines are held to shares and limits"""


def tuning_of(operation: Operation, resources: Resources, groups: Groups | None) -> Tuning:
    return Tuning.of(resources, operation.guarantee, operation.weights, operation.limits, groups)


def tune(
    domain: Any, place: Place, operation: Operation, to: Resources, groups: Groups | None
) -> None:
    """As it runs and for its next start."""
    tuning = tuning_of(operation, to, groups)
    mac = mac_address(UUID(domain.UUIDString())) if place.network else ""
    # the binding asks for what is set first, and that takes one of them at a time
    for flag in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
        tuning.apply(
            domain, flag, cpus=to.cpus, mac=mac, cannot=libvirt.libvirtError,
            container=place.kind.name == "lxc",
        )  # fmt: skip


def described_for(domain: Any, tuning: Tuning) -> dict[str, str]:
    """The machine, as it runs and as it is to start, for a move to a host with other control
    groups: parameters of the move."""
    said: dict[str, str] = {}
    for name, flags in (
        (libvirt.VIR_MIGRATE_PARAM_DEST_XML, libvirt.VIR_DOMAIN_XML_MIGRATABLE),
        (libvirt.VIR_MIGRATE_PARAM_PERSIST_XML, libvirt.VIR_DOMAIN_XML_INACTIVE),
    ):
        root = xml.parse(domain.XMLDesc(flags))
        tuning.rewrite(root)
        said[name] = xml.text_of(root)
    return said

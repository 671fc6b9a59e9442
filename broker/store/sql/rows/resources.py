"""Resources as the columns of pools, hosts and desktops."""

from __future__ import annotations

from broker.domain.model import Resources
from broker.store.sql.rows import Values


def from_resources(resources: Resources) -> Values:
    return {
        "cpus": resources.cpus,
        "memory_mib": resources.memory_mib,
        "disk_mib": resources.disk_mib,
        "disk_iops": resources.disk_iops,
        "network_mbit": resources.network_mbit,
    }

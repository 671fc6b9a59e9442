"""Leases for shared work, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from broker.domain.errors import ConflictError
from broker.domain.model import Instant, WorkLease
from broker.limits import LEASE_SKEW_S


def hold_lease(leases: Mapping[str, WorkLease], lease: WorkLease) -> None:
    """Raises ConflictError: the lease has another holder or fence by now."""
    found = leases.get(lease.name)
    if found is None or (found.holder, found.fence) != (lease.holder, lease.fence):
        raise ConflictError(f"the lease {lease.name!r} has passed to another")


class MemoryLeases:
    """Implements broker.ports.LeaseStore."""

    def __init__(self, leases: dict[str, WorkLease]) -> None:
        self._leases = leases

    async def acquire(
        self, name: str, holder: str, now: Instant, until: Instant
    ) -> WorkLease | None:
        found = self._leases.get(name)
        if found is None:
            taken = WorkLease(name=name, holder=holder, fence=1, until=until)
        elif found.holder == holder:
            taken = replace(found, until=until)
        elif found.holder and found.until + LEASE_SKEW_S * 1000 > now:
            return None
        else:
            taken = WorkLease(name=name, holder=holder, fence=found.fence + 1, until=until)
        self._leases[name] = taken
        return taken

    async def release(self, lease: WorkLease) -> None:
        found = self._leases.get(lease.name)
        if found is not None and (found.holder, found.fence) == (lease.holder, lease.fence):
            self._leases[lease.name] = replace(found, holder="", until=0)

    async def leases(self) -> tuple[WorkLease, ...]:
        return tuple(self._leases[name] for name in sorted(self._leases))

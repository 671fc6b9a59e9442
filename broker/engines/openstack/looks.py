"""What a cloud tells the broker's account of itself. All of this blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openstack.exceptions import ForbiddenException, raise_from_response

from broker.engines.openstack.computes import Compute, computes
from broker.engines.openstack.knobs import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What the account's project may have, and has; None: there is no limit, or none is told."""

    cpus: int | None
    cpus_used: int
    memory_mib: int | None
    memory_used_mib: int
    machines: int | None
    machines_used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """`api`: the latest version of Nova's API there. `computes`: None, the account may not look.
    `quota`: None, the cloud did not tell."""

    api: str
    computes: Sequence[Compute] | None
    quota: Quota | None


def see(connection: Any, place: Place) -> Seen:
    return Seen(
        api=latest(connection), computes=computes(connection, place), quota=quota(connection)
    )


def latest(connection: Any) -> str:
    """The latest version of Nova's API that it speaks; empty: it does not say."""
    told = connection.compute.get_endpoint_data()
    version = getattr(told, "max_microversion", None)
    return ".".join(str(part) for part in version) if version else ""


def quota(connection: Any) -> Quota | None:
    answer = connection.compute.get("/limits")
    try:
        raise_from_response(answer)
    except ForbiddenException:
        return None
    told = (answer.json().get("limits") or {}).get("absolute") or {}
    return Quota(
        cpus=_most(told.get("maxTotalCores")),
        cpus_used=told.get("totalCoresUsed") or 0,
        memory_mib=_most(told.get("maxTotalRAMSize")),
        memory_used_mib=told.get("totalRAMUsed") or 0,
        machines=_most(told.get("maxTotalInstances")),
        machines_used=told.get("totalInstancesUsed") or 0,
    )


def _most(number: int | None) -> int | None:
    return None if number is None or number < 0 else number

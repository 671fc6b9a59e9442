"""The compute hosts of a place as Nova counts them, for accounts that may look. All of this blocks.

What Nova does not say is None here, and is never put together from something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from openstack.exceptions import ForbiddenException, raise_from_response

from broker.domain.errors import EngineError
from broker.engines.openstack.knobs import Place
from broker.limits import OPENSTACK_COMPUTES_MAX, OPENSTACK_PAGE

SINCE: Final = "2.53"
"""the microversion of Nova's API that is asked: from 2.88 on it leaves out how much is used"""
BINARY: Final = "nova-compute"
_REASON_CHARS_MAX: Final = 100
_DOTTED: Final = frozenset({"qemu", "kvm", "lxc", "vmware vcenter server"})
"""kinds whose version Nova writes as one number, three digits for each part"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """One hypervisor. Sizes in MiB and GiB; `used` by machines of every project."""

    host: str
    kind: str
    version: str
    up: bool | None
    enabled: bool | None
    forced_down: bool | None
    reason: str
    cpus: int | None
    cpus_used: int | None
    memory_mib: int | None
    memory_used_mib: int | None
    disk_gib: int | None
    disk_used_gib: int | None
    machines: int | None

    @property
    def takes(self) -> bool:
        """Nova would make machines there, as far as is known."""
        return self.up is not False and self.enabled is not False and not self.forced_down

    @property
    def state(self) -> str:
        """In words; empty: not known."""
        words = []
        if self.forced_down:
            words.append("forced down")
        elif self.up is not None:
            words.append("up" if self.up else "down")
        if self.enabled is not None:
            words.append("enabled" if self.enabled else "disabled")
        return ", ".join(words) + (f" ({self.reason})" if self.reason and words else "")


def computes(connection: Any, place: Place) -> tuple[Compute, ...] | None:
    """Those of the place, by name; None: the account may not look, or not tell which they are."""
    compute = connection.compute
    try:
        found = list(_listed(compute))
    except ForbiddenException:
        return None
    try:
        services = {one.host: one for one in compute.services(binary=BINARY)}
    except ForbiddenException:
        services = {}
        if place.zone and not place.host:
            return None
    all_of_them = [_read(one, services) for one in found]
    return tuple(sorted(_at(place, all_of_them, services), key=lambda one: one.host))


def _at(place: Place, found: Iterable[Compute], services: dict[str, Any]) -> Iterable[Compute]:
    if place.host:
        return [one for one in found if one.host == place.host]
    if place.zone:
        there = {host for host, one in services.items() if one.availability_zone == place.zone}
        return [one for one in found if one.host in there]
    return found


def _listed(compute: Any) -> Iterator[Mapping[str, Any]]:
    """All pages, as Nova writes them: openstacksdk warns of each field that later versions lack."""
    marker: dict[str, str] = {}
    seen: set[str] = set()
    longest = 0
    while True:
        answer = compute.get(
            "/os-hypervisors/detail",
            params={"limit": OPENSTACK_PAGE, **marker},
            microversion=SINCE,
        )
        raise_from_response(answer)
        page = answer.json().get("hypervisors") or []
        new = [one for one in page if str(one.get("id")) not in seen]
        yield from new
        seen |= {str(one.get("id")) for one in new}
        # Nova cuts pages to a limit of its own, of which it says nothing
        if not new or len(page) < longest:
            return
        if len(seen) >= OPENSTACK_COMPUTES_MAX:
            raise EngineError(f"the cloud has more than {OPENSTACK_COMPUTES_MAX} compute hosts")
        longest = len(page)
        marker = {"marker": str(page[-1].get("id"))}


def _read(one: Mapping[str, Any], services: dict[str, Any]) -> Compute:
    details = one.get("service") or {}
    host = str(details.get("host") or one.get("hypervisor_hostname") or "")
    service = services.get(host)
    reason = details.get("disabled_reason") or ""
    kind = str(one.get("hypervisor_type") or "")
    return Compute(
        host=host,
        kind=kind,
        version=_version(kind, one.get("hypervisor_version")),
        up={"up": True, "down": False}.get(one.get("state", "")),
        enabled={"enabled": True, "disabled": False}.get(one.get("status", "")),
        forced_down=service.is_forced_down if service is not None else None,
        reason="".join(letter for letter in reason if letter.isprintable())[:_REASON_CHARS_MAX],
        cpus=_count(one.get("vcpus")),
        cpus_used=_count(one.get("vcpus_used")),
        memory_mib=_count(one.get("memory_mb")),
        memory_used_mib=_count(one.get("memory_mb_used")),
        disk_gib=_count(one.get("local_gb")),
        disk_used_gib=_count(one.get("local_gb_used")),
        machines=_count(one.get("running_vms")),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _version(kind: str, number: Any) -> str:
    if number is None:
        return ""
    if kind.lower() not in _DOTTED or not isinstance(number, int):
        return str(number)
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def total(found: Sequence[Compute], part: Callable[[Compute], int | None]) -> int | None:
    """The sum, where all of them say it."""
    parts = [part(one) for one in found]
    known = [one for one in parts if one is not None]
    return sum(known) if known and len(known) == len(parts) else None

"""How a libvirt host is at this moment: pressure, page sharing, what is free.

Memory, page sharing and the storage pool are told by libvirt, of a distant host, too. Pressure is
not among what libvirt tells: it is read where the daemon is on the broker's own machine. Nothing is
switched: whether pages are shared is the host's own matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import libvirt

from broker.domain.inspection import Condition, PageSharing, Pressure
from broker.domain.storage import OWN, StorageClass
from broker.engines.libvirt.capabilities import Capabilities, PoolRoom, rooms_of
from broker.engines.libvirt.classes import classes
from broker.engines.libvirt.errors import telling
from broker.engines.libvirt.knobs import Place

PRESSURE: Final = Path("/proc/pressure")
KSM: Final = Path("/sys/kernel/mm/ksm")
PAGE_BYTES: Final = 4096
"""of the page sharing of x86_64"""
_RESOURCES: Final = ("cpu", "memory", "io")
_KIB_PER_MIB: Final = 1024
_FILE_BYTES_MAX: Final = 4096
_T = TypeVar("_T")


def condition(connection: Any, host: str, place: Place) -> Condition:
    """Blocking. Raises EngineError when the host does not answer at all."""
    with telling(host, "say how it is"):
        connection.getInfo()
    unknown: dict[str, str] = {}
    memory = _told(unknown, "memory", lambda: connection.getMemoryStats(-1, 0)) or {}
    total, free = _memory_mib(memory)
    shared = _told(unknown, "page_sharing", lambda: connection.getMemoryParameters(0))
    pool = _told(unknown, "disk", lambda: connection.storagePoolLookupByName(place.pool).info())
    rooms = _told(unknown, "storage", lambda: rooms_of(connection)) if place.classes else None
    pressure = read_pressure(PRESSURE) if place.is_local else None
    if pressure is None:
        unknown["pressure"] = (
            "its kernel counts none" if place.is_local else "libvirt does not tell it of others"
        )
    return Condition(
        pressure=pressure,
        page_sharing=_sharing(shared, local=place.is_local) if shared else None,
        memory_mib=total,
        memory_free_mib=free,
        disk_total=int(pool[1]) if pool else None,
        disk_free=int(pool[3]) if pool else None,
        storage=_classes(place, rooms) if rooms is not None else (),
        unknown=unknown,
    )


def _classes(place: Place, rooms: list[PoolRoom]) -> tuple[StorageClass, ...]:
    found = classes(place, Capabilities(hypervisor="", pools=tuple(rooms)))
    return tuple(one for name, one in found.items() if name != OWN)


def _told(unknown: dict[str, str], what: str, ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except libvirt.libvirtError:
        unknown[what] = "the host does not tell"
        return None


def _memory_mib(stats: Mapping[str, int]) -> tuple[int | None, int | None]:
    """(all, free or at once to be had) of libvirt's KiB."""
    if "total" not in stats or "free" not in stats:
        return None, None
    free = stats["free"] + stats.get("buffers", 0) + stats.get("cached", 0)
    return stats["total"] // _KIB_PER_MIB, free // _KIB_PER_MIB


def _sharing(told: Mapping[str, int], *, local: bool) -> PageSharing | None:
    if "shm_pages_shared" not in told:
        return None
    on = None
    if local:
        text = _read(KSM / "run")
        on = text.strip() == "1" if text is not None else None
    return PageSharing(
        on=on,
        kept=told["shm_pages_shared"] * PAGE_BYTES,
        saved=told.get("shm_pages_sharing", 0) * PAGE_BYTES,
    )


def read_pressure(folder: Path) -> dict[str, Pressure] | None:
    """As the kernel writes it (Documentation/accounting/psi.rst); None where it does not."""
    found = {}
    for resource in _RESOURCES:
        text = _read(folder / resource)
        if text is None:
            return None
        lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}
        # kernels before 5.13 had no line for all tasks at once waiting for a CPU
        some, full = (_averages(lines.get(kind, [])) for kind in ("some", "full"))
        found[resource] = Pressure(some=some, full=full)
    return found


def _averages(words: list[str]) -> tuple[float, float, float]:
    given = dict(word.partition("=")[::2] for word in words)

    def part(name: str) -> float:
        try:
            return min(max(float(given.get(name, "0")) / 100, 0.0), 1.0)
        except ValueError:
            return 0.0

    return part("avg10"), part("avg60"), part("avg300")


def _read(path: Path) -> str | None:
    try:
        with path.open("r", encoding="ascii", errors="replace") as file:
            return file.read(_FILE_BYTES_MAX)
    except OSError:
        return None

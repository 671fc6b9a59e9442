"""How a libvirt host is at this moment: pressure, page sharing, what is free.

Memory, page sharing and the storage pool are told by libvirt, of a distant host, too. Pressure, and
whether page sharing is on, are not among what libvirt tells: they are read from the kernel's files
where the daemon is on the broker's own machine, and over SSH where the host lets the broker have
that command run (Command.LOOK). Nothing is switched: whether pages are shared is the host's own
matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import libvirt

from broker.domain.inspection import Condition, PageSharing, Pressure
from broker.domain.storage import OWN, StorageClass
from broker.engines.libvirt.capabilities import Capabilities, PoolRoom
from broker.engines.libvirt.classes import classes
from broker.engines.libvirt.errors import telling
from broker.engines.libvirt.knobs import Place
from broker.engines.reach.commands import KSM_FILES, PRESSURE_FILES

PRESSURE: Final = Path(PRESSURE_FILES[0]).parent
KSM: Final = Path(KSM_FILES[0]).parent
PAGE_BYTES: Final = 4096
"""of the page sharing of x86_64"""
_RESOURCES: Final = ("cpu", "memory", "io")
_PAGES: Final = ("pages_shared", "pages_sharing")
_KIB_PER_MIB: Final = 1024
_FILE_BYTES_MAX: Final = 4096
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the kernel's files say: the text of each by its path, or why nobody could read them."""

    files: Mapping[str, str] = field(default_factory=dict)
    why_not: str = "its kernel counts none"

    @property
    def pressure(self) -> dict[str, Pressure] | None:
        return pressure_of({name: self.files.get(str(PRESSURE / name)) for name in _RESOURCES})

    @property
    def shares_pages(self) -> bool | None:
        text = self.files.get(str(KSM / "run"))
        return text.strip() == "1" if text is not None else None

    @property
    def page_sharing(self) -> dict[str, int]:
        """As libvirt tells it."""
        pages = {name: self.files.get(str(KSM / name), "").strip() for name in _PAGES}
        return {f"shm_{name}": int(text) for name, text in pages.items() if text.isdecimal()}


def seen_here() -> Seen:
    """On the broker's own machine. Blocking."""
    texts = {path: _read(Path(path)) for path in (*PRESSURE_FILES, *KSM_FILES)}
    return Seen(files={path: text for path, text in texts.items() if text is not None})


def seen_there(said: str) -> Seen:
    """What a host said to Command.LOOK: lines, each after its file's path and a colon."""
    files: dict[str, str] = {}
    for line in said.splitlines():
        path, colon, text = line.partition(":")
        if colon and path in {*PRESSURE_FILES, *KSM_FILES}:
            files[path] = files.get(path, "") + text[:_FILE_BYTES_MAX] + "\n"
    return Seen(files=files)


def condition(
    connection: Any, host: str, place: Place, seen: Seen, pools: tuple[PoolRoom, ...]
) -> Condition:
    """Blocking. `pools`: the profile's, asked just before. Raises EngineError when the host does
    not answer at all."""
    with telling(host, "say how it is"):
        connection.getInfo()
    unknown: dict[str, str] = {}
    memory = _told(unknown, "memory", lambda: connection.getMemoryStats(-1, 0)) or {}
    total, free = _memory_mib(memory)
    shared = _told(unknown, "page_sharing", lambda: connection.getMemoryParameters(0))
    pool = next((one for one in pools if one.name == place.pool), None)
    if pool is None or pool.silent or not pool.running:
        why = "does not answer" if pool is not None and pool.silent else "does not run"
        unknown["disk"] = f"the storage pool {place.pool} {why}"
        pool = None
    pressure = seen.pressure
    if pressure is None:
        unknown["pressure"] = seen.why_not
    sharing = _sharing({**seen.page_sharing, **(shared or {})}, on=seen.shares_pages)
    if sharing is not None:
        unknown.pop("page_sharing", None)
    return Condition(
        pressure=pressure,
        page_sharing=sharing,
        memory_mib=total,
        memory_free_mib=free,
        disk_total=pool.capacity if pool else None,
        disk_free=pool.available if pool else None,
        storage=_classes(place, pools),
        unknown=unknown,
    )


def _classes(place: Place, pools: tuple[PoolRoom, ...]) -> tuple[StorageClass, ...]:
    found = classes(place, Capabilities(hypervisor="", pools=pools))
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


def _sharing(told: Mapping[str, int], *, on: bool | None) -> PageSharing | None:
    if "shm_pages_shared" not in told:
        return None
    return PageSharing(
        on=on,
        kept=told["shm_pages_shared"] * PAGE_BYTES,
        saved=told.get("shm_pages_sharing", 0) * PAGE_BYTES,
    )


def pressure_of(texts: Mapping[str, str | None]) -> dict[str, Pressure] | None:
    """By resource, as the kernel writes it (Documentation/accounting/psi.rst); None where it does
    not."""
    found = {}
    for resource in _RESOURCES:
        text = texts.get(resource)
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

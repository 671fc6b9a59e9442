"""Looking at a host before it is added, step by step, over a connection of its own.

Every step is told: as found, as missing with what to do about it, or as unknown where a step
that it needs did not succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from broker.domain.errors import EngineError
from broker.domain.inspection import Step, Verdict
from broker.domain.model import Host
from broker.engines.libvirt.address import Transport
from broker.engines.libvirt.capabilities import Capabilities, read, rooms_of
from broker.engines.libvirt.connection import connect
from broker.engines.libvirt.errors import telling
from broker.engines.libvirt.knobs import parse_profile
from broker.engines.libvirt.looks import LOOKS, clock, missing, ok, unknown
from broker.engines.libvirt.route import Route
from broker.engines.libvirt.storage import clock_of
from broker.engines.libvirt.ways import Ways
from broker.limits import PROBE_STEP_S
from broker.ports import Clock, Ids

_T = TypeVar("_T")
_ADVICE: Final[Mapping[str, str]] = {
    "profile": "docs/engines.md lists the knobs and what each takes.",
    "key": "Look whether the service at that port is the one that the address means.",
    "sign_in": "Look into the host's own log: it says whom it refused, and why.",
    "libvirt": "Look into libvirtd's log at the host.",
    "power": "Look whether the host's SSH lets the broker have commands run.",
    "clock": "Look whether the pool's directory is there and can be written to.",
}
"""by step: what to do where nothing more exact is known"""
_THEN: Final = "Look whether a firewall drops what the broker sends, or the host hangs."


class Probe:
    """One look at one host; `steps` is iterated once."""

    def __init__(self, host: Host, *, time: Clock, ids: Ids, data: Path | None) -> None:
        self._name = host.name
        self._profile = host.profile
        self._time = time
        self._ids = ids
        self._data = data
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"probe {host.name}")
        self._route: Route | None = None
        self._connection: Any = None

    async def steps(self) -> AsyncIterator[Step]:
        """It raises nothing; a step that others need ends what can be found when it fails."""
        stopped = ""
        looks: dict[str, Callable[[], Awaitable[Step]]] = {"profile": self._read_profile}
        try:
            for name in STEPS:
                if stopped:
                    yield unknown(name, f"not looked at: {stopped} comes first")
                    continue
                step = await _bounded(name, looks[name])
                yield step
                if name == "profile" and step.verdict is Verdict.OK:
                    looks |= self._looks()
                if name in _NEEDED and step.verdict is not Verdict.OK:
                    stopped = name.replace("_", "-")
        finally:
            await self._leave()

    async def _read_profile(self) -> Step:
        place = parse_profile(self._profile)
        if place.kind.refuses:
            text = f"no desktops are made on {place.kind.title}: {place.kind.refuses}"
            advice = "Choose another engine, or another kind of hypervisor, for desktops."
            return missing("profile", text, advice)
        return ok("profile", f"{place.kind.title}, reached by {place.address.transport}")

    def _looks(self) -> dict[str, Callable[[], Awaitable[Step]]]:
        """By step; each is called after those before it."""
        place = parse_profile(self._profile)
        ways = Ways(self._name, place, self._data)
        route = self._route = Route(self._name, place, self._data)
        found = Capabilities(hypervisor="")

        async def join() -> None:
            if self._connection is None:
                reached = replace(place, uri=await route.ready())
                self._connection = await self._on_thread(lambda: connect(self._name, reached))

        async def sign_in() -> Step:
            if place.address.transport is not Transport.TLS:
                return await ways.sign_in()
            await join()
            return ok("sign_in", "the host takes the broker's certificate")

        async def libvirt() -> Step:
            nonlocal found
            await join()
            found = await self._on_thread(lambda: read(self._connection, self._name, place))
            text = f"libvirt {found.libvirt_version}, {found.hypervisor} {found.hypervisor_version}"
            size = {"cpus": str(found.cpus), "memory_mib": str(found.memory_mib)}
            return ok("libvirt", f"{text}; {found.cpus} CPUs, {found.memory_mib:,} MiB", **size)

        async def look(name: str) -> Step:
            nonlocal found
            if name == "storage":
                with telling(self._name, "list its storage pools"):
                    rooms = await self._on_thread(lambda: rooms_of(self._connection))
                found = replace(found, pools=tuple(rooms))
            return LOOKS[name](place, found)

        async def look_at_clock() -> Step:
            if found.pool(place.pool) is None:
                return unknown("clock", "not looked at: storage comes first")
            mark, before = self._ids.new("chk"), self._time.now()
            there = await self._on_thread(
                lambda: clock_of(self._connection, self._name, place, mark)
            )
            after = self._time.now()
            # it was made at some moment between the two
            return clock(None if there is None else there - min(max(there, before), after))

        return {
            "name": ways.name,
            "port": ways.port,
            "key": ways.key,
            "sign_in": sign_in,
            "libvirt": libvirt,
            **{name: lambda name=name: look(name) for name in LOOKS},  # type: ignore[misc]
            "clock": look_at_clock,
            "power": lambda: ways.power(route),
        }

    async def _on_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _leave(self) -> None:
        """Hang up. A call that hangs ends by itself, on its own thread."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._thread.submit(connection.close)
        self._thread.shutdown(wait=False)
        if self._route is not None:
            await self._route.close()


STEPS: Final = (
    "profile", "name", "port", "key", "sign_in", "libvirt", *LOOKS, "clock", "power",
)  # fmt: skip
"""what is looked at, in this order"""
_NEEDED: Final = frozenset({"profile", "name", "port", "key", "sign_in", "libvirt"})
"""steps without which none after them can be looked at"""


async def _bounded(name: str, look: Callable[[], Awaitable[Step]]) -> Step:
    try:
        async with asyncio.timeout(PROBE_STEP_S):
            return await look()
    except TimeoutError:
        return missing(name, f"nothing was heard for {PROBE_STEP_S:g} s", _THEN)
    except EngineError as error:
        return missing(name, error.detail, _ADVICE.get(name, ""))

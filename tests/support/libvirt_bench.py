"""An engine over two real hosts, with the guests' own words at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.domain.model import Desktop, Resources
from broker.engines.libvirt import LibvirtEngine
from broker.guest_wire import State
from broker.limits import GUEST_ASK_S
from broker.ports import GuestAsk, GuestVerb, MachineReport
from tests.support.builders import make_desktop
from tests.support.engines import EngineCase, listening, said
from tests.support.eventually import eventually
from tests.support.libvirt_cases import INSTALLATION, libvirt_engine, libvirt_qemu_case
from tests.support.libvirt_lab import LibvirtLab

SMALL = Resources(cpus=1, memory_mib=256)


@dataclass(slots=True)
class Bench:
    lab: LibvirtLab
    case: EngineCase
    engine: LibvirtEngine
    heard: list[MachineReport]

    def desktop(self, number: int = 1, **changes: object) -> Desktop:
        return make_desktop(
            id=f"dsk_{number}", name=f"library-{number:03}", **({"resources": SMALL} | changes)
        )

    async def made(self, number: int = 1, **changes: object) -> Desktop:
        """A machine that is ready."""
        desktop = self.desktop(number, **changes)
        await self.engine.create(self.case.operation(f"job_{desktop.id}", desktop))
        await self.ready(desktop)
        return desktop

    async def ready(self, desktop: Desktop) -> None:
        wanted = (desktop.id, desktop.generation, True)
        await eventually(lambda: wanted in said(self.heard), within_s=100)
        self.heard.clear()

    def state(self, desktop: Desktop) -> State | None:
        guest = self.engine.guests.get(desktop.id)
        return guest.state if guest is not None else None

    async def tell(self, desktop: Desktop, text: str) -> None:
        """The guest writes it to its disk."""
        ask = GuestAsk(id=f"ask {text}", what=GuestVerb.MESSAGE, text=text)
        await self.engine.ask_guest(desktop, ask, deadline_s=GUEST_ASK_S)
        await eventually(lambda: self.kept(desktop) == text)

    def kept(self, desktop: Desktop) -> str | None:
        state = self.state(desktop)
        return state.detail if state is not None else None


@asynccontextmanager
async def on_bench(
    lab: LibvirtLab, *, installation_id: str = INSTALLATION, **knobs: str
) -> AsyncIterator[Bench]:
    """`knobs`: of both hosts' profiles."""
    engine = libvirt_engine(installation_id=installation_id)
    async with listening(engine) as heard:
        yield Bench(lab, libvirt_qemu_case(lab, **knobs), engine, heard)

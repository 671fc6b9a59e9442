"""A lab's host that goes off and comes on: the command at its door ends its daemon and its SSH, and
the packet for its network card starts both again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.host_door import door
from tests.support.libvirt_host import LibvirtHost
from tests.support.ssh_hosts import FarHost

MAC = "52:54:00:12:34:56"
_PACKET = b"\xff" * 6 + bytes.fromhex(MAC.replace(":", "")) * 16


@dataclass(slots=True)
class PoweredHost:
    """`wake`: the knob that reaches its card. `packets`: what its card heard. `on`: whether it is.
    Its daemon's own machines, if any, would go with it."""

    far: FarHost
    host: LibvirtHost
    wake: str = ""
    packets: list[bytes] = field(default_factory=list)
    on: bool = True
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def heard(self, packet: bytes) -> None:
        self.packets.append(packet)
        if packet == _PACKET and not self.on:
            self.on = True
            self._begin(self._come_on())

    async def obey(self, folder: Path, command: str) -> tuple[int, bytes]:
        status, said = await door(folder, {"sudo": f'echo "$*" > {folder}/asked'})(command)
        if (folder / "asked").exists():
            assert (folder / "asked").read_text() == "-n systemctl poweroff\n"
            (folder / "asked").unlink()
            self._begin(self._go_off())
        return status, said

    def _begin(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go_off(self) -> None:
        await self.far.stop()
        await asyncio.to_thread(self.host.stop)
        self.on = False

    async def _come_on(self) -> None:
        await asyncio.to_thread(self.host.start)
        await self.far.start()

    async def settle(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks)
        if not self.on:
            await self._come_on()


class _Card(asyncio.DatagramProtocol):
    def __init__(self, host: PoweredHost) -> None:
        self._host = host

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr
        self._host.heard(data)


@asynccontextmanager
async def powered(far: FarHost, host: LibvirtHost, folder: Path) -> AsyncIterator[PoweredHost]:
    """The far host stands for that daemon's machine. It is on again afterwards."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    one = PoweredHost(far, host)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Card(one), local_addr=("127.0.0.1", 0)
    )
    one.wake = f"{MAC}@127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    far.obeys = lambda command: one.obey(folder, command)
    try:
        yield one
    finally:
        transport.close()
        with suppress(AssertionError):
            await one.settle()

"""The demo's real desktops: a pool of machines that a browser shows, beside the simulated ones.

They come after the measured morning, for what they take of the processor would be measured with
it. What an earlier run had is given up first: its machines ended with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from broker.cli.children import child
from broker.cli.demo_parts import must_not_end
from broker.cli.errors import CommandError
from broker.cli.real_host import IMAGE, VERSION, RealHost, at
from broker.cli.remote import Remote, path_of
from broker.cli.roster import import_texts
from broker.cli.steps import Step, Steps
from broker.system import SystemIds

HOST: Final = "this-machine"
POOL_NAME: Final = "real-desktops"
GROUP: Final = "real-desktops"
PERSON: Final = "visitor"
MACHINES: Final = 2
MACHINE_MIB: Final = 256
START_S: Final = 60.0
"""for the daemon to answer"""
READY_S: Final = 300.0
"""for the first desktop; the golden one is booted before it, under emulation"""
LOOK_S: Final = 0.5

# the school's own desktops want more memory than this host has, so none of them is put here
_ROSTER: Final = {
    "groups.csv": f"name,title\n{GROUP},Real desktops 真实桌面\n",
    "users.csv": f"username,display_name,role,groups\n{PERSON},Visitor 访客,user,{GROUP}\n",
    "images.csv": f"name,version,size_gib,boot_mib\n{IMAGE},{VERSION},1,100\n",
    "hosts.csv": "name,engine,profile,cpus,memory_mib,overcommit_cpu,start_limit\n"
    f"{HOST},libvirt,{{profile}},{MACHINES},{MACHINES * MACHINE_MIB},4,{MACHINES}\n",
    "pools.csv": "name,title,architecture,kind,image,cpus,memory_mib,spares,max,log_off,"
    "disconnect_grace_s\n"
    f"{POOL_NAME},Real desktops 真实桌面,vdi,floating,{IMAGE}@{VERSION},1,{MACHINE_MIB},"
    f"0,{MACHINES},reset,900\n",
    "entitlements.csv": f"pool,group\n{POOL_NAME},{GROUP}\n",
}


class RealDesktops:
    """`image`: the golden one, a qcow2 file."""

    def __init__(self, data: Path, image: Path, steps: Steps) -> None:
        self._data = data
        self._image = image
        self._steps = steps

    async def settle(self, remote: Remote) -> None:
        """What an earlier run had is lost, and the campaign leaves the pool alone."""
        async for host in remote.every("hosts"):
            if host["name"] == HOST and host["state"] == "up":
                await remote.patch(path_of("hosts", HOST), {"state": "down"})
        async for pool in remote.every("pools"):
            if pool["name"] == POOL_NAME:
                await self._open(remote, spares=0)

    @asynccontextmanager
    async def running(self, remote: Remote) -> AsyncIterator[str]:
        """The pool is open within this block. Yields the visitor's password, new each time.

        Raises CommandError where it cannot be had here."""
        async with AsyncExitStack() as stack:
            with self._steps.step("real desktops") as step:
                host = at(self._data)
                await asyncio.to_thread(host.prepare, self._image)
                log = self._data / "logs" / "libvirt.log"
                process = await stack.enter_async_context(child("libvirt", host.command, log))
                await _answers(host, step)
                password = await self._given(remote, host)
                ready = await self._ready(remote, step)
                step.end(f"{ready} of {MACHINES} ready, real machines under QEMU")
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(must_not_end(process, "libvirt ended by itself"))
                yield password
                watch.cancel()

    async def _given(self, remote: Remote, host: RealHost) -> str:
        """The pool's records, and its person; answers the password."""
        texts = dict(_ROSTER)
        texts["hosts.csv"] = texts["hosts.csv"].format(profile=host.profile)
        async for known in remote.every("hosts"):
            # the folder was moved since, or this release reaches its machines otherwise
            if known["name"] == HOST and known["profile"] != host.profile:
                await remote.patch(path_of("hosts", HOST), {"profile": host.profile})
        await import_texts(remote, texts, check_only=False)
        await remote.patch(
            path_of("hosts", HOST), {"state": "up", "settings": {"labels": ["real"]}}
        )
        password = SystemIds().secret()
        await remote.post("users/passwords", {"passwords": {PERSON: password}})
        await self._open(remote, spares=MACHINES)
        return password

    async def _open(self, remote: Remote, *, spares: int) -> None:
        wishes: dict[str, Any] = {
            "enabled": spares > 0,
            "spares_min": spares,
            "settings": {"labels": ["real"]},
        }
        await remote.patch(path_of("pools", POOL_NAME), wishes)

    async def _ready(self, remote: Remote, step: Step) -> int:
        """How many are ready: one at least, unless it takes too long."""
        ready = 0
        try:
            async with asyncio.timeout(READY_S):
                while not ready:
                    step.note("the golden desktop boots once; the others begin in its memory")
                    await asyncio.sleep(LOOK_S)
                    pool = await remote.get(path_of("pools", POOL_NAME))
                    ready = pool["desktops"].get("ready", 0)
        except TimeoutError:
            pass
        return ready


async def _answers(host: RealHost, step: Step) -> None:
    try:
        async with asyncio.timeout(START_S):
            while not host.socket.exists():
                step.note("starting libvirt")
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise CommandError(
            "libvirt does not come up",
            detail=f"it does not answer after {START_S:.0f} s",
            advice="Its log: logs/libvirt.log in the data directory",
            code="cli.child_failed",
        ) from None

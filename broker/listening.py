"""How a server stops to listen without losing who is just coming in.

asyncio's `Server.close` fails connections that were accepted a moment before and are not made yet
(their transports assert that the server listens) and forgets their sockets: the client waits for an
answer until the garbage collector comes by.
"""

from __future__ import annotations

import asyncio
from typing import Final

_TURNS: Final = 2
"""of the event loop: within one, whoever was accepted becomes a connection"""


async def stop_listening(server: asyncio.Server) -> None:
    """Accept nobody any more, let those come in who were accepted, and close the door."""
    loop = asyncio.get_running_loop()
    for socket in server.sockets:
        loop.remove_reader(socket.fileno())
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()

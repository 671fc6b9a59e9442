"""Waiting for a session to change: one listener for the process, many waiters.

Hints may be lost, so a waiter also looks again by itself every LOOK_AGAIN_S.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from broker.domain.model import Session
from broker.limits import PLACE_ANSWER_S
from broker.services.kit import Kit

LOOK_AGAIN_S: Final = 2.0


class SessionWatch:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._waiters: dict[str, dict[asyncio.Event, None]] = {}
        self._closed = False

    def close(self) -> None:
        """The process stops: whoever waits gets what is, and nobody waits from now on."""
        self._closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.set()

    async def run(self) -> None:
        subscription = self._kit.events.subscribe("session")
        try:
            async for hint in subscription:
                if hint.topic == "missed":
                    for waiters in self._waiters.values():
                        for waiter in waiters:
                            waiter.set()
                    continue
                for waiter in self._waiters.get(str(hint.data.get("id")), ()):
                    waiter.set()
        finally:
            subscription.close()

    async def later_than(
        self,
        session_id: str,
        revision: int,
        wait_s: float,
        news: Callable[[Session], Awaitable[bool]] | None = None,
    ) -> Session | None:
        """The session once its revision is above `revision`, or as it is after `wait_s`.

        `news` says whether there is anything else to tell (a new place in the queue); it is asked
        only when PLACE_ANSWER_S has passed, for a queue that moves fast would end every wait.
        """
        deadline = self._kit.clock.monotonic() + wait_s
        changed = asyncio.Event()
        self._waiters.setdefault(session_id, {})[changed] = None
        try:
            while True:
                changed.clear()
                session = await self._kit.store.sessions.session(session_id)
                left_s = deadline - self._kit.clock.monotonic()
                if session is None or session.revision > revision:
                    return session
                if left_s <= 0 or self._closed:
                    return session
                waited_s = wait_s - left_s
                if news is not None and waited_s >= PLACE_ANSWER_S and await news(session):
                    return session
                try:
                    async with asyncio.timeout(min(left_s, LOOK_AGAIN_S)):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            waiters = self._waiters[session_id]
            waiters.pop(changed, None)
            if not waiters:
                del self._waiters[session_id]

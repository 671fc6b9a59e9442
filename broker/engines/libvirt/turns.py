"""Turns with a host's machines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from broker.domain.errors import EngineError
from broker.engines.libvirt.hosts import HostLink
from broker.engines.libvirt.machines import Machines
from broker.engines.turns import DesktopTurns
from broker.limits import LIBVIRT_GLANCE_S

_T = TypeVar("_T")


class Turn:
    """One caller's turn with one desktop. Its call of libvirt runs on when the caller leaves;
    `check` ends it before its next step."""

    def __init__(self, turns: Turns, key: str) -> None:
        self._turns = turns
        self._key = key
        self._over = False

    def check(self) -> None:
        if self._over:
            raise EngineError("nobody waits for this any more")

    async def do(
        self,
        link: HostLink,
        work: Callable[[Machines], _T],
        undo: Callable[[Machines], object] | None = None,
        *,
        unclaimed: Callable[[_T], object] | None = None,
        slow: bool = False,
        pool: str = "",
    ) -> _T:
        """`work` with the machines of that host. `undo`: done beside it when the caller leaves
        before it has ended; `unclaimed`: with what came of it then, at its end. `slow`, `pool`:
        see HostConnection.call."""

        def begin(connection: Any) -> _T:
            self.check()
            return work(link.machines(connection, self._turns.installation_id))

        outcome = self._turns.begin(self._key, link.connection.call(begin, slow=slow, pool=pool))
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            self._over = True
            if unclaimed is not None:
                outcome.add_done_callback(partial(_hand, unclaimed))
            if undo is not None:
                stop, installation_id = undo, self._turns.installation_id
                self._turns.aside(
                    link.connection.call(lambda one: stop(link.machines(one, installation_id)))
                )
            raise

    async def glance(self, link: HostLink, look: Callable[[Machines], _T]) -> _T | None:
        """`look`, which changes nothing, at that host; None if it does not answer soon."""
        installation_id = self._turns.installation_id
        try:
            async with asyncio.timeout(LIBVIRT_GLANCE_S):
                return await link.connection.call(
                    lambda connection: look(link.machines(connection, installation_id))
                )
        except (EngineError, TimeoutError):
            return None


def _hand(taker: Callable[[_T], object], outcome: asyncio.Future[_T]) -> None:
    if not outcome.cancelled() and outcome.exception() is None:
        taker(outcome.result())


class Turns(DesktopTurns):
    """`tasks`: the engine's, None while it is closed."""

    def __init__(self, installation_id: str) -> None:
        super().__init__(installation_id)
        self.tasks: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def next(self, key: str, deadline_s: float | None) -> AsyncIterator[Turn]:
        """The desktop's next turn. Past the deadline EngineError."""
        async with self.alone(key, deadline_s):
            yield Turn(self, key)

    def begin(self, key: str, call: Coroutine[Any, Any, _T]) -> asyncio.Future[_T]:
        """What becomes of the call, which goes on if nobody waits for it any more."""
        outcome: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        if self.tasks is None:
            call.close()
            raise EngineError("the engine is closed")
        self.begun(key, outcome)

        def settle(task: asyncio.Task[None]) -> None:
            if task.cancelled() and not outcome.done():
                outcome.cancel()

        async def run() -> None:
            try:
                outcome.set_result(await call)
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                outcome.set_exception(error)

        # an outcome that nobody waits for any more is nobody's error
        outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.tasks.create_task(run(), name=f"libvirt {key}").add_done_callback(settle)
        return outcome

    def aside(self, call: Coroutine[Any, Any, object]) -> None:
        """A call whose end nobody waits for."""

        async def run() -> None:
            with contextlib.suppress(EngineError):
                await call

        if self.tasks is None:
            call.close()
        else:
            self.tasks.create_task(run(), name="libvirt aside")

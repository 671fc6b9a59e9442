"""An event loop in virtual time: the seed says in which order ready callbacks run.

Time stands still while anything is ready, and jumps to the next timer when nothing is. There is
no input and output, no thread, no signal: what needs one of these raises NotImplementedError.
asyncio's own tasks, futures, timeouts, locks and queues run on it as they are.

A callback belongs to the owner in its context (OWNER). One whose owner is dead is never run:
this is how a process is killed at any await, without a `finally` of it being carried out.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, Final, Protocol, TypeVar, cast

Value = TypeVar("Value")

STANDSTILL_MAX: Final = 20_000
"""callbacks in one instant, past which something goes round in circles"""


class Owner(Protocol):
    """Something that tasks belong to and die with."""

    @property
    def alive(self) -> bool: ...


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class StuckError(Exception):
    """Nothing is ready and no timer is set, or the loop ran past its bound."""


class Call:
    """A callback that waits for its turn or its time. Serves as Handle and as TimerHandle."""

    __slots__ = ("_args", "_at", "_call", "_context", "_live")

    def __init__(
        self, call: Callable[..., Any], args: tuple[Any, ...], context: Context | None, at: float
    ) -> None:
        self._call = call
        self._args = args
        self._context = context
        self._at = at
        self._live = True

    def cancel(self) -> None:
        self._live = False

    def cancelled(self) -> bool:
        return not self._live

    def when(self) -> float:
        return self._at

    @property
    def live(self) -> bool:
        return self._live

    @property
    def dead(self) -> bool:
        """Whether its owner is."""
        if self._context is None:
            return False
        owner = self._context.get(OWNER)
        return owner is not None and not owner.alive

    def run(self) -> None:
        if self._context is None:
            self._call(*self._args)
        else:
            self._context.run(self._call, *self._args)


class SimLoop(asyncio.AbstractEventLoop):
    """`chance` permutes what is ready; `on_fault` hears what asyncio would log as an error."""

    def __init__(
        self, chance: Random, on_fault: Callable[[str, BaseException | None], None]
    ) -> None:
        self._draw = chance.random
        self._on_fault = on_fault
        self._ready: list[Call] = []
        self._left: list[Call] = []
        """what the dead would have done: a task without its next step could not even be ended"""
        self._timers: list[tuple[float, int, Call]] = []
        self._timer_no = 0
        self._now = 0.0
        self._closed = False
        self.tasks: list[asyncio.Task[Any]] = []
        """every task that was made, until `forget_done` is called"""
        self.callbacks = 0
        """callbacks run so far"""

    @classmethod
    def seeded(
        cls, chance: Random, on_fault: Callable[[str, BaseException | None], None]
    ) -> SimLoop:
        """A loop. What it leaves out of the interface of asyncio is left out on purpose."""
        return cls(chance, on_fault)

    # ------------------------------------------------------------------ what asyncio asks

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        call = Call(callback, args, context, 0.0)
        self._ready.append(call)
        return cast("asyncio.Handle", call)

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        call = Call(callback, args, context, when)
        self._timer_no += 1
        heapq.heappush(self._timers, (when, self._timer_no, call))
        return cast("asyncio.TimerHandle", call)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Value],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Value]:
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        self.tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._on_fault(str(context.get("message")), context.get("exception"))

    # ------------------------------------------------------------------------- running

    def task(
        self, work: Coroutine[Any, Any, Value], owner: Owner | None, name: str = "task"
    ) -> asyncio.Task[Value]:
        """A task that belongs to `owner`, and every task that it makes."""
        context = copy_context()
        context.run(OWNER.set, owner)
        return self.create_task(work, name=name, context=context)

    def spawn(
        self, work: Coroutine[Any, Any, Any], owner: Owner | None, name: str = "task"
    ) -> None:
        """Likewise, for one that nobody waits for."""
        _ = self.task(work, owner, name)

    def forget_done(self) -> None:
        """Let go of tasks that are over."""
        self.tasks = [task for task in self.tasks if not task.done()]

    def run(self, work: Coroutine[Any, Any, Value], *, callbacks_max: int) -> Value:
        """Run until `work` is over.

        Raises:
            StuckError: it can never be, or took more than `callbacks_max` callbacks.
        """
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            task = self.create_task(work)
            self._run_until(task, callbacks_max)
            return task.result()
        finally:
            events._set_running_loop(before)

    def _run_until(self, task: asyncio.Task[Any], callbacks_max: int) -> None:
        ready, draw, count, moved_at = self._ready, self._draw, 0, 0
        while not task.done():
            waiting = len(ready)
            if waiting > 1:
                place = int(draw() * waiting)
                ready[place], ready[-1] = ready[-1], ready[place]
            elif not waiting:
                self._jump()
                moved_at = count
                continue
            call = ready.pop()
            if call.dead:
                self._left.append(call)
            elif call.live:
                call.run()
            count += 1
            if count > callbacks_max:
                raise StuckError(f"not over after {callbacks_max} callbacks")
            if count - moved_at > STANDSTILL_MAX:
                raise StuckError(f"{STANDSTILL_MAX} callbacks, and no time has passed")
        self.callbacks += count

    def _jump(self) -> None:
        """Move time to the next timer; all that are due then become ready."""
        timers = self._timers
        while timers and not timers[0][2].live:
            heapq.heappop(timers)
        if not timers:
            raise StuckError("nothing is ready and no timer is set")
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            call = heapq.heappop(timers)[2]
            if call.live:
                self._ready.append(call)

    def sweep_up(self, rounds_max: int) -> None:
        """End every task that is left, so that nothing is destroyed while it waits. What they
        do meanwhile is not part of the history."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for _ in range(rounds_max):
                self.forget_done()
                if not self.tasks:
                    return
                for task in self.tasks:
                    task.cancel()
                self._ready += self._left
                self._left.clear()
                while self._ready:
                    call = self._ready.pop()
                    if call.live:
                        call.run()
        finally:
            events._set_running_loop(before)

"""Moves bytes between the port (or the link) and the agent, and has done what the agent decides.

One thread owns the port and the agent; requests are carried out on threads of their own, at most
`limits.ASKS_MAX`. Nothing here waits for the engine: what it does not read waits in a bounded
outbox.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections import deque
from typing import NamedTuple

from agents.guest import core, limits
from agents.guest.clock import Clock
from agents.guest.machine import Machine, Outcome
from agents.guest.messages import Ask, Lines
from agents.guest.transport import Transport


class Outbox:
    """Lines that wait for the engine. The one that is half written stays; the oldest others go
    when there are too many, and a State or Hello gives way to the next."""

    def __init__(self) -> None:
        self._waiting: deque[core.Say] = deque()
        self._writing = b""

    def put(self, say: core.Say) -> None:
        if say.replaces:
            self._waiting = deque(one for one in self._waiting if one.replaces != say.replaces)
        self._waiting.append(say)
        while len(self._waiting) > limits.OUTBOX_LINES_MAX:
            self._waiting.popleft()

    def clear(self) -> None:
        self._waiting.clear()
        self._writing = b""

    def __bool__(self) -> bool:
        return bool(self._writing or self._waiting)

    def flush(self, port: Transport) -> None:
        """Write what the port takes now."""
        while self:
            if not self._writing:
                self._writing = self._waiting.popleft().line
            taken = port.write(self._writing)
            self._writing = self._writing[taken:]
            if taken == 0:
                return


class Shell:
    """Runs one agent on one machine and one port."""

    def __init__(
        self, *, agent: core.Agent, machine: Machine, port: Transport, clock: Clock
    ) -> None:
        self._agent = agent
        self._machine = machine
        self._port = port
        self._clock = clock
        self._lines = Lines()
        self._outbox = Outbox()
        self._finished: queue.SimpleQueue[tuple[str, Outcome]] = queue.SimpleQueue()
        self._observe_due = 0.0
        self._connected = False

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`; the port may come and go."""
        while not stopping.is_set():
            self.turn()
        self._port.close()

    def turn(self) -> None:
        """One look at everything; waits at most WAKE_S for the port."""
        data = self._port.wait(limits.WAKE_S, writable=bool(self._outbox))
        self._link(self._port.connected)
        for line in self._lines.feed(data):
            self._carry_out(self._agent.received(line))
        while not self._finished.empty():
            self._carry_out(self._agent.finished(*self._finished.get()))
        if self._clock.monotonic() >= self._observe_due:
            self._observe()
        if self._connected:
            self._outbox.flush(self._port)

    def _link(self, connected: bool) -> None:  # noqa: FBT001 -- what it is now
        if connected == self._connected:
            return
        self._connected = connected
        self._lines = Lines()
        self._outbox.clear()
        if connected:
            self._carry_out(self._agent.opened(self._clock.monotonic()))
        else:
            self._carry_out(self._agent.closed())

    def _observe(self) -> None:
        now = self._clock.monotonic()
        self._observe_due = now + limits.OBSERVE_S
        self._carry_out(self._agent.observed(now, self._machine.observe()))

    def _carry_out(self, commands: list[NamedTuple]) -> None:
        for command in commands:
            if isinstance(command, core.Say):
                self._outbox.put(command)
            elif isinstance(command, core.Observe):
                self._observe()
            elif isinstance(command, core.Adopt):
                problem = self._machine.adopt(command.identity, changed=command.changed)
                self._carry_out(self._agent.adopted(self._clock.monotonic(), problem))
            elif isinstance(command, core.KeepTime):
                self._machine.keep_time(command.time_ms)
            elif isinstance(command, core.Perform):
                threading.Thread(target=self._perform, args=(command.ask,), daemon=True).start()

    def _perform(self, ask: Ask) -> None:
        try:
            outcome = self._machine.perform(ask)
        except Exception as error:  # noqa: BLE001 -- a request without an answer would never end
            sys.stderr.write(f"{ask.what}: {error!r}\n")
            outcome = Outcome(ok=False, detail="the agent could not do it")
        self._finished.put((ask.id, outcome))

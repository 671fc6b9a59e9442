"""What the agent says and when: events in, commands out, no I/O, time passed in.

- Hello when the engine has opened the port, again and again until somebody identifies this
  desktop, and once after every Identify: either side may have spoken into nothing.
- State only as somebody: never before the first Identify, at each change, and every few seconds.
- A machine resumed from saved memory still believes that it is its golden desktop; the next
  Identify, with another desktop or generation, takes it over like a new one.
- A request that comes twice is done once and answered each time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from agents.guest import limits, messages
from agents.guest.machine import Observation, Outcome
from agents.guest.messages import Ask, Identify, Time


class Say(NamedTuple):
    """Put a line in the outbox. `replaces`: a line of that kind that still waits gives way."""

    line: bytes
    replaces: str = ""


class Adopt(NamedTuple):
    """Become this desktop, then tell `adopted`. `changed`: it was another, or nobody."""

    identity: Identify
    changed: bool


class KeepTime(NamedTuple):
    """The broker's clock says that."""

    time_ms: int


class Perform(NamedTuple):
    """Do this, and tell `finished` some time."""

    ask: Ask


class Observe(NamedTuple):
    """Look at the machine now, and tell `observed`."""


class Agent:
    """The agent of one guest."""

    def __init__(self, *, boot_id: str, system: str, version: str) -> None:
        self._boot_id = boot_id
        self._system = system
        self._version = version
        self._identity: Identify | None = None
        self._problem = ""
        self._open = False
        self._hello_due = 0.0
        self._state_due = 0.0
        self._told: tuple[object, ...] | None = None
        self._doing: set[str] = set()
        self._answers: OrderedDict[str, Outcome] = OrderedDict()

    def opened(self, now: float) -> list[NamedTuple]:
        """The engine has opened its side. The newline ends what an earlier one left unread."""
        self._open = True
        self._told = None
        return [Say(b"\n"), self._hello(now), Observe()]

    def closed(self) -> list[NamedTuple]:
        """The engine has gone."""
        self._open = False
        return []

    def received(self, line: bytes) -> list[NamedTuple]:
        """A line came; what is no message of the protocol is passed over."""
        said = messages.parse(line)
        if isinstance(said, Identify):
            return self._identified(said)
        if isinstance(said, Time):
            return [KeepTime(said.time_ms)]
        if isinstance(said, Ask):
            return self._asked(said)
        return []

    def _identified(self, said: Identify) -> list[NamedTuple]:
        was = self._identity
        changed = was is None or (was.desktop_id, was.generation, was.name) != (
            said.desktop_id,
            said.generation,
            said.name,
        )
        if was is not None and was.desktop_id != said.desktop_id:
            said = said._replace(woken=True)
        self._identity = said
        self._told = None
        return [Adopt(said, changed)]

    def adopted(self, now: float, problem: str) -> list[NamedTuple]:
        """The machine is who it was told to be, but for this problem."""
        self._problem = problem
        return [self._hello(now), Observe()]

    def _asked(self, ask: Ask) -> list[NamedTuple]:
        if ask.id in self._answers:
            return [self._done(ask.id)]
        if ask.id in self._doing:
            return []
        if len(self._doing) >= limits.ASKS_MAX:
            return [Say(messages.done(ask_id=ask.id, ok=False, detail="busy with other requests"))]
        self._doing.add(ask.id)
        return [Perform(ask)]

    def finished(self, ask_id: str, outcome: Outcome) -> list[NamedTuple]:
        """What came of a request."""
        self._doing.discard(ask_id)
        self._answers[ask_id] = outcome
        while len(self._answers) > limits.ANSWERS_MAX:
            self._answers.popitem(last=False)
        return [self._done(ask_id), Observe()]

    def observed(self, now: float, seen: Observation) -> list[NamedTuple]:
        """How the machine is; also the agent's clock: called every OBSERVE_S."""
        if not self._open:
            return []
        if self._identity is None:
            return [self._hello(now)] if now >= self._hello_due else []
        detail = "; ".join(filter(None, (self._problem, seen.detail)))
        told = (seen.ready, seen.user, seen.addresses, detail)
        if told == self._told and now < self._state_due:
            return []
        self._told = told
        self._state_due = now + limits.STATE_S
        line = messages.state(
            desktop_id=self._identity.desktop_id,
            generation=self._identity.generation,
            ready=seen.ready,
            user=seen.user,
            idle_s=seen.idle_s,
            idle_whole=seen.idle_whole,
            addresses=seen.addresses,
            detail=detail,
        )
        return [Say(line, "state")]

    def _hello(self, now: float) -> Say:
        self._hello_due = now + limits.HELLO_S
        line = messages.hello(
            boot_id=self._boot_id,
            system=self._system,
            agent_version=self._version,
            desktop_id=self._identity.desktop_id if self._identity else "",
            generation=self._identity.generation if self._identity else 0,
        )
        return Say(line, "hello")

    def _done(self, ask_id: str) -> Say:
        outcome = self._answers[ask_id]
        return Say(messages.done(ask_id=ask_id, ok=outcome.ok, detail=outcome.detail))

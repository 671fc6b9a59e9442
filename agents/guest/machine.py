"""What the agent needs of the system that it runs on: one class to write for each platform."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from agents.guest.messages import Ask, Identify


class Observation(NamedTuple):
    """How the machine is. `ready`: somebody can work in it. `user`: who is logged on, empty for
    nobody. `idle_s`: since the last input, None if unknown; `idle_whole`: whatever way it came,
    not only through the machine's own devices."""

    ready: bool
    user: str = ""
    idle_s: float | None = None
    addresses: tuple[str, ...] = ()
    detail: str = ""
    idle_whole: bool = False


class Outcome(NamedTuple):
    """What came of a request; `detail` says why not."""

    ok: bool
    detail: str = ""


class Machine(ABC):
    """The platform. Nothing of it raises: what went wrong is told in words."""

    @abstractmethod
    def boot_id(self) -> str:
        """The same until the system starts again; a resume from saved memory keeps it."""

    @abstractmethod
    def system(self) -> str:
        """Name and version of the system, for people."""

    @abstractmethod
    def observe(self) -> Observation:
        """How it is now; takes milliseconds."""

    @abstractmethod
    def adopt(self, identity: Identify, *, changed: bool) -> str:
        """Become this desktop: clock and entropy at each call; when `changed`, name and network
        too. `identity.woken`: what the system believes of its clock is of before it was saved.
        Does not wait for the network. Returns what failed, empty if nothing did; what became of
        the clock is told by `observe`."""

    @abstractmethod
    def keep_time(self, told_ms: int) -> None:
        """The broker's wall clock says that (ms since 1970): correct the machine's where it is
        off, unless a time daemon keeps it. What could not be done is told by `observe`."""

    @abstractmethod
    def perform(self, ask: Ask) -> Outcome:
        """Do what was asked. Called on a thread of its own; takes seconds."""

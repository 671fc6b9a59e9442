"""What makes desktops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Protocol

from broker.domain.model import Desktop, Host, Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What an engine is asked to do. Repeating one id must not do the thing twice."""

    id: str
    desktop: Desktop
    host: Host
    image: Image
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineReport:
    """What a machine's agent (or its engine) says: `ready` counts only for its generation."""

    desktop_id: str
    generation: int
    ready: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that the engine knows, as tagged when it was made."""

    desktop_id: str
    generation: int
    running: bool


class Console(Protocol):
    """The desktop's display: frames out, input in. Nothing in it is parsed by the gateway."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as of when it was opened."""

    async def receive(self) -> bytes:
        """The next frame (at most FRAME_BYTES_MAX); b"" when the desktop closed it."""

    async def send(self, data: bytes) -> None:
        """Input from the person."""

    async def close(self) -> None: ...


class Engine(Protocol):
    """Makes desktops. Every verb is idempotent under the operation's id and may be called again
    after a restart of the broker; each raises EngineError when it could not be done."""

    @property
    def name(self) -> str: ...

    @property
    def profiles(self) -> Collection[str]:
        """Names of the host profiles that it knows; none: a host's profile is free text. What
        follows a "?" in a host's profile is the engine's own (knobs)."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def create(self, operation: Operation) -> None:
        """Make and start the machine; returns when it exists. A MachineReport follows."""

    async def reset(self, operation: Operation) -> None:
        """Bring the machine back to its image under the desktop's (new) generation and start it;
        returns when that is under way. A MachineReport follows. Makes it if it is missing."""

    async def destroy(self, operation: Operation) -> None:
        """Remove the machine; a machine that does not exist is success."""

    async def adopt(self, desktop: Desktop, host: Host) -> None:
        """After a restart: this machine should exist. One that is not ready reports later."""

    async def machines(self) -> tuple[Machine, ...]:
        """Every machine that carries this installation's tag."""

    async def console(self, desktop: Desktop) -> Console:
        """Open the display. Raises EngineError if the machine does not run."""

    def reports(self) -> AsyncIterator[MachineReport]:
        """Reports as they come, until `close`."""

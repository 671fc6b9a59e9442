"""What makes desktops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from broker.domain.errors import EngineError
from broker.domain.features import Feature
from broker.domain.model import Desktop, Host, Image, Resources
from broker.domain.settings import EQUAL_SHARES, Limits, Share
from broker.domain.storage import OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What an engine is asked to do. Repeating one id must not do the thing twice.

    The desktop's generation is the fence: an engine that knows the machine in a later
    generation refuses (StaleGenerationError) whatever the operation asks. `guarantee`,
    `weights`, `limits` and `share_pages` are the pool's (PoolSettings); an engine that cannot hold
    to one of these leaves it out. `storage`: the class that a new disk is made in, OWN for that of
    pools which name none; an engine that has no such class there refuses.
    """

    id: str
    desktop: Desktop
    host: Host
    image: Image
    deadline_s: float
    guarantee: Share = field(default_factory=Share)
    weights: Share = EQUAL_SHARES
    limits: Limits = field(default_factory=Limits)
    share_pages: bool = True
    storage: str = OWN
    restart: bool = False
    """of a resume: a machine that runs is switched off first, as it may hang"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineReport:
    """What a machine's agent (or its engine) says: `ready` counts only for its generation.

    `operation_id`: what started the machine, or asked about it again; empty where the engine
    cannot tell. It tells a late report of the boot from the one that a resume waits for, since
    both are of one generation.
    """

    desktop_id: str
    generation: int
    ready: bool
    detail: str = ""
    operation_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that the engine knows, as tagged when it was made."""

    desktop_id: str
    generation: int
    running: bool
    host_id: str = ""
    suspended: bool = False
    users: tuple[str, ...] = ()
    """sessions whose data lie on it since it was last made fresh"""


class Console(Protocol):
    """The desktop's display: frames out, input in. Nothing in it is parsed by the gateway."""

    @property
    def protocol(self) -> str:
        """What flows: "simulated" (frames.py of the simulated engine, a whole frame at a time),
        or "vnc" (RFB as the machine's server speaks it, from its greeting on, cut anywhere)."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as of when it was opened; (0, 0): the client learns it."""

    async def receive(self) -> bytes:
        """The next frame (at most FRAME_BYTES_MAX); b"" when the desktop closed it."""

    async def send(self, data: bytes) -> None:
        """Input from the person."""

    async def close(self) -> None: ...


class PartialListError(EngineError):
    """Some hosts did not say which machines they have. `machines`: those of the others; `silent`:
    the ids of the hosts that did not answer."""

    code = "engine.partial_list"
    title = "Not all hosts listed their machines"
    advice = "Nothing to do: those that did not answer are asked again."

    def __init__(self, machines: Sequence[Machine], silent: Mapping[str, str]) -> None:
        names = "; ".join(f"{host_id}: {why}" for host_id, why in sorted(silent.items()))
        super().__init__(f"not all hosts listed their machines ({names})")
        self.machines = tuple(machines)
        self.silent = frozenset(silent)


class Engine(Protocol):
    """Makes desktops. Every verb is idempotent under the operation's id and may be called again
    after a restart of the broker; each raises EngineError when it could not be done, and
    UnsupportedError, at once, for what `features` does not name.

    A verb finds the machine wherever it is: the operation's host is where the store believes it.
    Where a MachineReport follows, one follows a repeated call, too: who asks again may have
    missed the first.
    """

    @property
    def name(self) -> str: ...

    @property
    def profiles(self) -> Collection[str]:
        """Names of the host profiles that it knows; none: a host's profile is free text. What
        follows a "?" in a host's profile is the engine's own (knobs)."""

    def check_profile(self, profile: str) -> None:
        """Whether a host may have this profile, knobs and all: without asking any host, and from
        any thread. Raises EngineError naming what is not understood."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def create(self, operation: Operation) -> None:
        """Make and start the machine; returns when it exists. A MachineReport follows."""

    async def reset(self, operation: Operation) -> None:
        """Bring the machine back to its image under the desktop's (new) generation and start it;
        returns when that is under way. A MachineReport follows. Makes it if it is missing."""

    async def destroy(self, operation: Operation) -> None:
        """Remove the machine; a machine that does not exist is success."""

    def features(self, host: Host) -> frozenset[Feature]:
        """What it can do on this host."""

    async def suspend(self, operation: Operation) -> None:
        """Save the machine's memory and free its host's; returns when it is suspended."""

    async def resume(self, operation: Operation) -> None:
        """Let a suspended machine run, or start one that is off, as it is: what lies on its disk
        stays. Returns when that is under way; a MachineReport follows. A machine that runs
        already is success, one that does not exist EngineError: it is never made anew. One of an
        earlier generation, which was to be made fresh or reverted and was not, goes on as it is
        under the operation's, where the engine has Feature.SNAPSHOT. Only a suspended machine
        needs Feature.SUSPEND."""

    async def migrate(self, operation: Operation, to: Host) -> None:
        """Move a running machine to another host without stopping it; returns when it is there.
        A machine that is there already is success."""

    async def resize(self, operation: Operation, to: Resources) -> None:
        """Change what a running machine may take."""

    async def snapshot(self, operation: Operation, snapshot_id: str) -> int | None:
        """Keep the machine as it is at this moment, its disk and, if it has some, its memory; one
        that runs stands still meanwhile and goes on, one that is suspended stays so. Answers the
        bytes that this took on the host's disk, None where the engine does not know. One that is
        there already is success. It goes with the machine's disk, and moves with the machine."""

    async def revert(self, operation: Operation, snapshot_id: str) -> None:
        """Bring the machine back to that snapshot under the desktop's (new) generation, wherever
        it is, and let it run; the other snapshots stay. Returns when that is under way; a
        MachineReport follows. Sessions of which it has data (Machine.users) are those of then.
        EngineError where there is no such snapshot: the machine stays as it is.
        StaleGenerationError where it goes on as it is under that generation by now (`resume`): it
        may be somebody's."""

    async def drop_snapshot(self, operation: Operation, snapshot_id: str) -> None:
        """Forget that snapshot, half-made or whole, and free its room; the machine goes on as it
        is. One that does not exist is success."""

    async def power(self, operation_id: str, host: Host, *, on: bool, deadline_s: float) -> None:
        """Switch a host on or off; returns when it answers, or is off. EngineError when machines
        still run on a host that is to go off."""

    async def discard(self, machine: Machine) -> None:
        """Remove a machine that nobody should have; one that does not exist is success, one of a
        later generation is StaleGenerationError."""

    async def adopt(self, desktop: Desktop, host: Host) -> None:
        """After a restart: this machine should exist. One that is not ready reports later."""

    async def machines(self) -> tuple[Machine, ...]:
        """Every machine that carries this installation's tag: one that is missing from the answer
        counts as gone, except on hosts whose records (as `features` was given them last) say that
        nothing runs there (HOST_RUNS): those are listed as not running, or not at all.

        Raises:
            PartialListError: some hosts did not answer, or have profiles that this engine cannot
            read (a newer broker's); what is missing says nothing of those.
            EngineError: it cannot tell of any.
        """

    def displays(self, host: Host) -> frozenset[str]:
        """What `console` can open on that host, as Console.protocol names it."""

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Console:
        """Open the display for that session, whose data lie on the machine from then on
        (Machine.users). `protocol`: one of `displays`; empty: the machine's own, which browsers
        show. Raises EngineError if the machine does not run, UnsupportedError for a protocol that
        it does not have there."""

    def reports(self) -> AsyncIterator[MachineReport]:
        """Reports as they come, until `close`."""

"""What the sessions of all three architectures have in common at the endpoint."""

from __future__ import annotations

from typing import ClassVar, Protocol

from agents.chance import Chance
from agents.core import commands, events
from agents.core.timers import Timers
from agents.core.turn import Turn
from broker import wire

OWNER = "session "
"""what the timers' owner of a session begins with"""


class Host(Protocol):
    """The endpoint, as its sessions see it."""

    @property
    def timers(self) -> Timers: ...

    @property
    def chance(self) -> Chance: ...

    @property
    def link_is_up(self) -> bool: ...

    def tell(self, turn: Turn, message: wire.FromAgent, *, keep: bool = True) -> int:
        """Send a message; while the link is down it waits for the next one if `keep`.

        Returns its length in bytes.
        """

    def deadline(self, server_ms: int) -> float:
        """The monotonic instant of a server's time."""

    def next_ref(self) -> int:
        """A number that no earlier try of this endpoint had."""

    def length_s(self, step: str) -> float:
        """How long a simulated step takes this time, in seconds."""

    def pause_s(self) -> float:
        """A pause of the simulated person, in seconds."""

    def failed(self, turn: Turn, session: Session, code: str, detail: str) -> None:
        """The session cannot go on; forget it."""

    def forget(self, turn: Turn, session: Session) -> None:
        """The session is somewhere else by now; nothing is to be said."""

    def renew_link(self, turn: Turn, why: str) -> None:
        """Connect anew, so that the broker orders anew what it wants here."""


class Session:
    """One session at this endpoint, from the order to bring it up to its end.

    A subclass is one architecture's steps. It answers events and timers, and calls `phase` when
    a step is done, `live` when the person has the desktop, and `fail` when it cannot go on.
    """

    architecture: ClassVar[str]
    kind: ClassVar[str]
    """the kind of endpoint that can carry it"""

    __slots__ = ("_host", "_phase_at", "control", "display", "image", "is_live", "order", "ticket")

    def __init__(self, host: Host, order: wire.Start, now: float) -> None:
        self._host = host
        self._phase_at = now
        self.order = order
        self.ticket = order.ticket
        self.is_live = False
        self.control = 0
        self.display = 0
        self.image = 0

    @property
    def id(self) -> str:
        return self.order.session_id

    @property
    def generation(self) -> int:
        return self.order.generation

    @property
    def carried(self) -> bool:
        """False while there is nothing of it here but the hope for another ticket."""
        return True

    def idle_s(self, now: float) -> float | None:
        """Seconds since the person's last input; None where there is nobody, or it is not known."""

    def take_traffic(self, idle_s: float | None = None) -> wire.SessionTraffic:
        """Bytes since this was last called."""
        taken = wire.SessionTraffic(
            session_id=self.id,
            control=self.control,
            display=self.display,
            image=self.image,
            idle_s=None if idle_s is None else round(idle_s, 1),
        )
        self.control = self.display = self.image = 0
        return taken

    # ------------------------------------------------------- answered by subclasses

    def begin(self, turn: Turn) -> None:
        """The order has come for the first time."""
        raise NotImplementedError

    def again(self, turn: Turn, order: wire.Start) -> None:
        """The same order again: carry on, with its ticket where a new one is needed."""
        raise NotImplementedError

    def granted(self, turn: Turn, grant: wire.Grant) -> None:
        """The answer to Redeem."""

    def on(self, turn: Turn, event: events.SessionEvent) -> None:
        """Something happened that this session asked for."""

    def timer(self, turn: Turn, name: str) -> None:
        """A deadline of this session has come."""

    def link_up(self, turn: Turn) -> None:
        """The broker is back."""
        if self.is_live:
            self.say_live(turn)

    def link_down(self, turn: Turn) -> None:
        """The broker is gone."""

    def teardown(self, turn: Turn) -> None:
        """Let go of everything outside."""

    # ------------------------------------------------------------ called by them

    def tell(self, turn: Turn, message: wire.FromAgent, *, keep: bool = True) -> None:
        self.control += self._host.tell(turn, message, keep=keep)

    def set_timer(self, turn: Turn, name: str, in_s: float) -> None:
        self._host.timers.set(OWNER + self.id, name, turn.now + in_s)

    def cancel_timer(self, name: str) -> None:
        self._host.timers.cancel(OWNER + self.id, name)

    def phase(self, turn: Turn, name: str, *, down: int = 0, up: int = 0) -> None:
        """A step is done; the next one begins now."""
        report = wire.Report(
            session_id=self.id,
            generation=self.generation,
            phase=name,
            took_ms=round((turn.now - self._phase_at) * 1000, 3),
            bytes_down=down,
            bytes_up=up,
        )
        self._phase_at = turn.now
        self.tell(turn, report)

    def live(self, turn: Turn) -> None:
        self.is_live = True
        turn.do(commands.Note(what="live", architecture=self.architecture))
        self.say_live(turn)

    def say_live(self, turn: Turn) -> None:
        """Not kept for later: the next link begins with who is live then."""
        live = wire.Live(session_id=self.id, generation=self.generation)
        self.tell(turn, live, keep=False)

    def fail(self, turn: Turn, code: str, detail: str = "") -> None:
        self._host.failed(turn, self, code, detail)

"""The endpoint's own desktops, between sessions: bring them back to their image, once each.

Only IDV and VOI desktops are here; those of VDI live on the server.
"""

from __future__ import annotations

from typing import Protocol

from agents import limits
from agents.core import commands
from agents.core.timers import Timers
from agents.core.turn import Turn
from broker import wire

OWNER = "desktop "
"""what the timers' owner of a desktop begins with"""


class Host(Protocol):
    """The endpoint, as its desktops see it."""

    @property
    def timers(self) -> Timers: ...

    def tell(self, turn: Turn, message: wire.FromAgent, *, keep: bool = True) -> int: ...

    def length_s(self, step: str) -> float: ...


class _Desktop:
    __slots__ = ("fresh", "resetting", "waiting")

    def __init__(self) -> None:
        self.fresh = -1
        self.resetting: int | None = None
        self.waiting: wire.Start | None = None


class Desktops:
    """What is known of each desktop: the generation it is fresh as, and a reset under way."""

    __slots__ = ("_by_id", "_host")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._by_id: dict[str, _Desktop] = {}

    def newest(self, desktop_id: str) -> int:
        """The newest generation that was made or is being made; -1 if none is known."""
        desktop = self._by_id.get(desktop_id)
        if desktop is None:
            return -1
        return desktop.fresh if desktop.resetting is None else desktop.resetting

    def hold(self, order: wire.Start) -> bool:
        """Keep an order until the reset of its desktop is done, if one is under way."""
        desktop = self._by_id.get(order.desktop_id)
        if desktop is None or desktop.resetting is None:
            return False
        desktop.waiting = order
        return True

    def drop(self, session_id: str) -> None:
        """An order that waits is not wanted any more."""
        for desktop in self._by_id.values():
            if desktop.waiting is not None and desktop.waiting.session_id == session_id:
                desktop.waiting = None

    def make_fresh(self, turn: Turn, order: wire.MakeFresh) -> None:
        """Begin, carry on, or answer at once. The caller has ended what ran on the desktop."""
        if order.generation < self.newest(order.desktop_id):
            return
        desktop = self._by_id.setdefault(order.desktop_id, _Desktop())
        if desktop.resetting is None and desktop.fresh == order.generation:
            self._say_fresh(turn, order.desktop_id, order.generation)
        elif desktop.resetting != order.generation:
            desktop.resetting = order.generation
            due = turn.now + self._host.length_s("reset")
            self._host.timers.set(OWNER + order.desktop_id, "reset", due)
            self._forget_oldest()

    def timer(self, turn: Turn, desktop_id: str) -> wire.Start | None:
        """A reset is done. Returns the order that waited for it, if it is still good."""
        desktop = self._by_id.get(desktop_id)
        if desktop is None or desktop.resetting is None:
            return None
        desktop.fresh, desktop.resetting = desktop.resetting, None
        turn.do(commands.Note(what="fresh"))
        self._say_fresh(turn, desktop_id, desktop.fresh)
        waiting, desktop.waiting = desktop.waiting, None
        if waiting is not None and waiting.generation < desktop.fresh:
            return None
        return waiting

    def _say_fresh(self, turn: Turn, desktop_id: str, generation: int) -> None:
        self._host.tell(turn, wire.Fresh(desktop_id=desktop_id, generation=generation))

    def _forget_oldest(self) -> None:
        idle = [key for key, desktop in self._by_id.items() if desktop.resetting is None]
        for key in idle[: max(len(self._by_id) - limits.DESKTOPS_MAX, 0)]:
            del self._by_id[key]

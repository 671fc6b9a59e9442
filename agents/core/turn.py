"""One call of the core: the time it happens at, and the commands it makes."""

from __future__ import annotations

from agents.core.commands import Command


class Turn:
    """`now`: monotonic seconds. `commands`: in the order in which they are to be carried out."""

    __slots__ = ("commands", "now")

    def __init__(self, now: float) -> None:
        self.now = now
        self.commands: list[Command] = []

    def do(self, command: Command) -> None:
        self.commands.append(command)

"""Links of agents that have no port into their machine and connect to the broker by the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class GuestAttendance(Protocol):
    """One engine's end of one desktop's link, until that ends."""

    async def linked(self) -> None:
        """Returns once the agent is linked to this process."""

    async def send(self, line: bytes) -> None:
        """A line to the agent. Raises EngineError when it is not linked any more, or takes
        nothing."""

    def close(self) -> None:
        """Listen no more; the agent's link stays."""


class GuestLinks(Protocol):
    """The agents that are linked to this process, as engines see them."""

    def given(self, desktop_id: str, generation: int) -> Mapping[str, str]:
        """What a machine of that desktop and generation must find for its agent to link up: names
        of environment variables -> values. Whoever has it can speak as that agent."""

    def attend(
        self,
        desktop_id: str,
        generation: int,
        said: Callable[[bytes], object],
        gone: Callable[[], object],
    ) -> GuestAttendance:
        """Listen to that desktop's agent. `said`: called on the loop with each line, once it is
        linked; `gone`: called once when that link has ended. The latest who attends a desktop is
        the one; a link of an earlier generation is closed."""

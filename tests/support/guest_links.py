"""The links of guest agents, played by a test: each agent is linked as soon as it is attended."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker import guest_wire
from broker.ports import GuestAttendance


class Links:
    """The agents that are linked, played by the test."""

    def __init__(self) -> None:
        self.attending: dict[tuple[str, int], Attending] = {}

    def given(self, desktop_id: str, generation: int) -> Mapping[str, str]:
        return {"TRIVIUM_TICKET": f"{desktop_id}.{generation}", "TRIVIUM_BROKER": "https://desk"}

    def attend(
        self, desktop_id: str, generation: int, said: Callable[[bytes], object],
        gone: Callable[[], object],
    ) -> GuestAttendance:  # fmt: skip
        one = self.attending[desktop_id, generation] = Attending(said)
        return one


class Attending:
    def __init__(self, said: Callable[[bytes], object]) -> None:
        self.said = said
        self.heard: list[guest_wire.ToGuest | None] = []

    async def linked(self) -> None:
        """At once."""

    async def send(self, line: bytes) -> None:
        self.heard.append(guest_wire.decode_to_guest(line))

    def close(self) -> None: ...

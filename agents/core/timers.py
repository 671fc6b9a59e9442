"""One endpoint's deadlines. The shell asks for the next one and says when it has come."""

from __future__ import annotations

from math import inf


class Timers:
    """Deadlines by (owner, name), in monotonic seconds. The link's owner is "",
    a session's and a desktop's begin with what they are: ids come from outside and may be alike."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], float] = {}

    def set(self, owner: str, name: str, at: float) -> None:
        """Set or move a deadline."""
        self._at[owner, name] = at

    def cancel(self, owner: str, name: str) -> None:
        self._at.pop((owner, name), None)

    def cancel_all(self, owner: str) -> None:
        for key in [key for key in self._at if key[0] == owner]:
            del self._at[key]

    def clear(self) -> None:
        self._at.clear()

    def due(self) -> float:
        """When the next deadline is; infinity when there is none."""
        return min(self._at.values(), default=inf)

    def pop(self, now: float) -> tuple[str, str] | None:
        """Take out the earliest deadline that has come."""
        if not self._at:
            return None
        key = min(self._at, key=self._at.__getitem__)
        if self._at[key] > now:
            return None
        del self._at[key]
        return key

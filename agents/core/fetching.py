"""Which segments to ask for next: in order, with a small look-ahead, each until it is right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agents import limits


class Fetching:
    """One run through the segments that are missing. At most LOOK_AHEAD are asked for beyond
    the first that is still missing, so a slow segment holds the others back, as it does for a
    machine that boots from them."""

    __slots__ = ("_again", "_asked", "_done", "_failed", "_head", "_todo", "_wrong", "size")

    def __init__(self, todo: Sequence[int]) -> None:
        self._todo = todo
        self._head = 0
        self._asked = 0
        self._done: set[int] = set()
        self._again: list[int] = []
        self._wrong: dict[int, int] = {}
        self._failed: dict[int, int] = {}
        self.size = 0
        """bytes that have arrived, right or wrong"""

    @property
    def is_over(self) -> bool:
        return self._head == len(self._todo)

    def ask(self) -> Iterable[int]:
        """What to ask for now, in order."""
        end = min(self._head + limits.LOOK_AHEAD, len(self._todo))
        asked = self._todo[self._asked : end]
        self._asked = max(self._asked, end)
        return asked

    def ask_again(self) -> Iterable[int]:
        """What was put off by `failed`."""
        again, self._again = self._again, []
        return again

    def right(self, index: int, size: int) -> None:
        """The segment is here."""
        self.size += size
        self._wrong.pop(index, None)
        self._failed.pop(index, None)
        self._done.add(index)
        while self._head < len(self._todo) and self._todo[self._head] in self._done:
            self._done.discard(self._todo[self._head])
            self._head += 1

    def wrong(self, index: int, size: int) -> bool:
        """It arrived with the wrong digest. May it be asked for again at once?"""
        self.size += size
        self._wrong[index] = self._wrong.get(index, 0) + 1
        return self._wrong[index] < limits.DIGEST_TRIES_MAX

    def put_off(self, index: int) -> None:
        """It did not arrive, and that is nobody's fault: `ask_again` has it."""
        self._again.append(index)

    def failed(self, index: int) -> int:
        """It did not arrive. How often now?"""
        self._failed[index] = self._failed.get(index, 0) + 1
        self._again.append(index)
        return self._failed[index]

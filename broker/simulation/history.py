"""What happened in one run: counts, the digest over everything in order, the end, what broke."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from broker.simulation.loop import SimLoop

TRACE_MAX: Final = 400
"""newest entries that are kept to be shown"""
VIOLATIONS_MAX: Final = 10
"""violations after which a run ends"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken invariant. `at_s`: virtual seconds since the run began."""

    invariant: str
    at_s: float
    what: str


class History:
    """`operation` counts what the broker is asked to do, `fault` what is done to it, `wrote` is
    told of every change of a record. All three go into the digest, with their time."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._hash = blake2b(digest_size=16)
        self.operations: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.done = 0
        self.trace: deque[tuple[float, str, str]] = deque(maxlen=TRACE_MAX)
        self.violations: list[Violation] = []
        self._closed = False

    def close(self) -> None:
        """The run is over; what its remains still do is not part of it."""
        self._closed = True

    def operation(self, kind: str, detail: str) -> None:
        if not self._closed:
            self.operations[kind] += 1
            self.done += 1
            self.wrote(kind, detail)

    def fault(self, kind: str, detail: str) -> None:
        if not self._closed:
            self.faults[kind] += 1
            self.wrote(kind, detail)

    def wrote(self, kind: str, detail: str) -> None:
        if self._closed:
            return
        now = self._loop.time()
        self._hash.update(f"{now:.6f} {kind} {detail}\n".encode())
        self.trace.append((now, kind, detail))

    def violated(self, invariant: str, what: str) -> None:
        """Once for each invariant and wording: the first time tells most."""
        if self._closed:
            return
        if any((one.invariant, one.what) == (invariant, what) for one in self.violations):
            return
        self.violations.append(Violation(invariant=invariant, at_s=self._loop.time(), what=what))
        self.wrote("VIOLATION", f"{invariant}: {what}")

    @property
    def broken(self) -> bool:
        return len(self.violations) >= VIOLATIONS_MAX

    def digest(self) -> str:
        return self._hash.hexdigest()

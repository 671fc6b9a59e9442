"""Classes of storage: what a host has beside room for machines, as its administrator named it.

Pure. What a host is found to have comes from its engine; a host without classes is placed on as if
there were no such thing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from broker.limits import STORAGE_FULL_ABOVE

CLASS_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
OWN: Final = ""
"""the class of pools that name none: where their host keeps desktops unless told otherwise"""
SAME: Final = "as the hosts' profiles say"
"""`shared` of storage that no engine told apart: where both hosts take machines that move, it is
the same at both"""
_BYTES_PER_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageClass:
    """One class at one host, as it was seen last.

    place: the host's own name for it. kind: of what sort it is, as the host says it; empty: the
    host has not been asked yet. cost: relative; cheaper is taken first.
    capacity, available: bytes; None: not known.
    whole: a disk takes its whole size when it is made.
    shared: the same text at two hosts means the same disks at both; empty: nobody else's.
    refuses: why no disk can be made there, in words; empty: one can.
    """

    name: str
    cost: float
    place: str = ""
    kind: str = ""
    capacity: int | None = None
    available: int | None = None
    whole: bool = False
    shared: str = ""
    refuses: str = ""

    def used(self, more_mib: float = 0.0) -> float | None:
        """The part that is taken (0 to 1), after `more_mib` were; None: not known."""
        if not self.capacity or self.available is None:
            return None
        left = self.available - more_mib * _BYTES_PER_MIB
        return min(max(1 - left / self.capacity, 0.0), 1.0)

    def refusal(self, more_mib: float = 0.0) -> str | None:
        """Why no disk more is made there, of `more_mib` with what was promised; None: one is."""
        if self.refuses:
            return self.refuses
        used = self.used(more_mib if self.whole else 0.0)
        if used is None or used <= STORAGE_FULL_ABOVE:
            return None
        would = "it would be" if self.whole and more_mib else "it is"
        return f"{would} {used:.0%} full (limit {STORAGE_FULL_ABOVE:.0%})"

    @property
    def title(self) -> str:
        return f"storage class {self.name}" if self.name else "its storage"

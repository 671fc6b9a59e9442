"""How a machine differs from what it should be: somebody, or something, changed it at its host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`what`: in words, stable. `found` and `wanted`: empty where there is none."""

    what: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.what}: {self.found or 'none'} instead of {self.wanted or 'none'}"


def differences(
    found: Mapping[str, str], wanted: Mapping[str, str], *, chars_max: int = 200
) -> tuple[Difference, ...]:
    """What differs between two descriptions, by name; texts are cut, for guests may have a say."""
    return tuple(
        Difference(
            what=name,
            found=found.get(name, "")[:chars_max],
            wanted=wanted.get(name, "")[:chars_max],
        )
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name, "") != wanted.get(name, "")
    )

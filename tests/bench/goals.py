"""What a bench is held to: each figure past its goal is told in a line."""

from __future__ import annotations

from typing import TypeAlias

Misses: TypeAlias = tuple[str, ...]
"""one line for each figure past its goal"""


def at_most(what: str, figure: float, goal: float) -> Misses:
    return () if figure <= goal else (f"{what}: {figure:.2f}, more than {goal:g}",)


def at_least(what: str, figure: float, goal: float) -> Misses:
    return () if figure >= goal else (f"{what}: {figure:.2f}, less than {goal:g}",)

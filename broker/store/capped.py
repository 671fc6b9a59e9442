"""Lists that are read whole and therefore may not grow past a limit."""

from __future__ import annotations

from broker.domain.errors import ConflictError


def check_number(number: int, most: int, noun: str) -> None:
    """Raises ConflictError: with what is added there would be more than `most` of them."""
    if number > most:
        raise ConflictError(f"there are {most} {noun}, and there is room for no more")

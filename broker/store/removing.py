"""When a version of an image may be removed, the same for every store."""

from __future__ import annotations

from collections.abc import Iterable

from broker.domain.errors import ConflictError, ImageInUseError
from broker.domain.images import named
from broker.domain.model import Image


def check_unused(image: Image, pools: Iterable[str]) -> None:
    """`pools`: the names of those that start from it. Raises ImageInUseError: there are some."""
    names = sorted(pools)
    if names:
        text = f"{', '.join(names)} start{'s' if len(names) == 1 else ''} from {named(image)}"
        raise ImageInUseError(text, fields={"pools": names})


def check_there(image: Image) -> None:
    """For a pool that is to start from it. Raises ConflictError: it was removed."""
    if image.removed_at is not None:
        raise ConflictError(f"{named(image)} was removed; no pool can start from it")

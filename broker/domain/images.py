"""Images and what is made from them: which a pool can have, and whether a disk is of it."""

from __future__ import annotations

from collections.abc import Iterable

from broker.domain.model import Architecture, Desktop, Image, Pool
from broker.domain.names import shown

_NAMED_MAX = 10
"""images or versions that a refusal names"""


def is_outdated(desktop: Desktop, pool: Pool) -> bool:
    """Whether its machine was made from another image than `pool`, its own, has now.

    Of machines whose disks are older than the record of their images nothing is known but that
    they were there before: they count as outdated once the pool's image is changed after that. An
    endpoint's desktop never is; its image comes with the next session.
    """
    if desktop.host_id is None:
        return False
    if desktop.image_id is None:
        return pool.image_since is not None
    return desktop.image_id != pool.image_id


def named(image: Image) -> str:
    """As a pool names it."""
    return f"{image.name}@{image.version}"


def choose_image(images: Iterable[Image], ref: str, architecture: Architecture) -> Image | str:
    """The image that `name@version`, or `name` for its newest, means for a pool of this
    architecture; or why there is none, naming what there is."""
    known = tuple(images)
    name, _, version = ref.partition("@")
    versions = sorted((one for one in known if one.name == name), key=lambda one: one.version)
    if not versions:
        names = sorted({one.name for one in known})
        return f"there is no image {shown(name)}; {_there('image', names)}"
    if version:
        found = [one for one in versions if str(one.version) == version]
        if not found:
            numbers = [str(one.version) for one in reversed(versions)]
            return f"{shown(name)} has no version {shown(version)}; {_there('version', numbers)}"
        versions = found
    image = versions[-1]
    if architecture is Architecture.VOI and image.boot_bytes == 0:
        return f"{named(image)} has nothing that a streamed boot reads, so no VOI pool can use it"
    return image


def _there(noun: str, names: list[str]) -> str:
    if not names:
        return f"there are no {noun}s yet: upload one"
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    listed = ", ".join(names[:_NAMED_MAX]) + more
    return f"the {noun}{'s' if len(names) > 1 else ''} there: {listed}"

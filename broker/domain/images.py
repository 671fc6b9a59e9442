"""Whether a desktop's disk is of the image that its pool has now."""

from __future__ import annotations

from broker.domain.model import Desktop, Pool


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

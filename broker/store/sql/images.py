"""Versions of golden images: listed, and removed while no pool starts from them.

A removal locks the image's row first, and so does whoever writes a pool: its reference to the row
does that. So either the removal sees the pool, or the pool's writer sees that the image went.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from broker.domain.errors import NotFoundError
from broker.domain.model import Image, Instant
from broker.store import removing
from broker.store.sql import tables as t
from broker.store.sql.rows.directory import IMAGE, to_image
from broker.store.sql.statements import any_of, first

_BY_NAME = sa.select(*IMAGE).order_by(t.images.c.name, t.images.c.version)
_LISTED = {
    False: _BY_NAME.where(t.images.c.removed_at.is_(None)),
    True: _BY_NAME.where(t.images.c.removed_at.is_not(None)),
}
_ONE_LOCKED = sa.select(*IMAGE).where(t.images.c.id == sa.bindparam("key")).with_for_update()
_POOLS = (
    sa.select(t.pools.c.name)
    .where(t.pools.c.image_id == sa.bindparam("key"))
    .order_by(t.pools.c.name)
)
_REMOVE = (
    sa.update(t.images)
    .where(t.images.c.id == sa.bindparam("key"))
    .values(removed_at=sa.bindparam("now"))
    .returning(*IMAGE)
)
_GONE = sa.select(*IMAGE).where(any_of(t.images.c.id, "ids"), t.images.c.removed_at.is_not(None))


def listed(connection: sa.Connection, *, removed: bool) -> tuple[Image, ...]:
    """Those that were, or were not, removed, by name then version."""
    return tuple(map(to_image, connection.execute(_LISTED[removed]).all()))


def remove(image_id: str, now: Instant, connection: sa.Connection) -> Image:
    """Raises NotFoundError, ImageInUseError."""
    row = first(connection.execute(_ONE_LOCKED, {"key": image_id}))
    if row is None:
        raise NotFoundError("there is no such image")
    image = to_image(row)
    if image.removed_at is not None:
        return image
    removing.check_unused(image, connection.execute(_POOLS, {"key": image_id}).scalars().all())
    return to_image(connection.execute(_REMOVE, {"key": image_id, "now": now}).one())


def check_there(connection: sa.Connection, image_ids: Sequence[str]) -> None:
    """After pools that start from these were written. Raises ConflictError, which undoes it: one
    was removed."""
    row = first(connection.execute(_GONE, {"ids": list(image_ids)}))
    if row is not None:
        removing.check_there(to_image(row))

"""What claims must know of their pools and the site as they are stored now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sqlalchemy as sa

from broker.domain.model import Pool
from broker.domain.silence import SILENCE_DOCUMENT, silent_of
from broker.domain.site import SITE_DOCUMENT, settings_of
from broker.store.snapshot import Snapshot
from broker.store.sql import tables as t
from broker.store.sql.rows.directory import to_pool_settings
from broker.store.sql.statements import any_of, first
from broker.store.sql.trail_tables import documents
from broker.store.trail import object_of

_OPENINGS = (
    sa.select(
        t.pools.c.id,
        t.pools.c.enabled,
        t.pools.c.settings,
        t.pools.c.image_id,
        t.pools.c.image_since,
    )
    .where(any_of(t.pools.c.id, "ids"))
    .order_by(t.pools.c.id)
    .with_for_update(read=True)
)
_DOCUMENT = sa.select(documents.c.value).where(documents.c.name == sa.bindparam("name"))
_SITE = _DOCUMENT.with_for_update(read=True)


def read(connection: sa.Connection, pools: Mapping[str, Pool], snapshot: Snapshot) -> None:
    """Whether the pools and the site are open now. Who closes one waits for this transaction, so
    that nobody gets anything once that is done."""
    rows = connection.execute(_OPENINGS, {"ids": sorted(pools)}).all()
    snapshot.pools = {
        pool_id: replace(
            pools[pool_id],
            enabled=enabled,
            settings=to_pool_settings(text),
            image_id=image_id,
            image_since=since,
        )
        for pool_id, enabled, text, image_id, since in rows
    }
    site = first(connection.execute(_SITE, {"name": SITE_DOCUMENT}))
    if site is not None:
        snapshot.site = settings_of(object_of(site[0]))


def silent(connection: sa.Connection) -> list[str]:
    """Hosts that are not heard."""
    found = first(connection.execute(_DOCUMENT, {"name": SILENCE_DOCUMENT}))
    return sorted(silent_of(object_of(found[0]))) if found is not None else []

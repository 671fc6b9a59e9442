"""Who waits in the pools' queues, and whose turn it was; see broker.domain.queueing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from broker.domain.model import Pool
from broker.domain.queueing import Waiting, group_key, round_name, round_of, round_value
from broker.store.serving import Served, round_after
from broker.store.sql import tables as t
from broker.store.sql.statements import any_of, first
from broker.store.sql.trail_tables import documents
from broker.store.trail import document_text, object_of

_WAITING = sa.select(
    t.sessions.c.pool_id, t.sessions.c.id, t.sessions.c.group_id, t.sessions.c.requested_at
).where(any_of(t.sessions.c.pool_id, "pools"), t.QUEUED)
_ROUND = (
    sa.select(documents.c.value).where(documents.c.name == sa.bindparam("name")).with_for_update()
)
_ROUNDS = sa.select(documents.c.name, documents.c.value).where(any_of(documents.c.name, "names"))
_TURN = (
    sa.update(documents)
    .where(documents.c.name == sa.bindparam("key"))
    .values(revision=documents.c.revision + 1, value=sa.bindparam("text"))
)


def waiting(pool_ids: Iterable[str], connection: sa.Connection) -> dict[str, list[Waiting]]:
    """Pool -> everybody queued for it."""
    found: defaultdict[str, list[Waiting]] = defaultdict(list)
    rows = connection.execute(_WAITING, {"pools": sorted(pool_ids)}).all()
    rounds = _rounds(sorted({row[0] for row in rows}), connection) if rows else {}
    for pool_id, session_id, group_id, requested_at in rows:
        found[pool_id].append(
            Waiting(
                session_id=session_id,
                group_id=group_id,
                requested_at=requested_at,
                start=int(group_key(group_id) in rounds.get(pool_id, ())),
            )
        )
    return found


def _rounds(pool_ids: Sequence[str], connection: sa.Connection) -> dict[str, frozenset[str]]:
    """Pool -> the groups that had a turn in its round."""
    names = {round_name(pool_id): pool_id for pool_id in pool_ids}
    rows = connection.execute(_ROUNDS, {"names": sorted(names)}).all()
    return {names[name]: round_of(object_of(value)) for name, value in rows}


def turn(connection: sa.Connection, pool: Pool, served: Sequence[Served]) -> None:
    """Write down whose turn it was. Who serves the same queue at once waits here."""
    if not any(one.turn for one in served):
        return
    name = round_name(pool.id)
    row = first(connection.execute(_ROUND, {"name": name}))
    before = round_of(object_of(row[0])) if row is not None else frozenset[str]()
    turned = round_after(before, served)
    text = document_text(round_value(turned))
    if row is None:
        insert = (
            postgresql.insert(documents)
            if connection.dialect.name == "postgresql"
            else sqlite.insert(documents)
        )
        values = {"name": name, "revision": 1, "value": text}
        connection.execute(insert.values(values).on_conflict_do_nothing())
    elif turned != before:
        connection.execute(_TURN, {"key": name, "text": text})

"""Claims and queues: read a snapshot, let broker.store.claiming decide, write the decision.

A batch is one transaction of about ten statements, whatever its size. On SQLite it has the
database for itself. On PostgreSQL three things keep batches of several processes apart: those
that touch one user, or one quota of several people, wait for each other (advisory locks), ready
desktops are locked as they are read and skipped by others (SKIP LOCKED), and the unique indexes
refuse what slips through, after which the batch is decided again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from broker.domain.lifecycle import DESKTOP as DESKTOP_LIFECYCLE
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState, HostState, Instant, Pool, PoolKind, Session
from broker.ports import ClaimOutcome, ClaimRequest
from broker.store import quotas
from broker.store.claiming import Decision, decide
from broker.store.ready import Ready, open_to_take
from broker.store.serving import owners_only, queue_bound_to, serve
from broker.store.snapshot import Snapshot, UsedKey, Wants, unowned_needed, wants
from broker.store.sql import openings
from broker.store.sql import tables as t
from broker.store.sql.audit import insert_entries
from broker.store.sql.counting import count
from broker.store.sql.credentials import ticket_values
from broker.store.sql.faults import WorldMoved
from broker.store.sql.queued import turn, waiting
from broker.store.sql.rows import Values
from broker.store.sql.rows.machines import DESKTOP, to_desktop
from broker.store.sql.rows.sessions import SESSION, from_session, to_session, wish_text
from broker.store.sql.statements import BatchInsert, any_of, constant, first

_LOCK = sa.select(
    sa.func.pg_advisory_xact_lock(
        sa.func.unnest(sa.bindparam("numbers", type_=ARRAY(sa.BigInteger)))
    )
)
_KEYS = sa.select(
    t.idempotency_keys.c.digest,
    t.idempotency_keys.c.request_hash,
    t.idempotency_keys.c.session_id,
).where(any_of(t.idempotency_keys.c.digest, "digests"))
_SESSIONS = (
    sa.select(*SESSION).where(any_of(t.sessions.c.id, "ids")).with_for_update(key_share=True)
)
_HOLDING_PLACE = (
    sa.select(*SESSION)
    .where(any_of(t.sessions.c.user_id, "users"), t.HOLDS_PLACE)
    .order_by(t.sessions.c.id)
    .with_for_update(key_share=True)
)
_DESKTOPS = sa.select(*DESKTOP).where(any_of(t.desktops.c.id, "ids"))

# A session that lost its desktop still holds it until it is ended; the unique index would refuse.
# OFFSET 0 keeps PostgreSQL from making a join of it, which reads every live session for one
# desktop while the tables are too young for statistics.
_HELD = sa.exists(
    sa.select(sa.literal_column("1"))
    .select_from(t.sessions)
    .where(t.sessions.c.desktop_id == t.desktops.c.id, t.HOLDS_DESKTOP)
    .offset(sa.literal_column("0"))
    .correlate(t.desktops)
)
_READY = (
    sa.select(*DESKTOP)
    .where(t.desktops.c.state == constant(DesktopState.READY), ~_HELD)
    .with_for_update(skip_locked=True, key_share=True, of=t.desktops)
)
_READY_AT = _READY.where(
    any_of(t.desktops.c.endpoint_id, "endpoints"),
    any_of(t.desktops.c.pool_id, "pools"),
    t.NOT_DELETED,
)
_READY_OWN = _READY.where(
    any_of(t.desktops.c.owner_id, "users"), any_of(t.desktops.c.pool_id, "pools")
)
_OWNERS = (
    sa.select(t.desktops.c.pool_id, t.desktops.c.owner_id)
    .where(
        any_of(t.desktops.c.owner_id, "users"),
        any_of(t.desktops.c.pool_id, "pools"),
        t.desktops.c.state != constant(DesktopState.DELETING),
        t.NOT_DELETED,
    )
    .distinct()
)
_READY_FREE = (
    _READY.where(
        t.desktops.c.pool_id == sa.bindparam("pool"),
        t.desktops.c.owner_id.is_(None),
        ~any_of(t.desktops.c.id, "taken"),
        ~any_of(sa.func.coalesce(t.desktops.c.host_id, ""), "closed"),
    )
    .order_by(t.desktops.c.name, t.desktops.c.id)
    .limit(sa.bindparam("most"))
)
_READY_CURRENT = _READY_FREE.where(t.desktops.c.image_id == sa.bindparam("image"))
_CLOSED_HOSTS = sa.select(t.hosts.c.id).where(t.hosts.c.state != constant(HostState.UP))
_HOSTS = (
    sa.select(t.hosts.c.id, t.hosts.c.state)
    .where(any_of(t.hosts.c.id, "ids"))
    .order_by(t.hosts.c.id)
    .with_for_update(read=True)
)
_SOME_READY = (
    sa.select(t.desktops.c.id)
    .where(
        t.desktops.c.pool_id == sa.bindparam("pool"),
        t.desktops.c.state == constant(DesktopState.READY),
    )
    .limit(1)
)

# No condition on the state: with one, SQLite walks all ready desktops rather than look these up.
# A desktop that is not ready has no move to `assigned`, so the lifecycle's foreign key refuses it.
_CLAIM = (
    sa.update(t.desktops)
    .where(any_of(t.desktops.c.id, "ids"))
    .values(
        prior_state=t.desktops.c.state,
        state=constant(DESKTOP_LIFECYCLE.advance(DesktopState.READY, DesktopEvent.CLAIMED)),
        target=None,
        deadline_at=None,
        changed_at=sa.bindparam("now"),
    )
)
_OWN = (
    sa.update(t.desktops)
    .where(t.desktops.c.id == sa.bindparam("key"))
    .values(owner_id=sa.bindparam("user"))
)
_NEW_SESSIONS = BatchInsert(t.sessions)
_NEW_TICKETS = BatchInsert(t.tickets)
_NEW_KEYS = BatchInsert(t.idempotency_keys)
_GIVE = (
    sa.update(t.sessions)
    .where(t.sessions.c.id == sa.bindparam("key"))
    .values(
        prior_state=t.sessions.c.state,
        state=sa.bindparam("new_state"),
        desktop_id=sa.bindparam("desktop"),
        endpoint_id=sa.bindparam("endpoint"),
        deadline_at=sa.bindparam("deadline"),
        generation=sa.bindparam("new_generation"),
        revision=sa.bindparam("new_revision"),
        why=sa.bindparam("words"),
        assigned_at=sa.bindparam("assigned"),
        wish=sa.bindparam("wished"),
        browser=sa.bindparam("at_browser"),
        display=sa.bindparam("shown"),
    )
)
_STILL_WAITING = (
    sa.update(t.sessions)
    .where(t.sessions.c.id == sa.bindparam("key"))
    .values(
        active_at=sa.bindparam("active"),
        endpoint_id=sa.bindparam("endpoint"),
        browser=sa.bindparam("at_browser"),
        source=sa.bindparam("address"),
        revision=sa.bindparam("new_revision"),
    )
)
_TO_SERVE = (
    sa.select(*SESSION)
    .where(any_of(t.sessions.c.id, "ids"), t.QUEUED)
    .with_for_update(skip_locked=True, key_share=True)
)


def claim(
    requests: Sequence[ClaimRequest], now: Instant, connection: sa.Connection
) -> tuple[ClaimOutcome, ...]:
    """See SessionStore.claim."""
    snapshot = _snapshot(connection, requests)
    _fetch_ready(connection, wants(requests, snapshot), snapshot)
    decision = decide(requests, snapshot, now)
    _store(connection, decision, now)
    return tuple(decision.outcomes)


def _snapshot(connection: sa.Connection, requests: Sequence[ClaimRequest]) -> Snapshot:
    snapshot = Snapshot()
    users = sorted({request.user_id for request in requests})
    snapshot.shared = quotas.shared(requests)
    if connection.dialect.name == "postgresql":
        # in one order for all, or two batches could wait for each other
        locked = [*users, *(f"quota {quota_id}" for quota_id in snapshot.shared)]
        connection.execute(_LOCK, {"numbers": sorted(map(_number, locked))}).all()
    if snapshot.shared:
        snapshot.counted = count(snapshot.shared.values(), connection)
    openings.read(connection, {request.pool.id: request.pool for request in requests}, snapshot)
    _read_keys(connection, requests, snapshot)
    rows = connection.execute(_HOLDING_PLACE, {"users": users}).all()
    snapshot.add_sessions(map(to_session, rows))
    for pool_id, found in waiting({request.pool.id for request in requests}, connection).items():
        snapshot.waiting[pool_id] = found
    ids = [one.desktop_id for one in snapshot.sessions.values() if one.desktop_id is not None]
    if ids:
        for row in connection.execute(_DESKTOPS, {"ids": ids}).all():
            desktop = to_desktop(row)
            snapshot.desktops[desktop.id] = desktop
    return snapshot


def _number(name: str) -> int:
    """A lock's number. Two names with the same one only wait for each other."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


def _digest(user_id: str, key: str) -> str:
    """A user's key as it is stored. Whatever characters a client sends, it can be stored: a batch
    must not fail for everybody because of one request."""
    return hashlib.sha256(f"{user_id} {key}".encode("utf-8", "surrogatepass")).hexdigest()


def _read_keys(
    connection: sa.Connection, requests: Sequence[ClaimRequest], snapshot: Snapshot
) -> None:
    asked = {
        _digest(request.user_id, request.idempotency_key): (
            request.user_id,
            request.idempotency_key,
        )
        for request in requests
        if request.idempotency_key is not None
    }
    if not asked:
        return
    rows = connection.execute(_KEYS, {"digests": sorted(asked)}).all()
    for digest, request_hash, session_id in rows:
        user_id, key = asked[digest]
        snapshot.keys[user_id, key] = UsedKey(
            user_id=user_id, key=key, request_hash=request_hash, session_id=session_id
        )
    ids = sorted(used.session_id for used in snapshot.keys.values())
    if ids:
        snapshot.add_sessions(map(to_session, connection.execute(_SESSIONS, {"ids": ids}).all()))


def _fetch_ready(connection: sa.Connection, wanted: Wants, snapshot: Snapshot) -> None:
    """Read and lock what the batch may use, and no more: others skip what is locked."""
    ready = snapshot.ready
    if wanted.at:
        parameters: Values = {
            "pools": sorted({pool_id for pool_id, _ in wanted.at}),
            "endpoints": sorted({endpoint_id for _, endpoint_id in wanted.at}),
        }
        _add(connection, _READY_AT, parameters, ready)
    if wanted.own:
        parameters = {
            "pools": sorted({pool_id for pool_id, _ in wanted.own}),
            "users": sorted({user_id for _, user_id in wanted.own}),
        }
        _add_own(connection, parameters, ready)
    for pool_id, most in unowned_needed(wanted, ready).items():
        _add_free(connection, snapshot.pools[pool_id], most, ready)


def _add(
    connection: sa.Connection, statement: sa.Select[Any], parameters: Values, ready: Ready
) -> None:
    found = list(map(to_desktop, connection.execute(statement, parameters).all()))
    hosts = sorted({one.host_id for one in found if one.host_id is not None})
    # who closes one of these hosts waits for this transaction: after that nobody is given anything
    rows = connection.execute(_HOSTS, {"ids": hosts}).all() if hosts else ()
    states = {host_id: HostState(state) for host_id, state in rows}
    given = [one for one in found if open_to_take(one, states.get(one.host_id or ""))]
    ready.add(sorted(given, key=lambda one: one.name))


def _add_own(connection: sa.Connection, parameters: Values, ready: Ready) -> None:
    """The users' own desktops, and who has one that is not ready."""
    _add(connection, _READY_OWN, parameters, ready)
    ready.add_owners((row[0], row[1]) for row in connection.execute(_OWNERS, parameters))


def _add_free(connection: sa.Connection, pool: Pool, count: int, ready: Ready) -> None:
    """Up to `count` unowned desktops beside those that `ready` has; those of the pool's image
    first, once that was changed."""
    closed = [*connection.execute(_CLOSED_HOSTS).scalars(), *openings.silent(connection)]
    most = len(ready.ids) + count
    parameters: Values = {"pool": pool.id, "closed": closed}
    if pool.image_since is not None:
        some: Values = {"image": pool.image_id, "most": count, "taken": sorted(ready.ids)}
        _add(connection, _READY_CURRENT, parameters | some, ready)
    if len(ready.ids) < most:
        rest: Values = {"most": most - len(ready.ids), "taken": sorted(ready.ids)}
        _add(connection, _READY_FREE, parameters | rest, ready)


def _store(connection: sa.Connection, decision: Decision, now: Instant) -> None:
    _assign(connection, decision.claimed, now)
    _NEW_SESSIONS.run(connection, [from_session(one) for one in decision.new])
    _give(connection, decision.moved)
    _touch(connection, decision.waiting)
    _NEW_TICKETS.run(connection, [ticket_values(one) for one in decision.tickets])
    keys: list[Values] = [
        {
            "digest": _digest(used.user_id, used.key),
            "request_hash": used.request_hash,
            "session_id": used.session_id,
            "seen_at": now,
        }
        for used in decision.keys
    ]
    _NEW_KEYS.run(connection, keys)
    insert_entries(connection, decision.entries)


def _assign(connection: sa.Connection, claimed: Sequence[Desktop], now: Instant) -> None:
    if not claimed:
        return
    moved = connection.execute(_CLAIM, {"ids": [one.id for one in claimed], "now": now})
    if moved.rowcount != len(claimed):
        raise WorldMoved
    owned = [{"key": one.id, "user": one.owner_id} for one in claimed if one.owner_id is not None]
    if owned:
        connection.execute(_OWN, owned)


def _give(connection: sa.Connection, sessions: Sequence[Session]) -> None:
    """Write sessions that a claim moved, or that are asked to move."""
    if not sessions:
        return
    rows = [
        {
            "key": one.id,
            "new_state": one.state.value,
            "desktop": one.desktop_id,
            "endpoint": one.endpoint_id,
            "deadline": one.deadline_at,
            "new_generation": one.generation,
            "new_revision": one.revision,
            "words": one.why,
            "assigned": one.assigned_at,
            "wished": wish_text(one.wish),
            "at_browser": one.browser,
            "shown": one.display,
        }
        for one in sessions
    ]
    connection.execute(_GIVE, rows)


def _touch(connection: sa.Connection, sessions: Sequence[Session]) -> None:
    """Write that the clients of waiting sessions called."""
    rows = [
        {
            "key": one.id,
            "active": one.active_at,
            "endpoint": one.endpoint_id,
            "at_browser": one.browser,
            "address": one.source,
            "new_revision": one.revision,
        }
        for one in sessions
    ]
    if rows:
        connection.execute(_STILL_WAITING, rows)


def serve_queue(
    pool: Pool,
    order: Sequence[str],
    deadline_at: Instant,
    now: Instant,
    connection: sa.Connection,
) -> tuple[Session, ...]:
    """See SessionStore.serve_queue."""
    if first(connection.execute(_SOME_READY, {"pool": pool.id})) is None:
        return ()
    rows = connection.execute(_TO_SERVE, {"ids": list(order)}).all()
    found = {row[0]: to_session(row) for row in rows}
    queued = [found[one] for one in order if one in found and found[one].pool_id == pool.id]
    if not queued:
        return ()
    stored, ready = Snapshot(), Ready()
    openings.read(connection, {pool.id: pool}, stored)
    owned = owners_only(stored.pools.get(pool.id, pool), stored.site, now)
    if owned is None:
        return ()
    _fetch_for_queue(connection, stored.pools.get(pool.id, pool), queued, ready)
    served = serve(pool, queued, ready, deadline_at, now, owned=owned)
    _assign(connection, [one.desktop for one in served], now)
    _give(connection, [one.session for one in served])
    insert_entries(connection, [one.entry for one in served])
    turn(connection, pool, served)
    return tuple(one.session for one in served)


def _fetch_for_queue(
    connection: sa.Connection, pool: Pool, queued: Sequence[Session], ready: Ready
) -> None:
    bound = sorted({end for one in queued if (end := queue_bound_to(one, pool)) is not None})
    free = [one for one in queued if queue_bound_to(one, pool) is None]
    if bound:
        _add(connection, _READY_AT, {"pools": [pool.id], "endpoints": bound}, ready)
    if free and pool.kind is PoolKind.DEDICATED:
        users = sorted({one.user_id for one in free})
        _add_own(connection, {"pools": [pool.id], "users": users}, ready)
    if free:
        _add_free(connection, pool, len(free), ready)

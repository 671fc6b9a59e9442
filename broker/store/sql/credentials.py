"""Tokens, tickets, one-use secrets, the installation's own secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy as sa

from broker.domain.model import Identity, Instant, Role, Ticket
from broker.limits import IDEMPOTENCY_S, IDENTITY_BATCH_MAX, PURGE_BATCH_MAX
from broker.ports import AuthToken, OneUseSecret
from broker.store.sql import tables as t
from broker.store.sql.rows import Row, Values
from broker.store.sql.runner import Database
from broker.store.sql.statements import first

_IDENTITIES = (
    sa.select(
        t.tokens.c.secret_hash,
        t.memberships.c.group_id,
        t.users.c.id,
        t.users.c.username,
        t.users.c.role,
        t.tokens.c.id,
    )
    .join_from(t.tokens, t.users, t.users.c.id == t.tokens.c.user_id)
    .join(t.memberships, t.memberships.c.user_id == t.users.c.id, isouter=True)
    .where(
        t.tokens.c.secret_hash.in_(sa.bindparam("hashes", expanding=True)),
        t.tokens.c.expires_at > sa.bindparam("now"),
        t.users.c.enabled,
    )
    .order_by(t.tokens.c.secret_hash, t.memberships.c.position)
)
_SIGNED_IN = (
    sa.select(t.tokens.c.id)
    .join_from(t.tokens, t.users, t.users.c.id == t.tokens.c.user_id)
    .where(
        t.tokens.c.id.in_(sa.bindparam("ids", expanding=True)),
        t.tokens.c.expires_at > sa.bindparam("now"),
        t.users.c.enabled,
    )
)
_REVOKE = sa.delete(t.tokens).where(t.tokens.c.id == sa.bindparam("key"))
_REVOKE_USER = sa.delete(t.tokens).where(t.tokens.c.user_id == sa.bindparam("key"))
_USE_SECRET = (
    sa.update(t.one_use_secrets)
    .where(
        t.one_use_secrets.c.secret_hash == sa.bindparam("hash"),
        t.one_use_secrets.c.kind == sa.bindparam("wanted"),
        t.one_use_secrets.c.used_at.is_(None),
        t.one_use_secrets.c.expires_at > sa.bindparam("now"),
    )
    .values(used_at=sa.bindparam("now"))
    .returning(t.one_use_secrets.c.payload, t.one_use_secrets.c.expires_at)
)
_REDEEM = (
    sa.update(t.tickets)
    .where(
        t.tickets.c.secret_hash == sa.bindparam("hash"),
        t.tickets.c.used_at.is_(None),
        t.tickets.c.expires_at > sa.bindparam("now"),
    )
    .values(used_at=sa.bindparam("now"))
    .returning(t.tickets.c.id, t.tickets.c.session_id, t.tickets.c.user_id, t.tickets.c.expires_at)
)
_INSTALLATION = sa.select(t.installation_secrets.c.value).where(
    t.installation_secrets.c.name == sa.bindparam("key")
)


def _identity(rows: Sequence[Row]) -> Identity:
    """One token's holder, from a row for each of the holder's groups."""
    _, _, user_id, username, role, token_id = rows[0]
    return Identity(
        user_id=user_id,
        username=username,
        role=Role(role),
        token_id=token_id,
        group_ids=tuple(row[1] for row in rows if row[1] is not None),
    )


def _purge_of(column: sa.Column[Any]) -> sa.Delete:
    """Delete at most PURGE_BATCH_MAX rows up to `before`, so that no writer waits for long."""
    table = column.table
    assert isinstance(table, sa.Table)  # noqa: S101 - a column of tables.py
    key = sa.tuple_(*table.primary_key.columns)
    old = (
        sa.select(*table.primary_key.columns)
        .where(column <= sa.bindparam("before"))
        .limit(PURGE_BATCH_MAX)
    )
    return sa.delete(table).where(key.in_(old))


_PURGES = tuple(
    map(
        _purge_of,
        (t.tokens.c.expires_at, t.tickets.c.expires_at, t.one_use_secrets.c.expires_at),
    )
)
_PURGE_KEYS = _purge_of(t.idempotency_keys.c.seen_at)


class SqlCredentials:
    """Implements broker.ports.CredentialStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_token(self, token: AuthToken) -> None:
        values = {
            "id": token.id,
            "secret_hash": token.secret_hash,
            "user_id": token.user_id,
            "kind": token.kind,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
        }
        await self._insert(t.tokens, [values])

    async def identities(
        self, secret_hashes: Sequence[bytes], now: Instant
    ) -> Mapping[bytes, Identity]:
        if len(secret_hashes) > IDENTITY_BATCH_MAX:
            raise ValueError(f"more than {IDENTITY_BATCH_MAX} tokens at once")
        if not secret_hashes:
            return {}
        # lengths are powers of two, so that there are few texts of the statement to prepare
        length = 1 << (len(secret_hashes) - 1).bit_length()
        hashes = [*secret_hashes, *[secret_hashes[-1]] * (length - len(secret_hashes))]

        def work(connection: sa.Connection) -> Mapping[bytes, Identity]:
            rows = connection.execute(_IDENTITIES, {"hashes": hashes, "now": now}).all()
            return {
                secret_hash: _identity(list(of_one))
                for secret_hash, of_one in groupby(rows, key=itemgetter(0))
            }

        return await self._database.read(work)

    async def signed_in(self, token_ids: Sequence[str], now: Instant) -> frozenset[str]:
        if len(token_ids) > IDENTITY_BATCH_MAX:
            raise ValueError(f"more than {IDENTITY_BATCH_MAX} tokens at once")
        if not token_ids:
            return frozenset()

        def work(connection: sa.Connection) -> frozenset[str]:
            rows = connection.execute(_SIGNED_IN, {"ids": list(token_ids), "now": now})
            return frozenset(rows.scalars())

        return await self._database.read(work)

    async def revoke_token(self, token_id: str) -> None:
        await self._delete(_REVOKE, {"key": token_id})

    async def revoke_user_tokens(self, user_id: str) -> None:
        await self._delete(_REVOKE_USER, {"key": user_id})

    async def add_secrets(self, secrets: Sequence[OneUseSecret]) -> None:
        rows = [
            {
                "secret_hash": secret.secret_hash,
                "kind": secret.kind,
                "payload": msgspec.json.encode(dict(secret.payload)).decode(),
                "expires_at": secret.expires_at,
            }
            for secret in secrets
        ]
        if rows:
            await self._insert(t.one_use_secrets, rows)

    async def use_secret(self, kind: str, secret_hash: bytes, now: Instant) -> OneUseSecret | None:
        parameters = {"hash": secret_hash, "wanted": kind, "now": now}
        row = await self._database.statement(
            lambda connection: first(connection.execute(_USE_SECRET, parameters))
        )
        if row is None:
            return None
        payload, expires_at = row
        return OneUseSecret(
            secret_hash=secret_hash,
            kind=kind,
            payload=msgspec.json.decode(payload, type=dict[str, str]),
            expires_at=expires_at,
        )

    async def add_ticket(self, ticket: Ticket) -> None:
        await self._insert(t.tickets, [ticket_values(ticket)])

    async def redeem_ticket(self, secret_hash: bytes, now: Instant) -> Ticket | None:
        parameters = {"hash": secret_hash, "now": now}
        row = await self._database.statement(
            lambda connection: first(connection.execute(_REDEEM, parameters))
        )
        if row is None:
            return None
        ticket_id, session_id, user_id, expires_at = row
        return Ticket(
            id=ticket_id,
            secret_hash=secret_hash,
            session_id=session_id,
            user_id=user_id,
            expires_at=expires_at,
        )

    async def purge(self, now: Instant) -> int:
        total = 0
        for statement in _PURGES:
            total += await self._drain(statement, now)
        return total + await self._drain(_PURGE_KEYS, now - IDEMPOTENCY_S * 1000)

    async def _drain(self, statement: sa.Delete, before: Instant) -> int:
        total = 0
        while True:
            gone = await self._delete(statement, {"before": before})
            total += gone
            if gone < PURGE_BATCH_MAX:
                return total

    async def installation_secret(self, name: str, candidate: bytes) -> bytes:
        def work(connection: sa.Connection) -> bytes:
            found: bytes | None = connection.execute(_INSTALLATION, {"key": name}).scalar()
            if found is None:
                values = {"name": name, "value": candidate}
                connection.execute(sa.insert(t.installation_secrets), values)
                return candidate
            return found

        return await self._database.transaction(work, again_on_duplicate=True)

    async def _insert(self, table: sa.Table, rows: Sequence[Values]) -> None:
        def work(connection: sa.Connection) -> None:
            connection.execute(sa.insert(table), list(rows))

        if len(rows) == 1:
            await self._database.statement(work)
        else:
            await self._database.transaction(work)

    async def _delete(self, statement: sa.Delete, parameters: Values) -> int:
        return await self._database.statement(
            lambda connection: connection.execute(statement, parameters).rowcount
        )


def ticket_values(ticket: Ticket) -> Values:
    return {
        "id": ticket.id,
        "secret_hash": ticket.secret_hash,
        "session_id": ticket.session_id,
        "user_id": ticket.user_id,
        "expires_at": ticket.expires_at,
    }

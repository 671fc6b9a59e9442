"""Tokens, tickets and one-use secrets, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.domain.errors import AlreadyExistsError
from broker.domain.model import Identity, Instant, Ticket
from broker.limits import IDEMPOTENCY_S, IDENTITY_BATCH_MAX
from broker.ports import AuthToken, OneUseSecret
from broker.store.memory.state import State


class MemoryCredentials:
    """Implements broker.ports.CredentialStore."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def add_token(self, token: AuthToken) -> None:
        self._state.must_know(self._state.users, token.user_id)
        if token.secret_hash in self._state.tokens:
            raise AlreadyExistsError
        self._state.tokens[token.secret_hash] = token

    async def identities(
        self, secret_hashes: Sequence[bytes], now: Instant
    ) -> Mapping[bytes, Identity]:
        if len(secret_hashes) > IDENTITY_BATCH_MAX:
            raise ValueError(f"more than {IDENTITY_BATCH_MAX} tokens at once")
        found = {one: self._identity(one, now) for one in secret_hashes}
        return {one: identity for one, identity in found.items() if identity is not None}

    def _identity(self, secret_hash: bytes, now: Instant) -> Identity | None:
        token = self._state.tokens.get(secret_hash)
        if token is None or token.expires_at <= now:
            return None
        user = self._state.users[token.user_id]
        if not user.enabled:
            return None
        return Identity(
            user_id=user.id,
            username=user.username,
            role=user.role,
            token_id=token.id,
            group_ids=user.group_ids,
        )

    async def signed_in(self, token_ids: Sequence[str], now: Instant) -> frozenset[str]:
        if len(token_ids) > IDENTITY_BATCH_MAX:
            raise ValueError(f"more than {IDENTITY_BATCH_MAX} tokens at once")
        asked = frozenset(token_ids)
        held = (one for one in self._state.tokens.values() if one.id in asked)
        return frozenset(one.id for one in held if self._identity(one.secret_hash, now) is not None)

    async def revoke_token(self, token_id: str) -> None:
        self._drop_tokens([one for one in self._state.tokens.values() if one.id == token_id])

    async def revoke_user_tokens(self, user_id: str) -> None:
        self._drop_tokens([one for one in self._state.tokens.values() if one.user_id == user_id])

    def _drop_tokens(self, tokens: Sequence[AuthToken]) -> None:
        for token in tokens:
            del self._state.tokens[token.secret_hash]

    async def add_secrets(self, secrets: Sequence[OneUseSecret]) -> None:
        hashes = [one.secret_hash for one in secrets]
        if len(set(hashes)) < len(hashes) or self._state.secrets.keys() & set(hashes):
            raise AlreadyExistsError
        self._state.secrets.update({one.secret_hash: one for one in secrets})

    async def use_secret(self, kind: str, secret_hash: bytes, now: Instant) -> OneUseSecret | None:
        secret = self._state.secrets.get(secret_hash)
        if secret is None or secret.kind != kind or secret.expires_at <= now:
            return None
        return secret if self._spend(secret_hash) else None

    async def add_ticket(self, ticket: Ticket) -> None:
        self._state.must_know(self._state.sessions, ticket.session_id)
        self._state.must_know(self._state.users, ticket.user_id)
        if ticket.secret_hash in self._state.tickets:
            raise AlreadyExistsError
        self._state.tickets[ticket.secret_hash] = ticket

    async def redeem_ticket(self, secret_hash: bytes, now: Instant) -> Ticket | None:
        ticket = self._state.tickets.get(secret_hash)
        if ticket is None or ticket.expires_at <= now:
            return None
        return ticket if self._spend(secret_hash) else None

    def _spend(self, secret_hash: bytes) -> bool:
        if secret_hash in self._state.spent:
            return False
        self._state.spent.add(secret_hash)
        return True

    async def purge(self, now: Instant) -> int:
        state = self._state
        tokens = [key for key, one in state.tokens.items() if one.expires_at <= now]
        tickets = [key for key, one in state.tickets.items() if one.expires_at <= now]
        secrets = [key for key, one in state.secrets.items() if one.expires_at <= now]
        before = now - IDEMPOTENCY_S * 1000
        keys = [key for key, (_, seen_at) in state.keys.items() if seen_at <= before]
        for token in tokens:
            del state.tokens[token]
        for ticket in tickets:
            del state.tickets[ticket]
        for secret in secrets:
            del state.secrets[secret]
        for used in keys:
            del state.keys[used]
        state.spent.difference_update(tickets, secrets)
        return len(tokens) + len(tickets) + len(secrets) + len(keys)

    async def installation_secret(self, name: str, candidate: bytes) -> bytes:
        return self._state.installation.setdefault(name, candidate)

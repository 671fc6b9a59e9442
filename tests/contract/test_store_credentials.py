"""Tokens, tickets, one-use secrets and the installation's own, in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.domain.errors import AlreadyExistsError, ConflictError
from broker.domain.model import Identity, Role, Ticket
from broker.limits import IDEMPOTENCY_S, IDENTITY_BATCH_MAX
from broker.ports import OneUseSecret, Store
from tests.support.builders import NOW
from tests.support.stores import (
    claim_one,
    claimed_session,
    fill,
    make_request,
    make_token,
    make_user,
    ready_desktops,
)

AT_ONCE = 40


async def identity_of(store: Store, secret_hash: bytes, now: int) -> Identity | None:
    return (await store.credentials.identities([secret_hash], now)).get(secret_hash)


async def test_many_tokens_are_looked_up_together_each_for_its_own_holder(store: Store) -> None:
    await fill(store)
    some = [make_token(f"usr_{number}") for number in (1, 2, 2, 3, 4)]
    for token in some:
        await store.credentials.add_token(token)
    hashes = [one.secret_hash for one in some] + [b"?" * 32]
    found = await store.credentials.identities(hashes, NOW)
    assert {one: identity.token_id for one, identity in found.items()} == {
        token.secret_hash: token.id for token in some
    }
    assert {identity.user_id for identity in found.values()} == {"usr_1", "usr_2", "usr_3", "usr_4"}
    assert await store.credentials.identities([], NOW) == {}
    most = [b"most" + number.to_bytes(28) for number in range(IDENTITY_BATCH_MAX)]
    assert await store.credentials.identities(most, NOW) == {}
    with pytest.raises(ValueError, match="tokens"):
        await store.credentials.identities([*most, b"?"], NOW)


async def test_a_token_tells_who_holds_it(store: Store) -> None:
    await fill(store)
    user = make_user(50, role=Role.OPERATOR, group_ids=("grp_3", "grp_1", "grp_2"))
    await store.directory.add_user(user, None)
    token = make_token(user.id)
    await store.credentials.add_token(token)
    assert await identity_of(store, token.secret_hash, NOW) == Identity(
        user_id=user.id,
        username=user.username,
        role=Role.OPERATOR,
        token_id=token.id,
        group_ids=("grp_3", "grp_1", "grp_2"),
    )


async def test_a_user_without_groups_has_an_identity(store: Store) -> None:
    await store.directory.add_user(make_user(1, group_ids=()), None)
    token = make_token()
    await store.credentials.add_token(token)
    identity = await identity_of(store, token.secret_hash, NOW)
    assert identity is not None
    assert identity.group_ids == ()


async def test_a_token_is_worth_nothing_when_unknown_expired_or_its_user_disabled(
    store: Store,
) -> None:
    await fill(store)
    token = make_token(expires_at=NOW + 10)
    await store.credentials.add_token(token)
    assert await identity_of(store, b"x" * 32, NOW) is None
    assert await identity_of(store, token.secret_hash, NOW + 9) is not None
    assert await identity_of(store, token.secret_hash, NOW + 10) is None
    await store.directory.update_user(make_user(1, enabled=False))
    assert await identity_of(store, token.secret_hash, NOW) is None


async def test_tokens_are_revoked_one_by_one_or_all_of_a_user(store: Store) -> None:
    await fill(store)
    tokens = [make_token(), make_token(), make_token("usr_2")]
    for token in tokens:
        await store.credentials.add_token(token)

    async def known() -> list[bool]:
        found = [await identity_of(store, one.secret_hash, NOW) for one in tokens]
        return [one is not None for one in found]

    await store.credentials.revoke_token(tokens[0].id)
    assert await known() == [False, True, True]
    await store.credentials.revoke_user_tokens("usr_1")
    assert await known() == [False, False, True]
    await store.credentials.revoke_token("tok_unknown")


async def test_of_many_sign_ins_those_that_are_still_good_are_told(store: Store) -> None:
    await fill(store)
    good, other, revoked, short, disabled = tokens = [
        make_token(), make_token("usr_2"), make_token(), make_token(expires_at=NOW + 10),
        make_token("usr_3"),
    ]  # fmt: skip
    for token in tokens:
        await store.credentials.add_token(token)
    await store.credentials.revoke_token(revoked.id)
    await store.directory.update_user(make_user(3, enabled=False))
    ids = [one.id for one in (good, revoked, short, disabled)]
    signed_in = store.credentials.signed_in
    assert await signed_in([*ids, "tok_unknown"], NOW + 9) == {good.id, short.id}
    assert await signed_in([*ids, other.id], NOW + 10) == {good.id, other.id}
    assert await signed_in([], NOW) == frozenset()
    most = [f"tok_none_{number}" for number in range(IDENTITY_BATCH_MAX)]
    assert await signed_in(most, NOW) == frozenset()
    with pytest.raises(ValueError, match="tokens"):
        await signed_in([*most, good.id], NOW)


async def test_a_token_needs_a_user_and_a_secret_of_its_own(store: Store) -> None:
    await fill(store)
    with pytest.raises(ConflictError):
        await store.credentials.add_token(make_token("usr_99"))
    token = make_token()
    await store.credentials.add_token(token)
    with pytest.raises(AlreadyExistsError):
        await store.credentials.add_token(replace(token, id="tok_other"))


def make_secret(
    number: int = 1, kind: str = "enrolment", expires_at: int = NOW + 10
) -> OneUseSecret:
    return OneUseSecret(
        secret_hash=bytes([number]) * 32,
        kind=kind,
        payload={"by": "usr_1", "note": "Raum 101"},
        expires_at=expires_at,
    )


async def test_a_secret_works_once_for_its_kind_and_in_time(store: Store) -> None:
    first, second = make_secret(1), make_secret(2)
    await store.credentials.add_secrets([first, second])
    use = store.credentials.use_secret
    assert await use("setup", first.secret_hash, NOW) is None
    assert await use("enrolment", b"?" * 32, NOW) is None
    assert await use("enrolment", first.secret_hash, NOW) == first
    assert await use("enrolment", first.secret_hash, NOW) is None
    assert await use("enrolment", second.secret_hash, NOW + 10) is None


async def test_secrets_are_added_all_or_none(store: Store) -> None:
    await store.credentials.add_secrets([make_secret(1)])
    with pytest.raises(AlreadyExistsError):
        await store.credentials.add_secrets([make_secret(2), make_secret(1)])
    assert await store.credentials.use_secret("enrolment", make_secret(2).secret_hash, NOW) is None
    await store.credentials.add_secrets([])


async def test_of_many_at_once_exactly_one_uses_a_secret(store: Store) -> None:
    secret = make_secret()
    await store.credentials.add_secrets([secret])
    used = await asyncio.gather(
        *(
            store.credentials.use_secret("enrolment", secret.secret_hash, NOW)
            for _ in range(AT_ONCE)
        )
    )
    assert [one for one in used if one is not None] == [secret]


async def make_ticket(store: Store) -> Ticket:
    await fill(store)
    await ready_desktops(store, [1])
    session = await claimed_session(store, make_request())
    ticket = Ticket(
        id="tkt_own",
        secret_hash=b"t" * 32,
        session_id=session.id,
        user_id="usr_1",
        expires_at=NOW + 10,
    )
    await store.credentials.add_ticket(ticket)
    return ticket


async def test_a_ticket_works_once_and_in_time(store: Store) -> None:
    ticket = await make_ticket(store)
    redeem = store.credentials.redeem_ticket
    assert await redeem(b"?" * 32, NOW) is None
    assert await redeem(ticket.secret_hash, NOW + 10) is None
    assert await redeem(ticket.secret_hash, NOW + 9) == ticket
    assert await redeem(ticket.secret_hash, NOW + 9) is None


async def test_of_many_at_once_exactly_one_redeems_a_ticket(store: Store) -> None:
    ticket = await make_ticket(store)
    redeemed = await asyncio.gather(
        *(store.credentials.redeem_ticket(ticket.secret_hash, NOW) for _ in range(AT_ONCE))
    )
    assert [one for one in redeemed if one is not None] == [ticket]


async def test_a_ticket_needs_its_session_and_a_secret_of_its_own(store: Store) -> None:
    ticket = await make_ticket(store)
    with pytest.raises(AlreadyExistsError):
        await store.credentials.add_ticket(replace(ticket, id="tkt_other"))
    with pytest.raises(ConflictError):
        await store.credentials.add_ticket(
            replace(ticket, id="tkt_other", secret_hash=b"o" * 32, session_id="ses_unknown")
        )


async def test_purge_deletes_what_expired_and_nothing_else(store: Store) -> None:
    ticket = await make_ticket(store)  # the claim stored one that ends at NOW + 60 s
    tokens = [make_token(expires_at=NOW + 5), make_token(expires_at=NOW + 500_000)]
    for token in tokens:
        await store.credentials.add_token(token)
    await store.credentials.add_secrets([make_secret(1), make_secret(2, expires_at=NOW + 500)])
    assert await store.credentials.purge(NOW + 4) == 0
    assert await store.credentials.purge(NOW + 10) == 3
    assert await store.credentials.purge(NOW + 10) == 0
    assert await store.credentials.redeem_ticket(ticket.secret_hash, NOW) is None
    assert await identity_of(store, tokens[0].secret_hash, NOW) is None
    assert await identity_of(store, tokens[1].secret_hash, NOW) is not None
    assert await store.credentials.use_secret("enrolment", make_secret(2).secret_hash, NOW)


async def test_a_used_secret_stays_used_until_it_is_purged(store: Store) -> None:
    secret = make_secret()
    await store.credentials.add_secrets([secret])
    assert await store.credentials.use_secret("enrolment", secret.secret_hash, NOW)
    await store.credentials.purge(NOW + 9)
    assert await store.credentials.use_secret("enrolment", secret.secret_hash, NOW) is None


async def test_an_idempotency_key_is_forgotten_after_a_day(store: Store) -> None:
    await fill(store)
    request = make_request(idempotency_key="k", request_hash=b"one")
    await claim_one(store, request)
    other = make_request(idempotency_key="k", request_hash=b"two")
    day = IDEMPOTENCY_S * 1000
    await store.credentials.purge(NOW + day - 1)
    assert (await claim_one(store, other)).mismatch
    await store.credentials.purge(NOW + day)
    assert not (await claim_one(store, other)).mismatch


async def test_the_first_candidate_becomes_the_installations_secret(store: Store) -> None:
    secrets = await asyncio.gather(
        *(store.credentials.installation_secret("key", bytes([n]) * 32) for n in range(10))
    )
    assert len(set(secrets)) == 1
    assert await store.credentials.installation_secret("key", b"late") == secrets[0]
    assert await store.credentials.installation_secret("other", b"own") == b"own"

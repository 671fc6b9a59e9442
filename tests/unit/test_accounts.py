"""Sign-in, tokens, the brake on guessing, and the first administrator's link."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker import limits
from broker.domain.errors import (
    BadCredentialsError,
    BadRequestError,
    NotSignedInError,
    SetupClosedError,
    TooManyAttemptsError,
)
from broker.domain.model import Role
from broker.ports import Engine
from broker.services.accounts import IDENTITY_FRESH_S, LOCAL_USERNAME, Accounts
from broker.services.directory import Directory
from broker.services.host_profiles import HostProfiles
from tests.support.fakes import PlainPasswords
from tests.support.world import World, make_world

GOOD = "correct horse battery"


def accounts_of(world: World) -> Accounts:
    return Accounts(world.kit, PlainPasswords())


async def test_a_right_password_gives_a_token_that_says_who_holds_it() -> None:
    async with make_world() as world:
        accounts = accounts_of(world)
        await accounts.set_passwords({"usr_pupil1": GOOD})
        signed_in = await accounts.sign_in(" Pupil1 ", GOOD, "10.0.0.1")
        identity = await accounts.identify(signed_in.token)
        assert (identity.username, identity.role) == ("pupil1", Role.USER)
        assert identity.group_ids == ("grp_1",)


async def test_wrong_name_wrong_password_and_disabled_account_look_alike() -> None:
    async with make_world() as world:
        accounts = accounts_of(world)
        await accounts.set_passwords({"usr_pupil1": GOOD, "usr_pupil2": GOOD})
        off = replace(world.users["pupil2"], enabled=False)
        await world.kit.store.directory.update_user(off)
        told = set()
        for name, password in (("nobody", GOOD), ("pupil1", "wrong"), ("pupil2", GOOD)):
            with pytest.raises(BadCredentialsError) as caught:
                await accounts.sign_in(name, password, "10.0.0.1")
            told.add(caught.value.detail)
        assert len(told) == 1


async def test_guessing_is_braked_from_one_address_and_the_owner_is_not_locked_out() -> None:
    async with make_world() as world:
        accounts = accounts_of(world)
        await accounts.set_passwords({"usr_pupil1": GOOD})
        for _ in range(limits.SIGN_IN_FAILURES_MAX):
            with pytest.raises(BadCredentialsError):
                await accounts.sign_in("pupil1", "guess", "10.6.6.6")
        with pytest.raises(TooManyAttemptsError) as caught:
            await accounts.sign_in("pupil1", GOOD, "10.6.6.6")
        assert caught.value.retry_after_s is not None
        await accounts.sign_in("pupil1", GOOD, "10.0.0.1")
        world.clock.advance(caught.value.retry_after_s + 1)
        await accounts.sign_in("pupil1", GOOD, "10.6.6.6")


async def test_an_hour_of_guessing_tries_few_passwords() -> None:
    async with make_world() as world:
        accounts = accounts_of(world)
        await accounts.set_passwords({"usr_pupil1": GOOD})
        tried = 0
        for _ in range(3600):
            try:
                await accounts.sign_in("pupil1", "guess", "10.6.6.6")
            except BadCredentialsError:
                tried += 1
            except TooManyAttemptsError:
                pass
            world.clock.advance(1)
        assert tried <= 100


async def test_guesses_at_once_do_not_slip_past_the_brake() -> None:
    async with make_world() as world:
        hasher = PlainPasswords()
        accounts = Accounts(world.kit, hasher)
        await accounts.set_passwords({"usr_pupil1": GOOD})
        results = await asyncio.gather(
            *(accounts.sign_in("pupil1", f"guess {n}", "10.6.6.6") for n in range(200)),
            return_exceptions=True,
        )
        wrong = [one for one in results if isinstance(one, BadCredentialsError)]
        assert len(wrong) <= limits.SIGN_IN_FAILURES_MAX


async def test_a_token_dies_with_sign_out_password_change_role_change_and_time() -> None:
    async with make_world() as world:
        accounts = accounts_of(world)
        profiles = HostProfiles(world.kit, dict[str, Engine]().__getitem__)
        directory = Directory(world.kit, world.pools, accounts, profiles)
        await accounts.set_passwords({"usr_pupil1": GOOD})

        async def fresh() -> str:
            token = (await accounts.sign_in("pupil1", GOOD, "10.0.0.1")).token
            await accounts.identify(token)
            return token

        token = await fresh()
        await accounts.sign_out(await accounts.identify(token))
        with pytest.raises(NotSignedInError):
            await accounts.identify(token)
        token = await fresh()
        await accounts.set_passwords({"usr_pupil1": GOOD})
        with pytest.raises(NotSignedInError):
            await accounts.identify(token)
        token = await fresh()
        await directory.change_user("pupil1", role=Role.AUDITOR)
        with pytest.raises(NotSignedInError):
            await accounts.identify(token)
        token = await fresh()
        world.clock.advance(limits.TOKEN_S + 1)
        with pytest.raises(NotSignedInError):
            await accounts.identify(token)


async def test_a_token_revoked_by_another_process_is_believed_for_a_second_at_most() -> None:
    async with make_world() as world:
        here, elsewhere = accounts_of(world), accounts_of(world)
        await here.set_passwords({"usr_pupil1": GOOD})
        token = (await here.sign_in("pupil1", GOOD, "10.0.0.1")).token
        identity = await here.identify(token)
        await elsewhere.sign_out(identity)
        world.clock.advance(IDENTITY_FRESH_S + 0.1)
        with pytest.raises(NotSignedInError):
            await here.identify(token)


async def test_the_first_administrators_link_works_once_even_for_two_at_once() -> None:
    async with make_world() as world:
        accounts = accounts_of(world)
        secret = await accounts.setup_secret()
        assert secret is not None
        results = await asyncio.gather(
            accounts.set_up(secret, "anna", GOOD, ""),
            accounts.set_up(secret, "bert", GOOD, ""),
            return_exceptions=True,
        )
        assert sum(isinstance(one, SetupClosedError) for one in results) == 1
        assert await accounts.setup_secret() is None
        with pytest.raises(SetupClosedError):
            await accounts.set_up(secret, "carl", GOOD, "")


async def test_a_bad_first_password_leaves_the_link_good() -> None:
    async with make_world() as world:
        accounts = accounts_of(world)
        secret = await accounts.setup_secret()
        assert secret is not None
        with pytest.raises(BadRequestError):
            await accounts.set_up(secret, "anna", "short", "")
        assert (await accounts.set_up(secret, "anna", GOOD, "")).user.role is Role.ADMINISTRATOR


async def test_the_local_account_is_no_administrator_of_its_own_and_cannot_sign_in() -> None:
    async with make_world() as world:
        accounts = accounts_of(world)
        first = await accounts.local_token()
        second = await accounts.local_token()
        with pytest.raises(NotSignedInError):
            await accounts.identify(first)
        assert (await accounts.identify(second)).role is Role.ADMINISTRATOR
        assert await accounts.setup_secret() is not None
        with pytest.raises(BadCredentialsError):
            await accounts.sign_in(LOCAL_USERNAME, "", "10.0.0.1")

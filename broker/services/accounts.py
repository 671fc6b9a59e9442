"""Sign-in, tokens, the first administrator's link, and the brake on guessing.

The brake: after SIGN_IN_FAILURES_MAX failures of one account from one address, each further try
from there waits twice as long as the one before, up to SIGN_IN_PAUSE_S_MAX. It is kept per
(account, address) and per address, so a stranger cannot lock the owner out from elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker import limits
from broker.domain.audit import Outcome
from broker.domain.errors import (
    AlreadyExistsError,
    BadCredentialsError,
    BusyError,
    NotSignedInError,
    SetupClosedError,
    TooManyAttemptsError,
)
from broker.domain.model import Identity, Instant, Role, User
from broker.domain.passwords import check_password
from broker.ports import AuthToken, OneUseSecret, PasswordHasher
from broker.services.decisions import asked, decision
from broker.services.kit import Kit, name_key
from broker.services.naming import checked_label, checked_username
from broker.services.origin import NOWHERE, Origin
from broker.services.tickets import secret_hash
from broker.services.together import Together

BRAKES_MAX: Final = 10_000
"""(account, address) pairs remembered; the oldest are forgotten first"""
ADDRESS_FAILURES_MAX: Final = 100
"""failures from one address, over all accounts, before it is braked (a school's NAT has many)"""
IDENTITY_FRESH_S: Final = 1.0
"""how long a token that was just checked is believed without asking the store again"""
IDENTITIES_MAX: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    token: str
    expires_at: Instant
    user: User


@dataclass(slots=True)
class _Brake:
    failures: int = 0
    until_s: float = 0.0


class Accounts:
    def __init__(self, kit: Kit, hasher: PasswordHasher) -> None:
        self._kit = kit
        self._hasher = hasher
        self._brakes: OrderedDict[tuple[str, str], _Brake] = OrderedDict()
        self._known: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()
        self._holders = Together(self._look_up, batch_max=limits.IDENTITY_BATCH_MAX)

    # ------------------------------------------------------------------ the brake

    def _brake(self, key: tuple[str, str]) -> _Brake:
        brake = self._brakes.get(key)
        if brake is None:
            brake = self._brakes[key] = _Brake()
            while len(self._brakes) > BRAKES_MAX:
                self._brakes.popitem(last=False)
        self._brakes.move_to_end(key)
        return brake

    def _refuse_if_braked(self, keys: list[tuple[str, str]]) -> None:
        now_s = self._kit.clock.monotonic()
        left_s = max(
            (self._brakes[key].until_s - now_s for key in keys if key in self._brakes), default=0.0
        )
        if left_s > 0:
            raise TooManyAttemptsError(retry_after_s=left_s)

    def _note_failure(self, key: tuple[str, str], allowed: int) -> None:
        brake = self._brake(key)
        brake.failures += 1
        past = brake.failures - allowed
        if past >= 0:
            pause_s = min(2.0 ** min(past, 10), limits.SIGN_IN_PAUSE_S_MAX)
            brake.until_s = self._kit.clock.monotonic() + pause_s

    def _take_back(self, key: tuple[str, str]) -> None:
        brake = self._brakes.get(key)
        if brake is not None:
            brake.failures = max(0, brake.failures - 1)
            brake.until_s = 0.0

    # ------------------------------------------------------------------ sign-in

    async def check(self, username: str, password: str, address: str) -> User:
        """The user with this name and password.

        Raises:
            BadCredentialsError: for a wrong name, a wrong password and a disabled account alike,
                after the same work.
            TooManyAttemptsError: braked; BusyError: too many checks wait already.
        """
        name = name_key(username)
        account, source = (name, address), ("", address)
        self._refuse_if_braked([account, source])
        # counted before the hash is made, and taken back if it is right: otherwise a thousand
        # guesses sent at once would all pass the brake before the first of them had failed
        self._note_failure(account, limits.SIGN_IN_FAILURES_MAX)
        directory = self._kit.store.directory
        user = await directory.user_by_name(name)
        encoded = await directory.password_hash(user.id) if user is not None else None
        try:
            right = await self._hasher.verify(password, encoded)
        except BusyError:
            self._take_back(account)
            raise
        if user is None or not right or not user.enabled:
            self._note_failure(source, ADDRESS_FAILURES_MAX)
            raise BadCredentialsError
        self._brakes.pop(account, None)
        return user

    async def sign_in(
        self,
        username: str,
        password: str,
        address: str,
        kind: str = "api",
        *,
        request_id: str = "",
    ) -> SignedIn:
        """A new token for this person; written into the audit trail before it is given, as is a
        wrong password. Raises as `check`.

        A braked try is not written, so that guessing cannot fill the trail.
        """
        origin = Origin(source=address, request_id=request_id)
        try:
            user = await self.check(username, password, address)
        except BadCredentialsError:
            # the name as typed is not kept: it may be a password in the wrong field
            known = await self._kit.store.directory.user_by_name(name_key(username))
            why = "refused: wrong password, or the account is disabled"
            if known is None:
                why = "refused: nobody has the name that was given"
            await self._note("user.sign_in", known, why, origin, outcome=Outcome.REFUSED)
            raise
        await self._note("user.sign_in", user, "signed in with a password", origin)
        return await self.issue(user, kind)

    async def _note(
        self,
        action: str,
        user: User | None,
        why: str,
        origin: Origin,
        *,
        outcome: Outcome = Outcome.DONE,
    ) -> None:
        about = {"user_id": user.id} if user is not None else {}
        actor = user.id if user is not None and outcome is Outcome.DONE else ""
        entry = decision(self._kit, action, why, about=about, actor=actor, origin=origin)
        await self._kit.store.audit.append([replace(entry, outcome=outcome)])

    async def issue(self, user: User, kind: str, life_s: int = limits.TOKEN_S) -> SignedIn:
        """A token for a user whose identity is established. Only its hash is stored."""
        now = self._kit.clock.now()
        secret = self._kit.ids.secret()
        expires_at = now + life_s * 1000
        await self._kit.store.credentials.add_token(
            AuthToken(
                id=self._kit.ids.new("tok"),
                secret_hash=secret_hash(secret),
                user_id=user.id,
                kind=kind,
                created_at=now,
                expires_at=expires_at,
            )
        )
        return SignedIn(token=secret, expires_at=expires_at, user=user)

    async def identify(self, token: str) -> Identity:
        """Who holds this token. Raises NotSignedInError."""
        hashed = secret_hash(token)
        now_s = self._kit.clock.monotonic()
        known = self._known.get(hashed)
        if known is not None and now_s - known[0] < IDENTITY_FRESH_S:
            return known[1]
        identity = await self._holders.one(hashed)
        if identity is None:
            self._known.pop(hashed, None)
            raise NotSignedInError("the token is unknown or has ended")
        self._known[hashed] = (now_s, identity)
        self._known.move_to_end(hashed)
        while len(self._known) > IDENTITIES_MAX:
            self._known.popitem(last=False)
        return identity

    async def _look_up(self, hashes: Sequence[bytes]) -> Mapping[bytes, Identity]:
        return await self._kit.store.credentials.identities(hashes, self._kit.clock.now())

    def forget_all(self) -> None:
        """Believe no token without asking the store: rights have changed."""
        self._known.clear()

    async def sign_out(self, identity: Identity, origin: Origin = NOWHERE) -> None:
        """End the token; written into the audit trail before."""
        entry = decision(
            self._kit,
            "user.sign_out",
            "signed out",
            about={"user_id": identity.user_id},
            actor=identity.user_id,
            origin=origin,
        )
        await self._kit.store.audit.append([entry])
        await self._kit.store.credentials.revoke_token(identity.token_id)
        self.forget_all()

    async def change_password(self, identity: Identity, old: str, new: str, address: str) -> None:
        """Raises BadCredentialsError (old is wrong) or BadRequestError (new is not allowed)."""
        user = await self.check(identity.username, old, address)
        await self.set_passwords({user.id: new})

    async def set_passwords(self, passwords: dict[str, str]) -> None:
        """user id -> password; ends these users' sign-ins.

        Raises:
            BadRequestError, NotFoundError: nothing was changed. BusyError: likewise.
        """
        for password in passwords.values():
            check_password(password)
        hashes: dict[str, str] = {}
        wanted = list(passwords.items())
        for start in range(0, len(wanted), limits.HASH_THREADS):
            # as many at once as there are threads: the queue stays free for sign-ins
            some = wanted[start : start + limits.HASH_THREADS]
            made = await asyncio.gather(*(self._hasher.hash(password) for _, password in some))
            hashes.update(zip((user_id for user_id, _ in some), made, strict=True))
        await self._kit.store.directory.set_passwords(hashes)
        for user_id in hashes:
            await self._kit.store.credentials.revoke_user_tokens(user_id)
        self.forget_all()

    # ------------------------------------------------------------------ first run

    async def setup_secret(self) -> str | None:
        """A new one-time secret for the first administrator; None if there is one already."""
        if await self._kit.store.directory.has_administrator():
            return None
        secret = self._kit.ids.secret()
        await self._kit.store.credentials.add_secrets(
            [
                OneUseSecret(
                    secret_hash=secret_hash(secret),
                    kind="setup",
                    payload={},
                    expires_at=self._kit.clock.now() + limits.SETUP_S * 1000,
                )
            ]
        )
        return secret

    async def set_up(
        self,
        secret: str,
        username: str,
        password: str,
        display_name: str,
        origin: Origin = NOWHERE,
    ) -> SignedIn:
        """Make the first administrator with a one-time secret, and sign in; written into the
        audit trail.

        Raises:
            SetupClosedError: there is an administrator, or the secret is not valid.
            BadRequestError, AlreadyExistsError: the password or the name is not allowed, or the
                name is taken; the secret stays good.
        """
        store = self._kit.store
        if await store.directory.has_administrator():
            raise SetupClosedError
        name = checked_username(username)
        shown = checked_label(display_name or username, "display_name")
        check_password(password, username=name)
        if await store.directory.user_by_name(name) is not None:
            # said before the secret is used up: the person may choose another name
            raise AlreadyExistsError(f"there is a user {name!r} already")
        encoded = await self._hasher.hash(password)
        now = self._kit.clock.now()
        if await store.credentials.use_secret("setup", secret_hash(secret), now) is None:
            raise SetupClosedError
        user = User(
            id=self._kit.ids.new("usr"),
            username=name,
            display_name=shown,
            role=Role.ADMINISTRATOR,
            enabled=True,
            group_ids=(),
            created_at=now,
        )
        entry = decision(
            self._kit,
            "user.set_up",
            "the first administrator, by the one-time secret",
            about={"user_id": user.id},
            actor=user.id,
            origin=origin,
        )
        async with asked(self._kit, entry):
            await store.directory.add_user(user, encoded)
        return await self.issue(user, "web")

    # ------------------------------------------------------------------ the machine's own

    async def local_token(self) -> str:
        """A token for the commands on this machine: whoever reads the data directory may all.

        It belongs to a built-in administrator account that has no password and cannot sign in.
        """
        directory = self._kit.store.directory
        user = await directory.user_by_name(LOCAL_USERNAME)
        if user is None:
            user = User(
                id=self._kit.ids.new("usr"),
                username=LOCAL_USERNAME,
                display_name="Commands on this machine",
                role=Role.ADMINISTRATOR,
                enabled=True,
                group_ids=(),
                created_at=self._kit.clock.now(),
            )
            await directory.add_user(user, None)
        if user.role is not Role.ADMINISTRATOR or not user.enabled:
            await directory.update_user(replace(user, role=Role.ADMINISTRATOR, enabled=True))
        await self._kit.store.credentials.revoke_user_tokens(user.id)
        return (await self.issue(user, "local", LOCAL_TOKEN_S)).token


LOCAL_USERNAME: Final = "local-administrator"
LOCAL_TOKEN_S: Final = 30 * 24 * 3600
"""life of the local token, in seconds; a restart makes a new one"""

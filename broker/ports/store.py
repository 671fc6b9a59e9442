"""Everything stored: directory, credentials, sessions, desktops, jobs, endpoints, campaigns.

The store's rule: decide in pure code from a snapshot, then commit the decision in one
transaction that fails if the world moved. Nothing here reads a clock or makes an id: times and
ids come in as arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from broker.domain.lifecycle import DesktopEvent, EndpointEvent, JobEvent, SessionEvent
from broker.domain.model import (
    Campaign,
    Desktop,
    Endpoint,
    EndpointKind,
    Group,
    Host,
    Identity,
    Image,
    Instant,
    Job,
    PhaseReport,
    Pool,
    Session,
    SessionState,
    Ticket,
    Traffic,
    User,
)
from broker.domain.placement import HostLoad
from broker.domain.queueing import Waiting
from broker.ports.records import (
    AuthToken,
    ClaimOutcome,
    ClaimRequest,
    OneUseSecret,
    Overview,
    Page,
    PageQuery,
    Release,
    RosterChange,
)


class DirectoryStore(Protocol):
    """People, groups, images, pools, hosts."""

    async def users(self, query: PageQuery) -> Page[User]:
        """By username. Filters: group_id, role. Text: username or display name."""

    async def user(self, user_id: str) -> User | None: ...

    async def user_by_name(self, username: str) -> User | None:
        """Usernames are compared as stored (lower case, NFC; the service folds them)."""

    async def password_hash(self, user_id: str) -> str | None: ...

    async def add_user(self, user: User, password_hash: str | None) -> None:
        """Raises AlreadyExistsError when the username is taken."""

    async def update_user(self, user: User) -> None:
        """Everything but the password; raises NotFoundError."""

    async def set_passwords(self, hashes: Mapping[str, str]) -> None:
        """user id -> argon2 hash; unknown ids raise NotFoundError and nothing is changed."""

    async def has_administrator(self) -> bool:
        """Whether an enabled administrator with a password exists."""

    async def groups(self, query: PageQuery) -> Page[Group]: ...

    async def images(self) -> tuple[Image, ...]:
        """All, by name then version."""

    async def pools(self) -> tuple[Pool, ...]:
        """All, by name; there are few (limit: POOLS_MAX)."""

    async def save_pool(self, pool: Pool, *, new: bool) -> None:
        """Raises AlreadyExistsError (new, name taken) or NotFoundError (not new, unknown)."""

    async def host_loads(self) -> tuple[HostLoad, ...]:
        """Every host by name, with what its desktops take: all states but deleted and failed.

        `starting` counts planned, creating, starting and resetting ones.
        """

    async def save_host(self, host: Host, *, new: bool) -> None:
        """Raises AlreadyExistsError (new, name taken) or NotFoundError (not new, unknown)."""

    async def all_names(self) -> Mapping[str, Mapping[str, str]]:
        """kind (users, groups, images, hosts, pools, endpoints) -> name -> id, for the roster.

        An image's name is `name@version`.
        """

    async def names_of(self, kind: str, ids: Collection[str]) -> Mapping[str, str]:
        """id -> name of those that exist: what lists show instead of ids, in one read.

        `kind`: users (answers user names), people (users' display names), groups, desktops
        (deleted ones too) or endpoints; another raises ValueError. At most PAGE_LIMIT_MAX ids.
        """

    async def apply_roster(self, change: RosterChange) -> None:
        """All or nothing. Passwords, states and keys of existing records stay."""


class CredentialStore(Protocol):
    """Tokens, tickets, one-use secrets, the installation's own secrets."""

    async def add_token(self, token: AuthToken) -> None: ...

    async def identity(self, secret_hash: bytes, now: Instant) -> Identity | None:
        """Who holds this token: None if unknown, expired, revoked, or the user is disabled."""

    async def revoke_token(self, token_id: str) -> None: ...

    async def revoke_user_tokens(self, user_id: str) -> None: ...

    async def add_secrets(self, secrets: Sequence[OneUseSecret]) -> None: ...

    async def use_secret(self, kind: str, secret_hash: bytes, now: Instant) -> OneUseSecret | None:
        """Exactly one caller gets it, ever; None when unknown, used or expired."""

    async def add_ticket(self, ticket: Ticket) -> None: ...

    async def redeem_ticket(self, secret_hash: bytes, now: Instant) -> Ticket | None:
        """Exactly one caller gets it, ever; None when unknown, used or expired."""

    async def purge(self, now: Instant) -> int:
        """Delete what expired (tokens, tickets, secrets, idempotency keys of a day ago)."""

    async def installation_secret(self, name: str, candidate: bytes) -> bytes:
        """The stored secret of that name; `candidate` becomes it if there was none."""


class SessionStore(Protocol):
    async def claim(
        self, requests: Sequence[ClaimRequest], now: Instant
    ) -> tuple[ClaimOutcome, ...]:
        """The heart: decide every request in one transaction, in the order given.

        For each: an idempotency key seen before -> that session (or mismatch); a live session of
        (user, pool) -> that one; else, if nobody waits in the pool (or the desktop must be the
        endpoint's) and a `ready` desktop fits -> claimed: desktop READY -CLAIMED-> ASSIGNED, a
        session `delivering` with the desktop's generation; else `queued`.
        A desktop fits when it is of the pool, and: its owner is the user or nobody (DEDICATED:
        the owner is stored; the user's own desktop goes first); it is the endpoint's if
        `runs_on_endpoint` and `endpoint_id` are set. Lowest name first.
        For IDV and VOI the session's endpoint_id becomes the desktop's. A desktop that a live
        session still holds (it failed and came back) does not fit.
        At most CLAIM_BATCH_MAX requests (ValueError). Nothing is stored when a request names a
        user, group or endpoint that does not exist (ConflictError).
        """

    async def session(self, session_id: str) -> Session | None: ...

    async def sessions(self, query: PageQuery) -> Page[Session]:
        """Newest first. Filters: user_id, pool_id, desktop_id, endpoint_id, state, architecture,
        live ("true": in SESSION_HOLDS_PLACE or ending)."""

    async def waiting(self, pool_id: str) -> tuple[Waiting, ...]:
        """Everybody queued for the pool, in no particular order."""

    async def serve_queue(
        self, pool: Pool, order: Sequence[str], deadline_at: Instant, now: Instant
    ) -> tuple[Session, ...]:
        """Give ready desktops to the queued sessions of `order` until there are none left.

        One transaction. A session that needs its endpoint's desktop (endpoint_id set, IDV or
        VOI) and finds it not ready is passed over. Answers the sessions that are `delivering`
        now. Sessions that left the queue meanwhile are passed over.
        """

    async def advance(
        self,
        session_id: str,
        event: SessionEvent,
        now: Instant,
        *,
        why: str,
        deadline_at: Instant | None = None,
        generation: int | None = None,
        lease_until: Instant | None = None,
        release: Release | None = None,
        leave_endpoint: bool = False,
    ) -> Session:
        """Move one session, in one transaction with its desktop.

        Refused (IllegalTransitionError) where the table does not allow it or `generation` is
        given and is not the session's; NotFoundError if there is none. Sets live_at at the first
        ACTIVE, ended_at in terminal states, `deadline_at` as given (None clears it), revision+1.
        `lease_until`, where given, is stored. `release`, where given, is applied to the desktop
        if the new state no longer holds it (SESSION_HOLDS_DESKTOP) and it held one.
        `leave_endpoint` clears the session's endpoint_id (the person walked away from it).
        CLAIMED is refused here: a session is claimed together with a desktop.
        """

    async def note_phases(
        self, session_id: str, phases: Sequence[PhaseReport], traffic: Traffic
    ) -> None:
        """Append phases (the newest PHASES_MAX are kept) and add traffic. New phases make a new
        revision, traffic alone does not. Unknown ids are ignored."""

    async def expired(self, now: Instant, limit: int) -> tuple[Session, ...]:
        """Sessions whose deadline_at has passed, oldest deadline first."""

    async def at_endpoints(
        self, endpoint_ids: Sequence[str], states: Iterable[SessionState]
    ) -> tuple[Session, ...]:
        """Sessions in these states whose endpoint_id is one of these."""


class DesktopStore(Protocol):
    async def desktop(self, desktop_id: str) -> Desktop | None: ...

    async def desktops(self, query: PageQuery) -> Page[Desktop]:
        """By name. Filters: pool_id, host_id, endpoint_id, state, architecture.

        Deleted desktops are left out unless the filter is state=deleted; since names are used
        again, that list goes by id, newest first."""

    async def add(self, desktops: Sequence[Desktop], jobs: Sequence[Job]) -> None:
        """New desktops with their first jobs, in one transaction. A name is unique among the
        desktops that are not deleted: AlreadyExistsError, and nothing is stored."""

    async def names(self, pool_id: str) -> frozenset[str]:
        """Names of the pool's desktops that are not deleted."""

    async def advance(
        self,
        desktop_id: str,
        event: DesktopEvent,
        now: Instant,
        *,
        generation: int | None = None,
        deadline_at: Instant | None = None,
        note: str | None = None,
        fresh: bool = False,
        job: Job | None = None,
    ) -> Desktop:
        """Move one desktop in one statement. IllegalTransitionError where the table does not
        allow it or `generation` is given and is not the desktop's; NotFoundError if unknown.
        `fresh` adds one to the generation; `job` is stored in the same transaction, with the
        generation that the desktop has then."""

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """(pool_id, state) -> how many, all states but deleted."""

    async def by_state(self, states: Iterable[str], limit: int) -> tuple[Desktop, ...]:
        """Desktops in these states, longest unchanged first."""

    async def expired(self, now: Instant, limit: int) -> tuple[Desktop, ...]:
        """Desktops whose deadline_at has passed, oldest deadline first."""


class JobStore(Protocol):
    async def job(self, job_id: str) -> Job | None: ...

    async def jobs(self, query: PageQuery) -> Page[Job]:
        """Newest first. Filters: state, verb, desktop_id, host_id."""

    async def take(self, now: Instant, deadline_at: Instant, limit: int) -> tuple[Job, ...]:
        """Take due jobs (queued, not_before_at <= now), oldest first: STARTED, attempts+1.

        Nobody else gets the same one while it runs (SKIP LOCKED or the single writer)."""

    async def advance(
        self,
        job_id: str,
        event: JobEvent,
        now: Instant,
        *,
        error: str = "",
        not_before_at: Instant = 0,
    ) -> Job:
        """Move one job; IllegalTransitionError, NotFoundError as for desktops."""

    async def expired(self, now: Instant, limit: int) -> tuple[Job, ...]: ...


class EndpointStore(Protocol):
    async def endpoint(self, endpoint_id: str) -> Endpoint | None: ...

    async def endpoint_by_name(self, name: str) -> Endpoint | None: ...

    async def endpoints(self, query: PageQuery) -> Page[Endpoint]:
        """By name. Filters: state, kind, pool_id, location."""

    async def enrol(
        self,
        *,
        name: str,
        kind: EndpointKind,
        location: str,
        public_key: bytes,
        agent_version: str,
        new_id: str,
        now: Instant,
    ) -> Endpoint:
        """Give the endpoint of that name its key, making the record if the roster has none.

        An existing record keeps its id, pools and location, gets the new key. A retired one or
        one of another kind raises ConflictError."""

    async def presence(
        self,
        endpoint_id: str,
        event: EndpointEvent,
        now: Instant,
        *,
        agent_version: str | None = None,
        fresh_deadline_at: Instant | None = None,
    ) -> Endpoint:
        """Move an endpoint and, in the same transaction, its idle desktops: CONNECTED brings
        unavailable and failed ones back (ENDPOINT_BACK: they are `resetting` until the endpoint
        reports them fresh, with deadline `fresh_deadline_at`); LOST and RETIRED send ready,
        resetting and failed ones away (ENDPOINT_LOST). CONNECTED and LOST set last_seen_at."""

    async def seen(self, endpoint_ids: Sequence[str], now: Instant) -> None:
        """These gave a sign of life (one statement)."""

    async def silent(self, before: Instant, limit: int) -> tuple[Endpoint, ...]:
        """Online endpoints whose last_seen_at is before `before`."""


class CampaignStore(Protocol):
    async def save(self, campaign: Campaign) -> None:
        """Insert or replace by id."""

    async def campaign(self, campaign_id: str) -> Campaign | None: ...

    async def campaigns(self, query: PageQuery) -> Page[Campaign]:
        """Newest first. Filters: state."""


class Store(Protocol):
    """Everything stored. One installation, one store."""

    @property
    def directory(self) -> DirectoryStore: ...
    @property
    def credentials(self) -> CredentialStore: ...
    @property
    def sessions(self) -> SessionStore: ...
    @property
    def desktops(self) -> DesktopStore: ...
    @property
    def jobs(self) -> JobStore: ...
    @property
    def endpoints(self) -> EndpointStore: ...
    @property
    def campaigns(self) -> CampaignStore: ...

    async def open(self) -> None:
        """Connect, migrate if allowed, check. Raises UnavailableError or ConfigError."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """A round trip; raises UnavailableError."""

    async def overview(self) -> Overview: ...

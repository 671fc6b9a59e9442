"""What the services need from outside, as protocols: store, engine, events, endpoints, clock.

Adapters implement these and do not know each other; `broker.app` alone puts them together. Each
port has a contract suite in tests/contract that every implementation passes, fakes included.

The store's rule: decide in pure code from a snapshot, then commit the decision in one
transaction that fails if the world moved. Nothing here reads a clock or makes an id: times and
ids come in as arguments.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

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

Item = TypeVar("Item")

# --------------------------------------------------------------------------------- pages


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """One page of a list, by keyset: rows after `after` (exclusive), at most `limit`.

    `after` is the last row's key: the name for users, groups, pools, hosts, endpoints and
    desktops (ascending), the id for sessions, jobs and campaigns (descending, newest first).
    `filters` holds equality filters by field name; each list names those it takes, and ignores
    none: an unknown one raises ValueError. `text` filters by a case-insensitive part of a name
    (title, display name); a list without names (sessions, jobs) refuses it with ValueError, as
    every list refuses a limit outside 1 to PAGE_LIMIT_MAX.
    """

    limit: int = 100
    after: str | None = None
    text: str | None = None
    filters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Item]):
    """`next_after` is None on the last page."""

    items: tuple[Item, ...]
    next_after: str | None


# -------------------------------------------------------------------------------- claims


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """One person's wish for a desktop of a pool, admitted already.

    `session_id` and the ticket are used if a new session is made. `ticket_secret_hash` is the
    SHA-256 of the secret that the caller will be given. `runs_on_endpoint`: the desktop must be
    the one of `endpoint_id` if that is given (IDV, VOI). `request_hash` tells two requests with
    one idempotency key apart.
    """

    session_id: str
    user_id: str
    group_id: str | None
    pool: Pool
    endpoint_id: str | None
    runs_on_endpoint: bool
    ticket_id: str
    ticket_secret_hash: bytes
    ticket_expires_at: Instant
    deliver_deadline_at: Instant
    queue_deadline_at: Instant
    queue_limit: int
    idempotency_key: str | None = None
    request_hash: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimOutcome:
    """What became of one ClaimRequest, in the order asked.

    Exactly one of these holds:
    - `session` is set and new is True: made now, `delivering` (with `desktop`) or `queued`.
    - `session` is set and new is False: the caller's live session of that pool, or the one this
      idempotency key made before. A `disconnected` one has been moved to `delivering` (event
      RECONNECTED, deadline `deliver_deadline_at`, `endpoint_id` replaced where the architecture
      lets the person move, i.e. not runs_on_endpoint).
    - `mismatch`: the key was used for a different request. - `queue_full`: no room to wait.

    `ticket_stored` says that the request's ticket was stored and may be handed out: whenever
    the session has a desktop and still holds its place (SESSION_HOLDS_PLACE). `place` is the
    place in the queue, 1 being next, else None.
    """

    session: Session | None = None
    desktop: Desktop | None = None
    new: bool = False
    place: int | None = None
    ticket_stored: bool = False
    mismatch: bool = False
    queue_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What happens to the desktop when its session ends, in the same transaction.

    `event` is one of RELEASED_RESET, RELEASED_KEEP, RELEASED_DELETE or FAILED. With `fresh` the
    desktop's generation goes up by one. `job`, if given, is stored too (with that generation).
    A desktop that is not `assigned` any more (it failed under its session) is left as it is, and
    the job is not stored: nothing keeps a session from ending.
    """

    event: DesktopEvent
    fresh: bool
    deadline_at: Instant | None
    job: Job | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Counts for the overview page. Keys: (architecture, state) -> how many."""

    desktops: Mapping[tuple[str, str], int]
    sessions: Mapping[tuple[str, str], int]
    endpoints: Mapping[tuple[str, str], int]
    """(kind, state) -> how many"""
    ended_total: Mapping[tuple[str, str], int]
    """sessions in terminal states, ever"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthToken:
    """A bearer token. Only the secret's SHA-256 is stored. `kind`: web, api, local."""

    id: str
    secret_hash: bytes
    user_id: str
    kind: str
    created_at: Instant
    expires_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class OneUseSecret:
    """A secret that works once: kind is `setup`, `enrolment` or `password`."""

    secret_hash: bytes
    kind: str
    payload: Mapping[str, str]
    expires_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterChange:
    """A checked roster: each record is new or replaces the one of the same id. One transaction."""

    groups: tuple[Group, ...] = ()
    users: tuple[User, ...] = ()
    images: tuple[Image, ...] = ()
    hosts: tuple[Host, ...] = ()
    pools: tuple[Pool, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    desktops: tuple[Desktop, ...] = ()
    """new places of fat endpoints in pools (IDV, VOI), state `unavailable`"""


# --------------------------------------------------------------------------------- store


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


# -------------------------------------------------------------------------------- engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What an engine is asked to do. Repeating one id must not do the thing twice."""

    id: str
    desktop: Desktop
    host: Host
    image: Image
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineReport:
    """What a machine's agent (or its engine) says: `ready` counts only for its generation."""

    desktop_id: str
    generation: int
    ready: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that the engine knows, as tagged when it was made."""

    desktop_id: str
    generation: int
    running: bool


class Console(Protocol):
    """The desktop's display: frames out, input in. Nothing in it is parsed by the gateway."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as of when it was opened."""

    async def receive(self) -> bytes:
        """The next frame (at most FRAME_BYTES_MAX); b"" when the desktop closed it."""

    async def send(self, data: bytes) -> None:
        """Input from the person."""

    async def close(self) -> None: ...


class Engine(Protocol):
    """Makes desktops. Every verb is idempotent under the operation's id and may be called again
    after a restart of the broker; each raises EngineError when it could not be done."""

    @property
    def name(self) -> str: ...

    @property
    def profiles(self) -> Collection[str]:
        """Names of the host profiles that it knows; none: a host's profile is free text. What
        follows a "?" in a host's profile is the engine's own (knobs)."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def create(self, operation: Operation) -> None:
        """Make and start the machine; returns when it exists. A MachineReport follows."""

    async def reset(self, operation: Operation) -> None:
        """Bring the machine back to its image under the desktop's (new) generation and start it;
        returns when that is under way. A MachineReport follows. Makes it if it is missing."""

    async def destroy(self, operation: Operation) -> None:
        """Remove the machine; a machine that does not exist is success."""

    async def adopt(self, desktop: Desktop, host: Host) -> None:
        """After a restart: this machine should exist. One that is not ready reports later."""

    async def machines(self) -> tuple[Machine, ...]:
        """Every machine that carries this installation's tag."""

    async def console(self, desktop: Desktop) -> Console:
        """Open the display. Raises EngineError if the machine does not run."""

    def reports(self) -> AsyncIterator[MachineReport]:
        """Reports as they come, until `close`."""


# --------------------------------------------------------------------- events, endpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Says that something changed: look. Never the truth itself. `data` is small and JSON-able."""

    topic: str
    data: Mapping[str, Any]


class Subscription(Protocol):
    def __aiter__(self) -> AsyncIterator[Hint]: ...

    def close(self) -> None: ...


class Events(Protocol):
    """Hints between tasks and processes. Losing one costs time, never truth."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def publish(self, topic: str, **data: Any) -> None:
        """Never blocks, never raises for a slow or absent listener."""

    def subscribe(self, *topics: str, queue_max: int = 1000) -> Subscription:
        """Hints of these topics from now on. A listener that falls `queue_max` behind loses its
        oldest hints and gets Hint("missed") once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOrder:
    """Tell an endpoint to bring this session up. `ticket` is its own one-use ticket."""

    session: Session
    desktop: Desktop
    pool: Pool
    image: Image
    username: str
    ticket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopOrder:
    """Tell an endpoint to end this session; then, for its own desktop, to make it fresh."""

    session_id: str
    generation: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshOrder:
    """Tell a fat endpoint to bring its desktop to the image, as `generation`."""

    desktop_id: str
    generation: int


class EndpointLink(Protocol):
    """The endpoints connected to this process. Implemented in web/, where the sockets are."""

    def connected(self, endpoint_id: str) -> bool: ...

    def connected_ids(self) -> Sequence[str]: ...

    def send(self, endpoint_id: str, order: StartOrder | StopOrder | FreshOrder) -> bool:
        """Queue an order; False when it is not connected here or its queue is full."""


class DisplayClient(Protocol):
    """The person's end of an open display: a WebSocket, or a fake."""

    async def ready(self, session_id: str, width: int, height: int) -> None:
        """The display is open; frames follow. Size in pixels."""

    async def receive(self) -> bytes:
        """The next input; b"" when the client has gone."""

    async def send(self, frame: bytes) -> None:
        """Returns when the transport took it: this is what holds the desktop back."""

    async def close(self, code: str, detail: str) -> None:
        """Say why (a stable code) and close; may be called twice."""


class Displays(Protocol):
    """The displays open in this process. Implemented in gateway/, used by web/ and services."""

    async def serve(
        self, client: DisplayClient, *, ticket: str, session_id: str | None = None
    ) -> str:
        """Redeem the ticket, open the display, relay until it ends; answers why it ended, as a
        stable code. With `session_id` the ticket must be of that session. The client is closed
        then. Raises TriviumError, before `ready`, when it could not be opened; the client is
        not closed then, so that the caller may tell it."""

    def kill(self, session_id: str, detail: str = "") -> bool:
        """End the session's display at once; False when none is open here."""

    def open_sessions(self) -> tuple[str, ...]:
        """The sessions whose displays are open here."""


# --------------------------------------------------------------------------- identity etc


class PasswordHasher(Protocol):
    """argon2id in a bounded pool off the loop. BusyError when its queue is full."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, password: str, encoded: str | None) -> bool:
        """False for a wrong password, and, after the same work, for `encoded` None."""

    def needs_rehash(self, encoded: str) -> bool:
        """Whether `encoded` was made with other costs than today's; no work to speak of."""


class Signatures(Protocol):
    """Checks an endpoint's Ed25519 signature."""

    def verify(self, public_key: bytes, signature: bytes, payload: bytes) -> bool:
        """False for a wrong signature and for a key or signature of a wrong form."""


class ImageSource(Protocol):
    """Where image bytes come from, by segment."""

    def segments(self, image: Image, *, boot_only: bool) -> int:
        """How many segments a full copy (or a streamed boot) has."""

    def segment(self, image: Image, index: int) -> bytes:
        """One segment, at most SEGMENT_BYTES long. Raises NotFoundError past the end."""

    def digest(self, image: Image, index: int) -> str:
        """The segment's BLAKE2b-128, hex."""


class Clock(Protocol):
    def now(self) -> Instant:
        """Milliseconds since the Unix epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds, for measuring."""

    async def sleep(self, seconds: float) -> None: ...


class Ids(Protocol):
    def new(self, prefix: str) -> str:
        """A new id `prefix_…`; later ones sort after earlier ones."""

    def secret(self) -> str:
        """256 random bits, URL-safe, 43 characters."""


class Chance(Protocol):
    def uniform(self, low: float, high: float) -> float: ...

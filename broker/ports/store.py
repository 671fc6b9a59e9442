"""Everything stored: directory, credentials, sessions, desktops, jobs, endpoints, campaigns.

The store's rule: decide in pure code from a snapshot, then commit the decision in one
transaction that fails if the world moved. Nothing here reads a clock or makes an id: times and
ids come in as arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from broker.domain.audit import AuditEntry
from broker.domain.lifecycle import DesktopEvent, EndpointEvent, JobEvent, SessionEvent
from broker.domain.model import (
    Campaign,
    Desktop,
    Endpoint,
    EndpointKind,
    Identity,
    Instant,
    Job,
    PhaseReport,
    Pool,
    Resources,
    Session,
    SessionState,
    Ticket,
    Traffic,
    WorkLease,
)
from broker.domain.policy.rules import Quota
from broker.domain.queueing import Waiting
from broker.ports.directory import DirectoryStore
from broker.ports.records import (
    AuthToken,
    ClaimOutcome,
    ClaimRequest,
    OneUseSecret,
    Overview,
    Page,
    PageQuery,
    Release,
    SessionChange,
)
from broker.ports.snapshots import SnapshotStore
from broker.ports.trail import AuditStore, BackupStore, DocumentStore, LeaseStore


class CredentialStore(Protocol):
    """Tokens, tickets, one-use secrets, the installation's own secrets."""

    async def add_token(self, token: AuthToken) -> None: ...

    async def identities(
        self, secret_hashes: Sequence[bytes], now: Instant
    ) -> Mapping[bytes, Identity]:
        """Who holds these tokens, by hash; left out if unknown, expired, revoked, or of a user
        who is disabled. At most IDENTITY_BATCH_MAX at once (ValueError)."""

    async def signed_in(self, token_ids: Sequence[str], now: Instant) -> frozenset[str]:
        """Which of these sign-ins still are good: not expired, not revoked, their users enabled.
        At most IDENTITY_BATCH_MAX at once (ValueError)."""

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
        `runs_on_endpoint` and `endpoint_id` are set; its host is up, and heard (domain/silence).
        Lowest name first; once the pool's image was changed, those made from that one before.
        For IDV and VOI the session's endpoint_id becomes the desktop's. A desktop that a live
        session still holds (it failed and came back) does not fit.
        At most CLAIM_BATCH_MAX requests (ValueError). Nothing is stored when a request names a
        user, group or endpoint that does not exist (ConflictError).
        """

    async def session(self, session_id: str) -> Session | None: ...

    async def some(self, session_ids: Sequence[str]) -> tuple[Session, ...]:
        """The sessions with these ids, in no particular order; unknown ids are left out."""

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

    async def advance(  # noqa: PLR0913 - a move may change that much
        self,
        session_id: str,
        event: SessionEvent,
        now: Instant,
        *,
        why: str,
        deadline_at: Instant | None = None,
        generation: int | None = None,
        revision: int | None = None,
        lease_until: Instant | None = None,
        release: Release | None = None,
        change: SessionChange | None = None,
        actor: str = "broker",
        request_id: str = "",
        source: str = "",
    ) -> Session:
        """Move one session, in one transaction with its desktop.

        Refused (IllegalTransitionError) where the table does not allow it, or where `generation`
        or `revision` is given and is not the session's; NotFoundError if there is none. Sets
        live_at at the first ACTIVE, ended_at in terminal states, `deadline_at` as given (None
        clears it), revision+1.
        `lease_until`, where given, is stored. `release`, where given, is applied to the desktop
        if the new state no longer holds it (SESSION_HOLDS_DESKTOP) and it held one.
        CLAIMED is refused here: a session is claimed together with a desktop. `change` is
        stored with the move. One audit entry `session.<event>` (id `<session>:<revision>`,
        outcome DONE, by `actor`) is stored in the same transaction; `request_id` and `source`
        are those of the request that asked for it, if one did.
        """

    async def active(self, session_ids: Mapping[str, Instant]) -> None:
        """Write down the persons' last signs of activity (`active_at`; never backwards); no new
        revision. Unknown ids are ignored."""

    async def queue_lengths(self) -> Mapping[str, int]:
        """pool id -> how many wait in its queue; pools in which nobody waits are left out."""

    async def abandoned(self, before: Instant, limit: int) -> tuple[Session, ...]:
        """Queued sessions whose `active_at` (else `requested_at`) is before that, oldest first."""

    async def dark(self, signs: Sequence[str], limit: int) -> tuple[Session, ...]:
        """ACTIVE sessions in a browser whose `display` begins with none of these signs and a dot,
        by id."""

    async def counts(self, quotas: Sequence[Quota]) -> Mapping[str, int]:
        """quota id -> live sessions counted, for GROUP and POOL quotas."""

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

    async def with_desktops(
        self, desktop_ids: Sequence[str], states: Iterable[SessionState]
    ) -> tuple[Session, ...]:
        """Sessions in these states whose desktop_id is one of these."""


class DesktopStore(Protocol):
    async def desktop(self, desktop_id: str) -> Desktop | None: ...

    async def desktops(self, query: PageQuery) -> Page[Desktop]:
        """By name. Filters: pool_id, host_id, endpoint_id, state, architecture, image_id.

        Deleted desktops are left out unless the filter is state=deleted; since names are used
        again, that list goes by id, newest first."""

    async def add(
        self,
        desktops: Sequence[Desktop],
        jobs: Sequence[Job],
        *,
        entries: Sequence[AuditEntry] = (),
        lease: WorkLease | None = None,
    ) -> None:
        """New desktops with their first jobs, in one transaction. A name is unique among the
        desktops that are not deleted: AlreadyExistsError, and nothing is stored. With `lease`,
        the planner's: ConflictError when its fence is not current, IllegalTransitionError when a
        host of theirs is not up any more."""

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
        disown: bool = False,
        job: Job | None = None,
        entry: AuditEntry | None = None,
    ) -> Desktop:
        """Move one desktop in one statement. IllegalTransitionError where the table does not
        allow it or `generation` is given and is not the desktop's; NotFoundError if unknown.
        `fresh` adds one to the generation, `disown` makes it nobody's; `job` is stored in the same
        transaction, with the generation that the desktop has then; so is `entry`, as given."""

    async def assign(
        self, desktop_id: str, owner_id: str, generation: int, entry: AuditEntry
    ) -> Desktop:
        """Write down whose it is. IllegalTransitionError when it is of another generation or not
        idle (ready, suspended, unavailable); ConflictError when it is somebody's, or they have
        another one in the pool; NotFoundError. `entry` is stored in the same transaction."""

    async def begin_move(self, desktop_id: str, to_host_id: str, generation: int, job: Job) -> None:
        """Write down that a ready or assigned desktop migrates (`moving_to`), with its job.
        IllegalTransitionError when it is in another state, of another generation or moving."""

    async def end_move(
        self, desktop_id: str, to_host_id: str, generation: int, *, moved: bool
    ) -> Desktop:
        """It arrived (its host is `to_host_id` now) or stays. IllegalTransitionError when it is
        not on its way there or of another generation."""

    async def resized(self, desktop_id: str, generation: int, to: Resources) -> Desktop:
        """It has these resources now. IllegalTransitionError when of another generation."""

    async def begin_reset(
        self,
        desktop_id: str,
        generation: int,
        deadline_at: Instant,
        job: Job,
        *,
        image_id: str | None = None,
    ) -> Desktop:
        """The turn of a machine that waits to be made fresh (RESETTING, no deadline) has come: it
        gets its deadline and its job, in one transaction, and `image_id`, where given, is what its
        disk is made from. IllegalTransitionError when it does not wait (any more) or is of another
        generation."""

    async def resets_waiting(self, full: Sequence[str], limit: int) -> tuple[Desktop, ...]:
        """Machines that wait to be made fresh, but those on the hosts `full`; longest unchanged
        first."""

    async def known(self, desktop_ids: Sequence[str]) -> tuple[Desktop, ...]:
        """Those of these that exist, deleted ones too: to tell strays from ours."""

    async def on_host(self, host_id: str, states: Iterable[str], limit: int) -> tuple[Desktop, ...]:
        """Desktops in these states on this host, or migrating to it; by name. Never deleted
        ones."""

    async def of_pool(
        self,
        pool_id: str,
        states: Iterable[str],
        limit: int,
        *,
        unowned: bool = False,
        unlike: Resources | None = None,
    ) -> tuple[Desktop, ...]:
        """Desktops of this pool in these states, longest unchanged first. `unowned`: only those
        without an owner. `unlike`: only those that have other resources than these."""

    async def outdated(self, limit: int) -> tuple[Desktop, ...]:
        """Ready and suspended machines that nobody owns, on hosts that are up, whose disk was made
        from another image than their pool has now; also those of which that is not known, once
        their pool's image was changed. At most `limit` of each pool, longest unchanged first."""

    async def awaited(self, limit: int) -> tuple[Desktop, ...]:
        """Parked desktops whose session is being delivered, and suspended and failed ones whose
        owner queues for their pool: somebody waits for them to run. Longest unchanged first."""

    async def counts(self, *, owned: bool = False) -> Mapping[tuple[str, str], int]:
        """(pool_id, state) -> how many, all states but deleted; `owned`: of those with an owner."""

    async def by_state(self, states: Iterable[str], limit: int) -> tuple[Desktop, ...]:
        """Desktops in these states, longest unchanged first."""

    async def failed(self, limit: int) -> tuple[Desktop, ...]:
        """Failed machines that nobody owns, owned ones on hosts that run (up, draining, under
        maintenance), then failed desktops of endpoints that are online: at most `limit` of each,
        longest unchanged first. Those of absent endpoints and hosts wait for them and keep
        nobody else from being seen."""

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
        """Move one job; IllegalTransitionError, NotFoundError as for desktops. STARTED counts an
        attempt, HANDED_BACK takes it back."""

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
        reports them fresh, with deadline `fresh_deadline_at`), but those in which their owner's
        work lies (domain.keeping), which are ready as they are (ENDPOINT_BACK_KEPT);
        LOST and RETIRED send ready, resetting and failed ones away (ENDPOINT_LOST).
        CONNECTED and LOST set last_seen_at."""

    async def seen(self, endpoint_ids: Sequence[str], now: Instant) -> tuple[str, ...]:
        """These gave a sign of life (one statement). Answers those of them that count as
        offline all the same, in any order."""

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
    @property
    def audit(self) -> AuditStore: ...
    @property
    def leases(self) -> LeaseStore: ...
    @property
    def documents(self) -> DocumentStore: ...
    @property
    def snapshots(self) -> SnapshotStore: ...
    @property
    def backup(self) -> BackupStore: ...

    async def open(self) -> None:
        """Connect, migrate if allowed, check. Raises UnavailableError or ConfigError."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """A round trip; raises UnavailableError."""

    async def overview(self) -> Overview: ...

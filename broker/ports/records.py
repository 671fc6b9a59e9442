"""What the store is asked with, and what it answers: records of its ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from broker.domain.errors import TriviumError
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import (
    Desktop,
    Endpoint,
    Group,
    Host,
    Image,
    Instant,
    Job,
    Notice,
    Pool,
    Session,
    User,
    Wish,
)
from broker.domain.policy.rules import Quota
from broker.domain.settings import TakeOver

Item = TypeVar("Item")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """One person's wish for a desktop of a pool, admitted already.

    `session_id` and the ticket are used if a new session is made. `ticket_secret_hash` is the
    SHA-256 of the secret that the caller will be given. `runs_on_endpoint`: the desktop must be
    the one of `endpoint_id` (IDV, VOI); without one such a request is given nothing.
    `request_hash` tells two requests with one idempotency key apart.
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
    quotas: tuple[Quota, ...] = ()
    """those that bind this request; held in the claim's own transaction"""
    take_over: TakeOver = TakeOver.MOVE
    wish_id: str = ""
    wish_until: Instant = 0
    actor: str = ""
    """who asks, for the audit entry; the user's id if empty"""
    request_id: str = ""
    source: str = ""
    browser: str | None = None
    """the sign-in (token id) of the browser that asks; None: an endpoint is named"""


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
    - `over_quota` names the quota that is full. - `closed`: the pool or the site takes nobody new,
      as it is stored in the claim's own transaction; who was admitted a moment before is refused.
    - `elsewhere`: the session is live at another
      endpoint and may not move (TakeOver.REFUSE); `session` is set too.

    An active or delivering session asked for from another place (an architecture that lets the
    person move; `endpoint_id` or `browser` differs) is TAKEN_OVER at once (TakeOver.MOVE;
    `left_endpoint` tells which endpoint must be told to stop), or gets a `wish` (TakeOver.ASK)
    that the person at the first place answers; one that is pending for the same place stands. A
    request that is repeated under its idempotency key moves nothing: `elsewhere`. A queued session
    is served at the place that was asked from last. One that is nowhere (neither an endpoint nor
    a browser) is taken over by whichever browser asks.

    One audit entry `session.connect` (id: `<session id>:claim:<ticket id>`) is stored for each
    request in the same transaction, with why: which desktop and why that one, which place in
    the queue and why no desktop, or which limit.

    `ticket_stored` says that the request's ticket was stored and may be handed out: whenever
    the session has a desktop, still holds its place (SESSION_HOLDS_PLACE) and is in the browser
    that the request comes from: one that waits for consent, or is `elsewhere`, opens nothing, and
    an endpoint gets its ticket with its order. `place` is the place in the queue, 1 being next,
    else None.
    """

    session: Session | None = None
    desktop: Desktop | None = None
    new: bool = False
    place: int | None = None
    ticket_stored: bool = False
    mismatch: bool = False
    queue_full: bool = False
    over_quota: str = ""
    closed: TriviumError | None = None
    elsewhere: bool = False
    left_endpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChange:
    """What else changes when a session moves. None leaves a thing as it is.

    `clear_wish` ends the pending take-over. With `move` the session's endpoint becomes `move_to`
    and its browser `move_to_browser`; both None is nowhere (the person walked away). What display
    it had is not its own any more. `display` is the one that is open now.
    """

    ends_at: Instant | None = None
    active_at: Instant | None = None
    notice: Notice | None = None
    wish: Wish | None = None
    clear_wish: bool = False
    move: bool = False
    move_to: str | None = None
    move_to_browser: str | None = None
    display: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What happens to the desktop when its session ends, in the same transaction.

    `event` is one of RELEASED_RESET, RELEASED_KEEP, RELEASED_RESTART, RELEASED_DELETE or FAILED.
    With `fresh` the desktop's generation goes up by one. `job`, if given, is stored too (with that
    generation). A desktop that is not in a session's hands any more (it failed) is left as it is,
    and the job is not stored: nothing keeps a session from ending. Where the desktop passes on (a
    parking one that is kept is suspending then) and `deadline_at` is None, it keeps the deadline it
    has; in a lasting state it has none. A machine that is to be made fresh has neither deadline nor
    job until its host's turn for it comes (DesktopStore.begin_reset).
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

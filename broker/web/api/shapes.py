"""The JSON of the API's answers. Field names are the contract; times are RFC 3339 in UTC."""

from __future__ import annotations

from typing import Any

import msgspec

from broker.web.api.settings import PoolSettingsBody


class _Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every answer: immutable, fields by name."""


class Ref(_Shape, frozen=True, kw_only=True):
    """Something by id and name."""

    id: str
    name: str


class UserRef(_Shape, frozen=True, kw_only=True):
    id: str
    username: str


class ImageRef(_Shape, frozen=True, kw_only=True):
    id: str
    name: str
    version: int


class ResourcesShape(_Shape, frozen=True, kw_only=True):
    """Virtual CPUs, memory and disk in MiB, disk operations and network Mbit a second."""

    cpus: float
    memory_mib: int
    disk_mib: int = 0
    disk_iops: int = 0
    network_mbit: int = 0


class UserShape(_Shape, frozen=True, kw_only=True):
    """A person. `groups` are names."""

    id: str
    username: str
    display_name: str
    role: str
    enabled: bool
    groups: list[str]
    created_at: str


class MeShape(UserShape, frozen=True, kw_only=True):
    """The caller, and what the role allows."""

    permissions: list[str]


class SignedInShape(_Shape, frozen=True, kw_only=True):
    """`token` goes into `Authorization: Bearer`; it is shown this once."""

    token: str
    expires_at: str
    user: UserShape


class CountShape(_Shape, frozen=True, kw_only=True):
    """How many passwords were set."""

    set: int


class GroupShape(_Shape, frozen=True, kw_only=True):
    id: str
    name: str
    title: str
    created_at: str


class PoolShape(_Shape, frozen=True, kw_only=True):
    """A pool. `desktops`: state -> how many; `waiting`: people in its queue."""

    id: str
    name: str
    title: str
    architecture: str
    kind: str
    image: ImageRef
    resources: ResourcesShape
    spares_min: int
    size_max: int
    log_off: str
    disconnect_grace_s: int
    lease_s: int
    enabled: bool
    groups: list[str]
    desktops: dict[str, int]
    waiting: int
    settings: PoolSettingsBody


class GuestShape(_Shape, frozen=True, kw_only=True):
    """What the agent in the desktop said last, and when it was heard. `user`: who is logged on,
    empty for nobody; `idle_s`: since the last input, null where it cannot tell. `policy`: "laid",
    "failed" (`policy_why`), or empty where none is owed or it is under way."""

    at: str
    user: str
    idle_s: float | None
    addresses: list[str]
    policy: str
    policy_why: str


class DesktopShape(_Shape, frozen=True, kw_only=True):
    """A desktop. `owner`: whose it is for good, in a dedicated pool.

    `target` and `deadline_at` are set while it is on its way somewhere, `moving_to` while it goes
    to another host. `guest`: what the agent in it says, null where that is not known. `image`: what
    its machine was made from, null where that is not known or is its endpoint's affair;
    `image_due`: what its pool has now, where that is another."""

    id: str
    name: str
    pool: Ref
    image: ImageRef | None
    image_due: ImageRef | None
    architecture: str
    host: Ref | None
    moving_to: Ref | None
    endpoint: Ref | None
    owner: UserRef | None
    state: str
    target: str | None
    deadline_at: str | None
    generation: int
    resources: ResourcesShape
    note: str
    created_at: str
    changed_at: str
    guest: GuestShape | None = None


class SnapshotShape(_Shape, frozen=True, kw_only=True):
    """`state`: making, ready, failed (`why` says of what) or dropping. `size_bytes`: what it took
    on the host's disk when it was made; null: not known."""

    id: str
    name: str
    note: str
    state: str
    why: str
    resources: ResourcesShape
    size_bytes: int | None
    created_at: str
    changed_at: str


class SnapshotsShape(_Shape, frozen=True, kw_only=True):
    """`most`: how many it may have. `refusal`: why it takes none at all; empty: it does."""

    desktop: Ref
    items: list[SnapshotShape]
    most: int
    refusal: str


class DifferenceShape(_Shape, frozen=True, kw_only=True):
    """`found` and `wanted`: empty where there is none."""

    what: str
    found: str
    wanted: str


class DriftShape(_Shape, frozen=True, kw_only=True):
    """How a desktop's machine differs from what it should be, as of now."""

    desktop: Ref
    generation: int
    differences: list[DifferenceShape]


class PhaseShape(_Shape, frozen=True, kw_only=True):
    """One step of the delivery, as the endpoint saw it: ms, and bytes both ways."""

    name: str
    took_ms: float
    bytes_down: int
    bytes_up: int


class TrafficShape(_Shape, frozen=True, kw_only=True):
    """Bytes on the wire, both directions added."""

    control: int
    display: int
    image: int


class DisplayShape(_Shape, frozen=True, kw_only=True):
    """What the session's display carried in the `seconds` before `at`: bytes to the person and
    from him. `round_trip_ms`: a ping to the person's client and back, behind the pictures on
    their way; null while nobody can say."""

    at: str
    seconds: float
    bytes_down: int
    bytes_up: int
    round_trip_ms: float | None


class WishShape(_Shape, frozen=True, kw_only=True):
    """Somebody asks for the session at another endpoint (null: in a browser). Its person answers
    until then; no answer is a no."""

    id: str
    endpoint: Ref | None
    until: str


class NoticeShape(_Shape, frozen=True, kw_only=True):
    """A message to the session's person; `sender` is empty for the broker itself."""

    id: str
    text: str
    sender: str
    at: str


class SessionShape(_Shape, frozen=True, kw_only=True):
    """A session. `place`: in the queue, 1 being next. `revision` goes up with every change.

    `expected_wait_s`: about how long a place in the queue takes, null when nobody can say.
    `active_at`: the person's last input, about; `ends_at`: when the maximum session time is over.
    `display`: the last measure of its open display, null without one. `guest`: what the agent in
    its desktop says, null where that is not known.
    """

    id: str
    user: UserRef
    pool: Ref
    architecture: str
    state: str
    why: str
    place: int | None
    expected_wait_s: int | None
    desktop: Ref | None
    endpoint: Ref | None
    generation: int
    revision: int
    requested_at: str
    assigned_at: str | None
    live_at: str | None
    ended_at: str | None
    lease_until: str | None
    deadline_at: str | None
    active_at: str | None
    ends_at: str | None
    wish: WishShape | None
    notice: NoticeShape | None
    phases: list[PhaseShape]
    traffic: TrafficShape
    display: DisplayShape | None
    guest: GuestShape | None = None


class ConnectedShape(_Shape, frozen=True, kw_only=True):
    """The answer to a connect. `ticket` opens the session's display once; null while waiting."""

    session: SessionShape
    ticket: str | None
    ticket_expires_at: str | None


class MyPoolShape(PoolShape, frozen=True, kw_only=True):
    """A pool that the caller may use, with the caller's live session in it."""

    session: SessionShape | None


class MyPoolsShape(_Shape, frozen=True, kw_only=True):
    items: list[MyPoolShape]
    next: None = None


class EndpointShape(_Shape, frozen=True, kw_only=True):
    """An endpoint. `pools` are names."""

    id: str
    name: str
    kind: str
    location: str
    state: str
    pools: list[str]
    agent_version: str
    last_seen_at: str | None
    created_at: str


class EnrolmentTokensShape(_Shape, frozen=True, kw_only=True):
    """One-use enrolment tokens; shown this once."""

    tokens: list[str]
    expires_at: str


class ImageShape(_Shape, frozen=True, kw_only=True):
    """One version of an image; sizes in bytes."""

    id: str
    name: str
    version: int
    size_bytes: int
    boot_bytes: int
    created_at: str


class UploadedImageShape(_Shape, frozen=True, kw_only=True):
    """`virtual_bytes`: of the disk that it describes. `sha256`: of what was sent, hex."""

    id: str
    name: str
    version: int
    size_bytes: int
    boot_bytes: int
    virtual_bytes: int
    sha256: str
    created_at: str


class JobShape(_Shape, frozen=True, kw_only=True):
    """A piece of engine work. `desktop` is null for work on the host itself."""

    id: str
    verb: str
    desktop: Ref | None
    host: Ref
    generation: int
    state: str
    attempts: int
    error: str
    not_before_at: str
    deadline_at: str | None
    created_at: str
    finished_at: str | None


class ChangesShape(_Shape, frozen=True, kw_only=True):
    """Records of one kind in an imported roster."""

    new: int
    changed: int
    same: int


class ImportedShape(_Shape, frozen=True, kw_only=True):
    """kind (users, groups, …) -> what the roster made of it."""

    counts: dict[str, ChangesShape]


class CampaignShape(_Shape, frozen=True, kw_only=True):
    """A load campaign. `report_path` is relative to the directory of reports."""

    id: str
    name: str
    seed: int
    plan_sha256: str
    state: str
    verdict: str
    report_path: str
    summary: dict[str, Any]
    started_at: str
    finished_at: str | None


class StandingShape(_Shape, frozen=True, kw_only=True):
    """One architecture now. Counts by state are the installation's, rates this process's."""

    desktops: dict[str, int]
    sessions: dict[str, int]
    waiting: int
    connects_per_min: float
    live_per_min: float
    failures_per_min: float


class OverviewShape(_Shape, frozen=True, kw_only=True):
    """How things stand. `series`: points of the last ten minutes, oldest first, each with `at`
    and for every architecture the counts of active, delivering, waiting and ready."""

    at: str
    architectures: dict[str, StandingShape]
    endpoints: dict[str, dict[str, int]]
    series: list[dict[str, Any]]


class ShadowShape(_Shape, frozen=True, kw_only=True):
    """Somebody of the staff who asks to see a session, sees it, or did.

    `until`: by when the person must answer, or the allowed shadow must be open; while it is open,
    its broker's next sign of life. `code`, `why`: why it is over; null and empty before.
    """

    id: str
    session_id: str
    user: UserRef
    staff: UserRef
    mode: str
    reason: str
    state: str
    code: str | None
    why: str
    asked_at: str
    changed_at: str
    until: str | None
    ends_at: str | None


class ShadowsShape(_Shape, frozen=True, kw_only=True):
    """Of one session, oldest first."""

    items: list[ShadowShape]


class ShadowTicketShape(_Shape, frozen=True, kw_only=True):
    ticket: str
    ticket_expires_at: str

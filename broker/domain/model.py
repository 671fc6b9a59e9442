"""The nouns: frozen records that the whole broker speaks of.

`Instant` is milliseconds since the Unix epoch, UTC. Ids are opaque strings with a prefix for
their noun (`ses_…`) and sort by the time they were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from broker.domain.settings import HostSettings, PoolSettings

Instant: TypeAlias = int
"""Milliseconds since the Unix epoch, UTC."""


class Architecture(StrEnum):
    """Where the desktop runs and what crosses the wire."""

    VDI = "vdi"
    IDV = "idv"
    VOI = "voi"


class EndpointKind(StrEnum):
    """Thin endpoints show a desktop; fat ones run it."""

    THIN = "thin"
    FAT = "fat"


class PoolKind(StrEnum):
    """Floating: any free desktop. Dedicated: the first desktop given stays the user's."""

    FLOATING = "floating"
    DEDICATED = "dedicated"


class LogOff(StrEnum):
    """What becomes of a desktop when its session ends."""

    KEEP = "keep"
    RESET = "reset"
    DELETE = "delete"


class Role(StrEnum):
    ADMINISTRATOR = "administrator"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    USER = "user"


class DesktopState(StrEnum):
    """Parked: suspended while a session still has it; suspended: while nobody does."""

    PLANNED = "planned"
    CREATING = "creating"
    STARTING = "starting"
    READY = "ready"
    ASSIGNED = "assigned"
    RESETTING = "resetting"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    RESUMING = "resuming"
    PARKING = "parking"
    PARKED = "parked"
    UNPARKING = "unparking"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


class SessionState(StrEnum):
    QUEUED = "queued"
    DELIVERING = "delivering"
    ACTIVE = "active"
    DISCONNECTED = "disconnected"
    ENDING = "ending"
    ENDED = "ended"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EndpointState(StrEnum):
    ENROLLED = "enrolled"
    ONLINE = "online"
    OFFLINE = "offline"
    RETIRED = "retired"


class HostState(StrEnum):
    """Draining and maintenance are an administrator's wish: nothing new comes, and under
    maintenance idle desktops move or go, too. Down: it does not answer. Retired: it does not come
    back, and has given up its machines."""

    UP = "up"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"
    DOWN = "down"
    OFF = "off"
    POWERING_ON = "powering_on"
    POWERING_OFF = "powering_off"
    RETIRED = "retired"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobVerb(StrEnum):
    """What a job asks of the engine."""

    CREATE = "create"
    RESET = "reset"
    DESTROY = "destroy"
    SUSPEND = "suspend"
    RESUME = "resume"
    MIGRATE = "migrate"
    RESIZE = "resize"
    POWER_ON = "power_on"
    POWER_OFF = "power_off"
    SNAPSHOT = "snapshot"
    REVERT = "revert"
    DROP_SNAPSHOT = "drop_snapshot"


class CampaignState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a desktop takes at most, or a host has. 0 for disk and network: not counted."""

    cpus: float
    memory_mib: int
    disk_mib: int = 0
    disk_iops: int = 0
    network_mbit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: str
    username: str
    display_name: str
    role: Role
    enabled: bool
    group_ids: tuple[str, ...]
    created_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """People entitled together: a class, a staff room, a department."""

    id: str
    name: str
    title: str
    created_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One version of a golden image. `size_bytes` is what a full copy carries over the wire.

    `boot_bytes` is the part that a streamed boot reads (VOI); see loadtests/calibration.toml.
    `removed_at`: nothing starts from it any more. Its record stays, so that its name and version
    are never another image's: copies of it may lie at hosts that are away.
    """

    id: str
    name: str
    version: int
    size_bytes: int
    boot_bytes: int
    created_at: Instant
    removed_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Desktops of one architecture and one image, given to the groups entitled to them."""

    id: str
    name: str
    title: str
    architecture: Architecture
    kind: PoolKind
    image_id: str
    resources: Resources
    spares_min: int
    size_max: int
    log_off: LogOff
    disconnect_grace_s: int
    lease_s: int
    enabled: bool
    group_ids: tuple[str, ...]
    created_at: Instant
    settings: PoolSettings = field(default_factory=PoolSettings)
    image_since: Instant | None = None
    """when its image was changed last; None: never, as far as is known"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A server that runs VDI desktops. `profile`: how its engine reaches it, and what it offers.

    `revision` goes up with every change of what administrators say of it; its state, and what goes
    with that, changes beside it. An older record tells nothing that a newer one does not.
    """

    id: str
    name: str
    engine: str
    profile: str
    state: HostState
    capacity: Resources
    overcommit_cpu: float
    start_limit: int
    created_at: Instant
    settings: HostSettings = field(default_factory=HostSettings)
    deadline_at: Instant | None = None
    changed_at: Instant = 0
    note: str = ""
    revision: int = 1

    @property
    def hardware(self) -> tuple[str, str]:
        """What a running machine must find again where it moves to: the engine, and the profile
        without its knobs."""
        return self.engine, self.profile.partition("?")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desktop:
    """One desktop: a machine on a host (VDI) or the place of a fat endpoint in a pool (IDV, VOI).

    `generation` goes up each time the desktop is made fresh; reports of an older one are ignored.
    `target` and `deadline_at` are set in transient states, so that a restart resumes.
    """

    id: str
    name: str
    pool_id: str
    architecture: Architecture
    host_id: str | None
    endpoint_id: str | None
    owner_id: str | None
    state: DesktopState
    target: DesktopState | None
    deadline_at: Instant | None
    generation: int
    resources: Resources
    note: str
    created_at: Instant
    changed_at: Instant
    moving_to: str | None = None
    """the host that it migrates to; it counts on both until it is there"""
    image_id: str | None = None
    """what its disk was made from, since its making or its reset began; None: not known, for that
    was before it was kept, or an endpoint's own affair"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A device at somebody's desk, known by its own Ed25519 public key (32 bytes)."""

    id: str
    name: str
    kind: EndpointKind
    location: str
    state: EndpointState
    public_key: bytes | None
    pool_ids: tuple[str, ...]
    agent_version: str
    last_seen_at: Instant | None
    created_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseReport:
    """One step of a delivery as the endpoint saw it. Durations in ms, bytes both ways."""

    name: str
    took_ms: float
    bytes_down: int = 0
    bytes_up: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes on the wire of one session, by kind, both directions added."""

    control: int = 0
    display: int = 0
    image: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Somebody wants to take the session over at another endpoint, or in the browser of that
    sign-in (`browser`; `endpoint_id` is None then)."""

    id: str
    endpoint_id: str | None
    until: Instant
    browser: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message to the person, from `sender` (a user name, or "" for the broker)."""

    id: str
    text: str
    sender: str
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A person's request for a desktop, from the queue to log-off. Never deleted.

    `revision` goes up with every change: clients wait for "later than the one I saw".
    `why` explains the latest decision in words for a person.
    """

    id: str
    user_id: str
    pool_id: str
    architecture: Architecture
    desktop_id: str | None
    endpoint_id: str | None
    group_id: str | None
    state: SessionState
    deadline_at: Instant | None
    generation: int
    revision: int
    why: str
    requested_at: Instant
    assigned_at: Instant | None
    live_at: Instant | None
    ended_at: Instant | None
    lease_until: Instant | None
    phases: tuple[PhaseReport, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)
    active_at: Instant | None = None
    """the person's last input, as far as it was reported; while queued, the client's last call"""
    ends_at: Instant | None = None
    """the maximum session time's end, extensions included"""
    wish: Wish | None = None
    notice: Notice | None = None
    """the newest message to the person"""
    browser: str | None = None
    """the sign-in (token id) of the browser that it is at; None: at an endpoint, or nowhere"""
    display: str | None = None
    """the ticket that the browser's display was opened with last"""
    source: str | None = None
    """the client's address when the session was asked for: who waits is admitted by it again"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Leave to open one session once, for a short time. Only the secret's hash is stored."""

    id: str
    secret_hash: bytes
    session_id: str
    user_id: str
    expires_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of engine work. Its id is the operation id: repeating it does nothing twice."""

    id: str
    verb: JobVerb
    desktop_id: str
    host_id: str
    generation: int
    state: JobState
    attempts: int
    deadline_at: Instant | None
    not_before_at: Instant
    error: str
    created_at: Instant
    finished_at: Instant | None
    arguments: Mapping[str, str] = field(default_factory=dict)
    """MIGRATE: to_host_id. RESIZE: cpus, memory_mib, disk_mib, disk_iops, network_mbit.
    RESUME: restart ("true": off first, if it runs). SNAPSHOT, REVERT, DROP_SNAPSHOT: snapshot_id.
    Work on a host has no desktop: `desktop_id` is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLease:
    """The right to do one kind of shared work until `until`. `fence` goes up whenever the holder
    changes; what a holder writes names it and is refused once it is not the lease's."""

    name: str
    holder: str
    fence: int
    until: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A load campaign known to the console. `summary` is the short form of its report."""

    id: str
    name: str
    seed: int
    plan_sha256: str
    state: CampaignState
    verdict: str
    report_path: str
    summary: Mapping[str, object]
    started_at: Instant
    finished_at: Instant | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who makes a request: a user and the token that proved it."""

    user_id: str
    username: str
    role: Role
    token_id: str
    group_ids: tuple[str, ...] = ()

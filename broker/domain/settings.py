"""What an administrator sets: for a pool, a host, and the whole site.

Kept as one document beside the record, for no statement looks into it. Every default is what a
pool, a host or a site had before anybody set anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from broker.domain.calendar import Holiday, Window


class ServiceState(StrEnum):
    """Open: gives desktops. Draining: those who have one keep it, nobody new gets one.
    Maintenance: as draining, and machines are neither made nor kept warm."""

    OPEN = "open"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"


class AfterGrace(StrEnum):
    """What becomes of a disconnected session whose grace is over."""

    LOG_OFF = "log_off"
    SUSPEND = "suspend"


class WhenIdle(StrEnum):
    DISCONNECT = "disconnect"
    LOG_OFF = "log_off"


class TakeOver(StrEnum):
    """What happens when a person connects from another endpoint while the session is live:
    it moves, it moves once the person at the first place agrees, or it stays."""

    MOVE = "move"
    ASK = "ask"
    REFUSE = "refuse"


class Shadowing(StrEnum):
    """What the staff may ask a person in whose desktop it is: nothing, to look on, or to take part
    as well. Without the person's yes nothing is ever shown."""

    OFF = "off"
    VIEW = "view"
    ASK = "ask"


class Clipboard(StrEnum):
    """Which way what was copied may go, as seen from the desktop."""

    OFF = "off"
    IN = "in"
    OUT = "out"
    BOTH = "both"


class Spread(StrEnum):
    """Breadth first: the emptiest host. Depth first: the fullest that still fits."""

    BREADTH = "breadth"
    DEPTH = "depth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One number for each resource of a machine."""

    cpus: float = 0.0
    memory: float = 0.0
    disk: float = 0.0
    network: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a desktop may take at most of disk and network, beside its size; 0: not limited.

    disk_mib_s: read and written together, MiB/s.
    network_peak_mbit: for a while, Mbit/s; its size's `network_mbit` is the average then.
    network_burst_mib: what may go at the peak at once, MiB.
    """

    disk_mib_s: int = 0
    network_peak_mbit: int = 0
    network_burst_mib: int = 0


EQUAL_SHARES = Share(cpus=1.0, memory=1.0, disk=1.0, network=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """What may cross between the person's place and the desktop, beside picture, keys and pointer;
    and whether the desktop's picture bears a mark of who sees it."""

    clipboard: Clipboard = Clipboard.OFF
    usb: bool = False
    drives: bool = False
    printing: bool = False
    watermark: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEntry:
    """While `window` holds, what is not None here replaces the pool's own. Later entries win.

    `open` False: nobody new gets a desktop. `power` False: spares are not kept and idle hosts
    may be powered off.
    """

    name: str
    window: Window
    spares_min: int | None = None
    spares_suspended: int | None = None
    size_min: int | None = None
    open: bool | None = None
    power: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """A pool's behaviour. Times are in seconds; 0 means no limit unless said otherwise.

    size_min: machines that exist even when nobody uses them (made at once: the initial size).
    spares_suspended: second-level spares, suspended, resumed before new ones are made.
    refill_batch: machines begun for the pool in one look.
    keep_suspended_s: how long a suspended session is kept before it is logged off.
    warn_s: before an idle or maximum time ends a session, the person is told.
    consent_s: to answer a take-over, or who asks to shadow; no answer is a no.
    lock_on_disconnect: the desktop's screen is locked when its person is disconnected.
    channels: laid down in the desktop as its policy, where it has an agent that can be asked.
    shadowing: what the staff may ask to see of live sessions.
    guarantee: the part (0 to 1) of each resource that a desktop has for itself, its minimum.
    weights: its share of what is contended, relative to others (1 is usual).
    limits: what it may take at most of disk and network, beside its size.
    share_pages: whether its host may keep equal pages of its memory and others' once (KSM): saves
    memory, but lets a desktop find out by timing what others have in theirs.
    labels: only hosts with all of these; prefer_labels: these first.
    storage: the class of storage that new disks are made in, of hosts that have it; empty: where
    each host keeps desktops unless told otherwise.
    apart: no two desktops of this pool on one host while another fits.
    failures_max: consecutive failures to make a machine before the circuit breaker opens;
    breaker_s: for how long at first, doubled at each further failure up to breaker_max_s.
    """

    state: ServiceState = ServiceState.OPEN
    size_min: int = 0
    spares_suspended: int = 0
    refill_batch: int = 50
    after_grace: AfterGrace = AfterGrace.LOG_OFF
    keep_suspended_s: int = 8 * 3600
    idle_s: int = 0
    when_idle: WhenIdle = WhenIdle.DISCONNECT
    session_max_s: int = 0
    warn_s: int = 300
    take_over: TakeOver = TakeOver.MOVE
    consent_s: int = 60
    lock_on_disconnect: bool = True
    channels: Channels = field(default_factory=Channels)
    shadowing: Shadowing = Shadowing.ASK
    spread: Spread = Spread.BREADTH
    guarantee: Share = field(default_factory=Share)
    weights: Share = EQUAL_SHARES
    limits: Limits = field(default_factory=Limits)
    share_pages: bool = True
    labels: tuple[str, ...] = ()
    prefer_labels: tuple[str, ...] = ()
    storage: str = ""
    apart: bool = False
    time_zone: str = ""
    """IANA name; empty: the site's"""
    schedule: tuple[ScheduleEntry, ...] = ()
    scale_in_after_s: int = 900
    """surplus machines go when they were surplus for this long"""
    failures_max: int = 5
    breaker_s: int = 30
    breaker_max_s: int = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """`overcommit_*`: how many times over a resource may be promised. `power_managed`: the broker
    may switch the host on and off; `idle_off_s`: off when it was empty for this long."""

    overcommit_memory: float = 1.0
    overcommit_disk: float = 1.0
    overcommit_network: float = 1.0
    labels: tuple[str, ...] = ()
    power_managed: bool = False
    idle_off_s: int = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """The installation's own. `desktops_max`, `memory_mib_max`: the tenant's limits over all hosts
    (0: none). `rebalance_above`: a host fuller than this share gives desktops away by migration
    where the engine can, until it is `rebalance_by` below (hysteresis); 0 turns it off.
    `lost_after_s`: a host that was not heard for so long is given up by the broker itself where
    that is safe (services/host_silence); 0: never."""

    state: ServiceState = ServiceState.OPEN
    message: str = ""
    time_zone: str = "UTC"
    holidays: tuple[Holiday, ...] = ()
    desktops_max: int = 0
    memory_mib_max: int = 0
    rebalance_above: float = 0.0
    rebalance_by: float = 0.1
    lost_after_s: int = 0

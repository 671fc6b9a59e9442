"""What the planner asks for. Each decision carries `why`, a sentence for a person at the help
desk, and `reasons`, one for each host that was weighed (at most PLACEMENT_REASONS_MAX)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from broker.domain.model import Desktop, Host, Instant, Job, Pool, Resources, Session
from broker.domain.planning.view import Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDesktop:
    """A new machine for a pool, on a host."""

    pool: Pool
    host_id: str
    why: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """A pool wants `missing` machines that it does not get now. Nothing to do but to tell.

    `paced`: there is room, and it is their turn as soon as others have started.
    """

    pool: Pool
    missing: int
    why: str
    reasons: tuple[str, ...] = ()
    paced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeDesktop:
    """A suspended machine (SUSPENDED, or PARKED under a session) runs again, or one that failed
    and holds its owner's work. `restart`: it was tried in vain; if it runs it is switched off
    first, for it may hang."""

    desktop: Desktop
    why: str
    restart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendDesktop:
    """A ready machine that nobody has becomes a second-level spare."""

    desktop: Desktop
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearDesktop:
    """A machine goes: it failed, is too many, or stands in the way. Nobody has it."""

    desktop: Desktop
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetDesktop:
    """A machine that waited to be made fresh: its host's turn for it has come. `image_id`: what
    its disk is made from; None where its pool is not known."""

    desktop: Desktop
    image_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewDesktop:
    """A spare is to be made fresh: its disk is not of its pool's image."""

    desktop: Desktop
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshenDesktop:
    """A failed desktop of a fat endpoint is asked to be made fresh again; with `kept` it is used
    again as it is, for its owner's work lies in it."""

    desktop: Desktop
    why: str
    kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeDesktop:
    desktop: Desktop
    to: Resources
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateDesktop:
    desktop: Desktop
    to_host_id: str
    why: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerHost:
    """Switch a host on or off (HostEvent POWER_ON_ASKED, POWER_OFF_ASKED)."""

    host: Host
    on: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireHost:
    """It did not go on or off in time."""

    host: Host


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireDesktop:
    desktop: Desktop


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireSession:
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireJob:
    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeQueue:
    """Somebody waits and something is ready."""

    pool: Pool


Command: TypeAlias = (
    MakeDesktop
    | NoRoom
    | ResumeDesktop
    | SuspendDesktop
    | ClearDesktop
    | ResetDesktop
    | RenewDesktop
    | FreshenDesktop
    | ResizeDesktop
    | MigrateDesktop
    | PowerHost
    | ExpireHost
    | ExpireDesktop
    | ExpireSession
    | ExpireJob
    | ServeQueue
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Commands in the order in which they are to be carried out, and the memory for the next
    look's view."""

    commands: tuple[Command, ...]
    memory: Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMachine:
    """A machine as its engine listed it."""

    engine: str
    host_id: str
    desktop_id: str
    generation: int
    running: bool
    suspended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardMachine:
    """A machine that nobody should have is removed by its engine, as it was seen."""

    machine: SeenMachine
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailDesktop:
    """A row whose machine is gone or is another than the row says: DesktopEvent FAILED."""

    desktop: Desktop
    why: str


StrayCommand: TypeAlias = DiscardMachine | FailDesktop


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """What looked wrong in one comparison; acted on when it still does in the next.

    machines: (host id, desktop id, generation). desktops: (desktop id, generation).
    """

    machines: frozenset[tuple[str, str, int]] = frozenset()
    desktops: frozenset[tuple[str, int]] = frozenset()
    at: Instant = 0

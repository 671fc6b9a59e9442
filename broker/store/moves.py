"""How an event changes a record: the same for every store, decided by the lifecycle tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from broker.domain.errors import (
    ConflictError,
    HostOccupiedError,
    IllegalTransitionError,
    NotFoundError,
)
from broker.domain.lifecycle import (
    DESKTOP,
    ENDPOINT,
    HOST,
    JOB,
    SESSION,
    DesktopEvent,
    EndpointEvent,
    HostEvent,
    JobEvent,
    SessionEvent,
)
from broker.domain.model import (
    Desktop,
    DesktopState,
    Endpoint,
    EndpointKind,
    Host,
    Instant,
    Job,
    PhaseReport,
    Resources,
    Session,
    SessionState,
    Traffic,
)
from broker.limits import PHASES_MAX
from broker.ports import Release, SessionChange
from broker.store.loads import waits_for_reset

HELD_STATES = frozenset(DESKTOP.sources(DesktopEvent.RELEASED_RESET))
"""states of a desktop that a session has: in these, and no others, it can be released"""
RELEASES = (
    DesktopEvent.RELEASED_RESET,
    DesktopEvent.RELEASED_KEEP,
    DesktopEvent.RELEASED_RESTART,
    DesktopEvent.RELEASED_DELETE,
    DesktopEvent.FAILED,
)
"""what a release may be"""
MOVABLE_STATES = frozenset({DesktopState.READY, DesktopState.ASSIGNED})
"""states in which a desktop can migrate"""
ASSIGNABLE_STATES = frozenset(
    {DesktopState.READY, DesktopState.SUSPENDED, DesktopState.UNAVAILABLE}
)
"""states in which a desktop can be given to somebody for good"""
_NO_CHANGE = SessionChange()


def check_new(desktops: Iterable[Desktop], jobs: Iterable[Job] = ()) -> None:
    """New records begin where their lifecycle begins.

    Raises:
        IllegalTransitionError: one does not.
    """
    for desktop in desktops:
        if desktop.state not in DESKTOP.first:
            raise IllegalTransitionError(f"a new desktop is not {desktop.state}")
    for job in jobs:
        if job.state not in JOB.first:
            raise IllegalTransitionError(f"a new job is not {job.state}")


def check_new_endpoint(endpoint: Endpoint) -> None:
    """Raises IllegalTransitionError: a new endpoint does not begin where its lifecycle begins."""
    if endpoint.state not in ENDPOINT.first:
        raise IllegalTransitionError(f"a new endpoint is not {endpoint.state}")


def move_desktop(
    desktop: Desktop | None,
    event: DesktopEvent,
    now: Instant,
    *,
    generation: int | None = None,
    deadline_at: Instant | None = None,
    note: str | None = None,
    fresh: bool = False,
    disown: bool = False,
) -> Desktop:
    """The desktop after `event`; see DesktopStore.advance."""
    if desktop is None:
        raise NotFoundError("there is no such desktop")
    if generation is not None and generation != desktop.generation:
        raise IllegalTransitionError(
            f"{desktop.name} is at generation {desktop.generation}, not {generation}"
        )
    state = DESKTOP.advance(desktop.state, event)
    return replace(
        desktop,
        state=state,
        target=DESKTOP.transient.get(state),
        deadline_at=deadline_at,
        generation=desktop.generation + fresh,
        owner_id=None if disown else desktop.owner_id,
        note=desktop.note if note is None else note,
        changed_at=now,
        # a machine of an older generation may arrive where it likes: it is nobody's
        moving_to=None if fresh else desktop.moving_to,
    )


def release_desktop(desktop: Desktop, release: Release, now: Instant) -> Desktop | None:
    """The desktop once its session gave it back; None if it is not a session's any more.

    In a passing state it keeps the deadline it had where the release brings none; one that is to
    be made fresh waits for its turn without; in a lasting state it has none.
    """
    if desktop.state not in HELD_STATES or release.event not in RELEASES:
        return None
    to = DESKTOP.advance(desktop.state, release.event)
    passing, waits = to in DESKTOP.transient, to is DesktopState.RESETTING
    keeps = release.deadline_at is None and not waits
    deadline_at = desktop.deadline_at if keeps else release.deadline_at
    return move_desktop(
        desktop,
        release.event,
        now,
        deadline_at=deadline_at if passing else None,
        fresh=release.fresh,
    )


def _of_generation(desktop: Desktop | None, generation: int) -> Desktop:
    if desktop is None:
        raise NotFoundError("there is no such desktop")
    if desktop.generation != generation:
        raise IllegalTransitionError(
            f"{desktop.name} is at generation {desktop.generation}, not {generation}"
        )
    return desktop


def assign_desktop(
    desktop: Desktop | None, owner_id: str, generation: int, others: Iterable[Desktop]
) -> Desktop:
    """See DesktopStore.assign. `others`: the owner's desktops."""
    desktop = _of_generation(desktop, generation)
    if desktop.state not in ASSIGNABLE_STATES:
        raise IllegalTransitionError(f"{desktop.name} is {desktop.state}: wait until it is idle")
    if desktop.owner_id is not None and desktop.owner_id != owner_id:
        raise ConflictError(f"{desktop.name} is somebody's; unassign it first")
    for other in others:
        alive = other.state not in {DesktopState.DELETING, DesktopState.DELETED}
        if other.pool_id == desktop.pool_id and other.id != desktop.id and alive:
            raise ConflictError(f"the person has {other.name} in this pool")
    return replace(desktop, owner_id=owner_id)


def begin_move(desktop: Desktop | None, to_host_id: str, generation: int) -> Desktop:
    """See DesktopStore.begin_move."""
    desktop = _of_generation(desktop, generation)
    if desktop.state not in MOVABLE_STATES:
        raise IllegalTransitionError(f"{desktop.name} is {desktop.state} and does not migrate")
    if desktop.moving_to is not None:
        raise IllegalTransitionError(f"{desktop.name} migrates already")
    if desktop.host_id is None or desktop.host_id == to_host_id:
        raise IllegalTransitionError(f"{desktop.name} has no way to go there")
    return replace(desktop, moving_to=to_host_id)


def end_move(desktop: Desktop | None, to_host_id: str, generation: int, *, moved: bool) -> Desktop:
    """See DesktopStore.end_move."""
    desktop = _of_generation(desktop, generation)
    if desktop.moving_to != to_host_id:
        raise IllegalTransitionError(f"{desktop.name} is not on its way to that host")
    return replace(desktop, host_id=to_host_id if moved else desktop.host_id, moving_to=None)


def resize_desktop(desktop: Desktop | None, generation: int, to: Resources) -> Desktop:
    """See DesktopStore.resized."""
    return replace(_of_generation(desktop, generation), resources=to)


def begin_reset(
    desktop: Desktop | None, generation: int, deadline_at: Instant, image_id: str | None = None
) -> Desktop:
    """See DesktopStore.begin_reset."""
    desktop = _of_generation(desktop, generation)
    if not waits_for_reset(desktop):
        raise IllegalTransitionError(f"{desktop.name} does not wait to be made fresh")
    image_id = desktop.image_id if image_id is None else image_id
    return replace(desktop, deadline_at=deadline_at, image_id=image_id)


def closed_host(name: str) -> IllegalTransitionError:
    """A machine was to be made on a host that is not up any more."""
    return IllegalTransitionError(f"{name} is closed: nothing is made there")


def move_host(
    host: Host | None,
    event: HostEvent,
    now: Instant,
    *,
    deadline_at: Instant | None = None,
    note: str | None = None,
) -> Host:
    """The host after `event`; see DirectoryStore.move_host."""
    if host is None:
        raise NotFoundError("there is no such host")
    return replace(
        host,
        state=HOST.advance(host.state, event),
        deadline_at=deadline_at,
        changed_at=now,
        note=host.note if note is None else note,
    )


def check_new_host(host: Host) -> None:
    """Raises IllegalTransitionError: a new host does not begin where its lifecycle begins."""
    if host.state not in HOST.first:
        raise IllegalTransitionError(f"a new host is not {host.state}")


def check_saved(host: Host, known: Host) -> None:
    """Raises ConflictError: the host was saved by somebody else since it was read."""
    if host.revision != known.revision:
        raise ConflictError(f"{known.name} was changed meanwhile")


def check_vacant(host: Host, desktops: int) -> None:
    """Raises HostOccupiedError: so many desktops that are not deleted are there, or on their way
    there."""
    if desktops:
        text = f"desktops on {host.name}, or on their way there: {desktops}"
        raise HostOccupiedError(text, fields={"desktops": desktops})


def check_session_event(event: SessionEvent) -> None:
    """Raises IllegalTransitionError: a session is claimed together with a desktop only."""
    if event is SessionEvent.CLAIMED:
        raise IllegalTransitionError("a session is claimed together with a desktop")


def move_session(
    session: Session | None,
    event: SessionEvent,
    now: Instant,
    *,
    why: str,
    deadline_at: Instant | None = None,
    generation: int | None = None,
    revision: int | None = None,
    lease_until: Instant | None = None,
    change: SessionChange | None = None,
) -> Session:
    """The session after `event`; see SessionStore.advance."""
    check_session_event(event)
    change = change or _NO_CHANGE
    if session is None:
        raise NotFoundError("there is no such session")
    if generation is not None and generation != session.generation:
        raise IllegalTransitionError(
            f"the session is of generation {session.generation}, not {generation}"
        )
    if revision is not None and revision != session.revision:
        raise IllegalTransitionError(
            f"the session is at revision {session.revision}, not {revision}"
        )
    state = SESSION.advance(session.state, event)
    first_live = state is SessionState.ACTIVE and session.live_at is None
    return replace(
        session,
        state=state,
        endpoint_id=change.move_to if change.move else session.endpoint_id,
        browser=change.move_to_browser if change.move else session.browser,
        display=None if change.move else change.display or session.display,
        deadline_at=deadline_at,
        revision=session.revision + 1,
        why=why,
        live_at=now if first_live else session.live_at,
        ended_at=now if state in SESSION.terminal else session.ended_at,
        lease_until=session.lease_until if lease_until is None else lease_until,
        active_at=session.active_at if change.active_at is None else change.active_at,
        ends_at=session.ends_at if change.ends_at is None else change.ends_at,
        wish=None if change.clear_wish else change.wish or session.wish,
        notice=change.notice or session.notice,
    )


def last_sign(session: Session) -> Instant:
    """When the client of a waiting session was last heard of."""
    return session.requested_at if session.active_at is None else session.active_at


def counted(event: JobEvent) -> int:
    """What it adds to a job's attempts: one that was handed back was none."""
    return {JobEvent.STARTED: 1, JobEvent.HANDED_BACK: -1}.get(event, 0)


def move_job(
    job: Job | None,
    event: JobEvent,
    now: Instant,
    *,
    error: str = "",
    not_before_at: Instant = 0,
    deadline_at: Instant | None = None,
) -> Job:
    """The job after `event`; see JobStore.advance."""
    if job is None:
        raise NotFoundError("there is no such job")
    state = JOB.advance(job.state, event)
    return replace(
        job,
        state=state,
        attempts=job.attempts + counted(event),
        deadline_at=deadline_at,
        not_before_at=not_before_at if state in JOB.first else job.not_before_at,
        error=error,
        finished_at=now if state in JOB.terminal else None,
    )


def move_endpoint(
    endpoint: Endpoint | None, event: EndpointEvent, now: Instant, *, agent_version: str | None
) -> Endpoint:
    """The endpoint after `event`; see EndpointStore.presence."""
    if endpoint is None:
        raise NotFoundError("there is no such endpoint")
    state = ENDPOINT.advance(endpoint.state, event)
    return replace(
        endpoint,
        state=state,
        agent_version=endpoint.agent_version if agent_version is None else agent_version,
        last_seen_at=endpoint.last_seen_at if event is EndpointEvent.RETIRED else now,
    )


def check_enrolment(endpoint: Endpoint, kind: EndpointKind) -> None:
    """Raises ConflictError: the endpoint of that name is retired, or of another kind."""
    if endpoint.state in ENDPOINT.terminal:
        raise ConflictError(f"the endpoint {endpoint.name} is retired")
    if endpoint.kind is not kind:
        raise ConflictError(f"the endpoint {endpoint.name} is {endpoint.kind}, not {kind}")


IDLE_MOVES: dict[EndpointEvent, DesktopEvent] = {
    EndpointEvent.CONNECTED: DesktopEvent.ENDPOINT_BACK,
    EndpointEvent.LOST: DesktopEvent.ENDPOINT_LOST,
    EndpointEvent.RETIRED: DesktopEvent.ENDPOINT_LOST,
}
"""what an endpoint's event means to the desktops on it that nobody uses"""
KEPT_MOVES = IDLE_MOVES | {EndpointEvent.CONNECTED: DesktopEvent.ENDPOINT_BACK_KEPT}
"""and to those of them in which their owner's work lies"""


def idle_deadline(state: DesktopState, fresh_deadline_at: Instant | None) -> Instant | None:
    """A desktop that comes back is in a passing state, which has a deadline; others have none."""
    return fresh_deadline_at if state in DESKTOP.transient else None


def note_phases(session: Session, phases: Iterable[PhaseReport], traffic: Traffic) -> Session:
    """See SessionStore.note_phases."""
    added = tuple(phases)
    return replace(
        session,
        phases=(*session.phases, *added)[-PHASES_MAX:],
        traffic=Traffic(
            control=session.traffic.control + traffic.control,
            display=session.traffic.display + traffic.display,
            image=session.traffic.image + traffic.image,
        ),
        revision=session.revision + bool(added),
    )

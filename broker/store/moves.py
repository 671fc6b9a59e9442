"""How an event changes a record: the same for every store, decided by the lifecycle tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from broker.domain.errors import ConflictError, IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import (
    DESKTOP,
    ENDPOINT,
    JOB,
    SESSION,
    DesktopEvent,
    EndpointEvent,
    JobEvent,
    SessionEvent,
)
from broker.domain.model import (
    Desktop,
    DesktopState,
    Endpoint,
    EndpointKind,
    Instant,
    Job,
    PhaseReport,
    Session,
    SessionState,
    Traffic,
)
from broker.limits import PHASES_MAX


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
        note=desktop.note if note is None else note,
        changed_at=now,
    )


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
    lease_until: Instant | None = None,
    leave_endpoint: bool = False,
) -> Session:
    """The session after `event`; see SessionStore.advance."""
    check_session_event(event)
    if session is None:
        raise NotFoundError("there is no such session")
    if generation is not None and generation != session.generation:
        raise IllegalTransitionError(
            f"the session is of generation {session.generation}, not {generation}"
        )
    state = SESSION.advance(session.state, event)
    first_live = state is SessionState.ACTIVE and session.live_at is None
    return replace(
        session,
        state=state,
        endpoint_id=None if leave_endpoint else session.endpoint_id,
        deadline_at=deadline_at,
        revision=session.revision + 1,
        why=why,
        live_at=now if first_live else session.live_at,
        ended_at=now if state in SESSION.terminal else session.ended_at,
        lease_until=session.lease_until if lease_until is None else lease_until,
    )


def move_job(
    job: Job | None,
    event: JobEvent,
    now: Instant,
    *,
    error: str = "",
    not_before_at: Instant = 0,
    deadline_at: Instant | None = None,
) -> Job:
    """The job after `event`; see JobStore.advance. Starting it counts an attempt."""
    if job is None:
        raise NotFoundError("there is no such job")
    state = JOB.advance(job.state, event)
    return replace(
        job,
        state=state,
        attempts=job.attempts + (event is JobEvent.STARTED),
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

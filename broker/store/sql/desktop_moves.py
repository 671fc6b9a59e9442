"""How desktops change: one statement for each event, held against the lifecycle table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from broker.domain.lifecycle import DESKTOP as LIFECYCLE
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState, Instant, Job
from broker.ports import Release
from broker.store.loads import NOTHING
from broker.store.moves import ASSIGNABLE_STATES, HELD_STATES, MOVABLE_STATES, RELEASES
from broker.store.sql import tables as t
from broker.store.sql.rows import Values
from broker.store.sql.rows.machines import DESKTOP, from_job, to_desktop
from broker.store.sql.rows.resources import from_resources
from broker.store.sql.schema import among
from broker.store.sql.statements import by_state, constant, first, takes

_FRESHER = sa.bindparam("fresher", type_=sa.Integer)
_DISOWNED = sa.bindparam("disowned", type_=sa.Integer)


def moving(event: DesktopEvent) -> dict[str, sa.ColumnElement[object]]:
    """What `event` sets, whatever the row's state is, if that state takes the event."""
    state = t.desktops.c.state

    def target(to: DesktopState) -> sa.ColumnElement[str]:
        heading = LIFECYCLE.transient.get(to)
        return sa.null() if heading is None else constant(heading)  # type: ignore[return-value]

    return {
        "prior_state": state,
        "state": by_state(state, LIFECYCLE, event, constant),
        "target": by_state(state, LIFECYCLE, event, target),
        "changed_at": sa.bindparam("now", type_=sa.BigInteger),
    }


def _advancing(event: DesktopEvent) -> sa.Update:
    wanted = sa.bindparam("wanted", type_=sa.Integer)
    return (
        sa.update(t.desktops)
        .where(
            t.desktops.c.id == sa.bindparam("key"),
            takes(LIFECYCLE, event),
            sa.or_(wanted.is_(None), t.desktops.c.generation == wanted),
        )
        .values(
            **moving(event),
            deadline_at=sa.bindparam("deadline"),
            generation=t.desktops.c.generation + _FRESHER,
            moving_to=sa.case((_FRESHER == 0, t.desktops.c.moving_to)),
            owner_id=sa.case((_DISOWNED == 0, t.desktops.c.owner_id)),
            note=sa.func.coalesce(sa.bindparam("words", type_=sa.Text), t.desktops.c.note),
        )
        .returning(*DESKTOP)
    )


ADVANCING = {event: _advancing(event) for event in DesktopEvent}


def _releasing(event: DesktopEvent) -> sa.Update:
    """As `_advancing`, from a session's hands: see broker.store.moves.release_desktop."""
    released = ADVANCING[event].where(among("state", HELD_STATES))
    if event is DesktopEvent.FAILED:
        return released
    deadline = sa.bindparam("deadline", type_=sa.BigInteger)

    def kept(to: DesktopState) -> sa.ColumnElement[Any]:
        if to is DesktopState.RESETTING:
            return deadline
        passing = to in LIFECYCLE.transient
        return sa.func.coalesce(deadline, t.desktops.c.deadline_at) if passing else sa.null()

    return released.values(deadline_at=by_state(t.desktops.c.state, LIFECYCLE, event, kept))


_RELEASING = {event: _releasing(event) for event in RELEASES}
_INSERT_JOB = sa.insert(t.jobs)
_OF_GENERATION = (
    t.desktops.c.id == sa.bindparam("key"),
    t.desktops.c.generation == sa.bindparam("wanted"),
)
BEGIN_MOVE = (
    sa.update(t.desktops)
    .where(
        *_OF_GENERATION,
        among("state", MOVABLE_STATES),
        t.desktops.c.moving_to.is_(None),
        t.desktops.c.host_id != sa.bindparam("to"),
    )
    .values(moving_to=sa.bindparam("to"))
    .returning(*DESKTOP)
)
_ON_ITS_WAY = (
    sa.update(t.desktops)
    .where(*_OF_GENERATION, t.desktops.c.moving_to == sa.bindparam("to"))
    .values(moving_to=None)
    .returning(*DESKTOP)
)
END_MOVE = {
    True: _ON_ITS_WAY.values(host_id=sa.bindparam("to")),
    False: _ON_ITS_WAY,
}
BEGIN_RESET = (
    sa.update(t.desktops)
    .where(*_OF_GENERATION, t.WAITS_FOR_RESET)
    .values(
        deadline_at=sa.bindparam("deadline"),
        image_id=sa.func.coalesce(sa.bindparam("image", type_=sa.Text), t.desktops.c.image_id),
    )
    .returning(*DESKTOP)
)
ASSIGN = (
    sa.update(t.desktops)
    .where(
        *_OF_GENERATION,
        among("state", ASSIGNABLE_STATES),
        sa.or_(t.desktops.c.owner_id.is_(None), t.desktops.c.owner_id == sa.bindparam("owner")),
    )
    .values(owner_id=sa.bindparam("owner"))
    .returning(*DESKTOP)
)
RESIZE = (
    sa.update(t.desktops)
    .where(*_OF_GENERATION)
    .values({name: sa.bindparam(f"new_{name}") for name in from_resources(NOTHING)})
    .returning(*DESKTOP)
)


def give_back(connection: sa.Connection, desktop_id: str, release: Release, now: Instant) -> None:
    """Give a desktop back, if a session still has it."""
    values = parameters(desktop_id, now, fresh=release.fresh, deadline_at=release.deadline_at)
    if release.event is DesktopEvent.FAILED:
        values["deadline"] = None
    row = first(connection.execute(_RELEASING[release.event], values))
    if row is not None and release.job is not None:
        add_job(connection, release.job, to_desktop(row))


def parameters(
    desktop_id: str,
    now: Instant,
    *,
    fresh: bool,
    deadline_at: Instant | None,
    generation: int | None = None,
    note: str | None = None,
    disown: bool = False,
) -> Values:
    return {
        "key": desktop_id,
        "now": now,
        "wanted": generation,
        "deadline": deadline_at,
        "fresher": int(fresh),
        "disowned": int(disown),
        "words": note,
    }


def add_job(connection: sa.Connection, job: Job, desktop: Desktop) -> None:
    connection.execute(_INSERT_JOB, from_job(replace(job, generation=desktop.generation)))

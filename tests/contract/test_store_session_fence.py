"""A session that was read is moved only if nobody moved it since, in every store."""

from __future__ import annotations

import asyncio

import pytest

from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import SessionEvent
from broker.domain.model import PhaseReport, SessionState, Traffic
from broker.ports import SessionChange, Store
from tests.support.builders import NOW
from tests.support.stores import claimed_session, fill, make_request, ready_desktops


async def test_a_move_decided_from_an_older_revision_is_refused_and_changes_nothing(
    store: Store,
) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    read = await claimed_session(store, make_request())
    live = await store.sessions.advance(
        read.id, SessionEvent.REPORTED_LIVE, NOW, why="live", revision=read.revision
    )
    assert live.state is SessionState.ACTIVE
    with pytest.raises(IllegalTransitionError):
        await store.sessions.advance(
            read.id, SessionEvent.LOG_OFF, NOW, why="late", revision=read.revision
        )
    assert await store.sessions.session(read.id) == live
    phases = [PhaseReport(name="logon", took_ms=1.0)]
    await store.sessions.note_phases(read.id, phases, Traffic())
    with pytest.raises(IllegalTransitionError):
        await store.sessions.advance(
            read.id, SessionEvent.LOG_OFF, NOW, why="late", revision=live.revision
        )


async def test_of_many_that_read_the_same_session_one_moves_it(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    read = await claimed_session(store, make_request())

    async def move(number: int) -> bool:
        try:
            await store.sessions.advance(
                read.id,
                SessionEvent.NOTED,
                NOW,
                why=f"by {number}",
                revision=read.revision,
                change=SessionChange(active_at=NOW + number),
            )
        except IllegalTransitionError:
            return False
        return True

    assert sum(await asyncio.gather(*(move(number) for number in range(8)))) == 1
    found = await store.sessions.session(read.id)
    assert found is not None
    assert found.revision == read.revision + 1

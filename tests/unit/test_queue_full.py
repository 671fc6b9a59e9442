"""Where a queue has no more room, people are told when to come back, and not all at once."""

from __future__ import annotations

import pytest

from broker import limits
from broker.domain.errors import QueueFullError
from broker.domain.model import SessionState
from tests.support.world import SeededChance, make_world


async def refused(seed: int, people: int) -> list[float]:
    """The pauses told to the people who find the queue full."""
    async with make_world() as world:
        object.__setattr__(world.kit, "chance", SeededChance(seed))
        first = await world.connect.connect(world.who("pupil0"), "library")
        assert first.session.state is SessionState.QUEUED
        pauses: list[float] = []
        for number in range(1, people + 1):
            with pytest.raises(QueueFullError) as caught:
                await world.connect.connect(world.who(f"pupil{number}"), "library")
            assert caught.value.retry_after_s is not None
            pauses.append(caught.value.retry_after_s)
        return pauses


async def test_two_people_are_told_different_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POOL_QUEUE_MAX", 1)
    pauses = await refused(1, 4)
    assert len(set(pauses)) == 4
    assert all(pause > 0 for pause in pauses)
    assert max(pauses) <= 3 * min(pauses)
    # chance alone makes them: the same seed tells the same
    assert await refused(1, 4) == pauses
    assert await refused(2, 4) != pauses

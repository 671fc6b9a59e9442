"""Importing a roster into every store: all of it, idempotent, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.domain.errors import RosterError
from broker.domain.model import DesktopState, EndpointState, Role
from broker.domain.roster import FILES
from broker.ports import PageQuery, Store
from broker.services.roster import import_roster
from broker.system import SystemClock, SystemIds
from tests.support.roster_files import GOOD

SCHOOL = Path(__file__).parents[2] / "examples" / "school"


async def import_(
    store: Store, texts: dict[str, str], *, check_only: bool = False
) -> dict[str, int]:
    """How many records were new or changed, by kind."""
    counts = await import_roster(store, SystemClock(), SystemIds(), texts, check_only=check_only)
    return {kind: count.new + count.changed for kind, count in counts.items()}


async def test_a_roster_is_stored_and_a_second_time_changes_nothing(store: Store) -> None:
    first = await import_(store, dict(GOOD))
    assert first == {
        "groups": 2, "users": 3, "images": 2, "hosts": 2, "pools": 3, "entitlements": 4,
        "endpoints": 3, "desktops": 3,
    }  # fmt: skip
    user = await store.directory.user_by_name("li.ming")
    assert user is not None
    assert (user.display_name, user.role) == ("李明", Role.USER)
    places = await store.desktops.desktops(PageQuery())
    assert [one.name for one in places.items] == ["art-01", "lab-01", "lab-01/art"]
    assert {one.state for one in places.items} == {DesktopState.UNAVAILABLE}
    assert set((await import_(store, dict(GOOD))).values()) == {0}


async def test_a_later_roster_changes_records_and_keeps_their_ids(store: Store) -> None:
    await import_(store, dict(GOOD))
    before = await store.directory.user_by_name("ann.smith")
    texts = {
        "users.csv": "username,display_name,groups\nann.smith,Ann Jones,7-maple\n",
        "endpoints.csv": "name,kind,pools\nart-01,fat,lab;art\n",
    }
    changed = await import_(store, texts)
    assert (changed["users"], changed["endpoints"], changed["desktops"]) == (1, 1, 1)
    user = await store.directory.user_by_name("ann.smith")
    assert user is not None
    assert before is not None
    assert (user.id, user.display_name, len(user.group_ids)) == (before.id, "Ann Jones", 1)
    endpoint = await store.endpoints.endpoint_by_name("art-01")
    assert endpoint is not None
    assert (len(endpoint.pool_ids), endpoint.state) == (2, EndpointState.ENROLLED)
    assert set((await import_(store, texts)).values()) == {0}


async def test_one_bad_line_and_nothing_is_changed(store: Store) -> None:
    texts = {**GOOD, "users.csv": "username,role\ngood.one,user\nbad.one,boss\n"}
    with pytest.raises(RosterError) as refused:
        await import_(store, texts)
    problems: Any = refused.value.fields["problems"]
    (problem,) = problems
    assert (problem["file"], problem["line"], problem["field"]) == ("users.csv", 3, "role")
    assert refused.value.fields["more"] == 0
    assert "users.csv line 3" in refused.value.detail
    assert (await store.directory.users(PageQuery())).items == ()
    assert await store.directory.pools() == ()


async def test_a_check_changes_nothing(store: Store) -> None:
    assert (await import_(store, dict(GOOD), check_only=True))["users"] == 3
    assert (await store.directory.users(PageQuery())).items == ()


async def test_the_whole_school_is_stored_and_known_again(store: Store) -> None:
    texts = {file: (SCHOOL / file).read_text(encoding="utf-8") for file in FILES}
    assert (await import_(store, texts))["users"] == 2020
    assert set((await import_(store, texts)).values()) == {0}

"""Shadowing's rules: when a person may be asked, and when what was allowed is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from broker import limits
from broker.domain.errors import BusyError
from broker.domain.model import SessionState
from broker.domain.settings import Shadowing
from broker.domain.shadowing import (
    ENDS,
    Shadow,
    ShadowEnd,
    ShadowMode,
    ShadowState,
    allowed,
    kept,
    lapsed,
    may_be_asked,
    opened,
    over,
)
from broker.services.shadow_book import ShadowBook, Shadows_
from broker.services.tickets import VIEWER_PREFIX, in_viewer
from broker.store.memory import MemoryStore
from tests.support.brokers import make_kit
from tests.support.builders import NOW, make_session

SESSION = make_session(
    state=SessionState.ACTIVE, desktop_id="dsk_1", generation=3, display="b1.tkt_1", browser="tok_1"
)
VIEW, INTERACTIVE = ShadowMode.VIEW, ShadowMode.INTERACTIVE


def make_shadow(**changes: Any) -> Shadow:
    values: dict[str, Any] = {
        "id": "shd_1",
        "session_id": SESSION.id,
        "user_id": SESSION.user_id,
        "staff_id": "usr_9",
        "staff_name": "oliver",
        "mode": VIEW,
        "reason": "the printer",
        "desktop_id": "dsk_1",
        "generation": 3,
        "display": "b1.tkt_1",
        "asked_at": NOW,
        "changed_at": NOW,
        "until": NOW + 60_000,
    }
    return Shadow(**(values | changes))


@pytest.mark.parametrize(
    ("policy", "mode", "may"),
    [
        (Shadowing.OFF, VIEW, False),
        (Shadowing.OFF, INTERACTIVE, False),
        (Shadowing.VIEW, VIEW, True),
        (Shadowing.VIEW, INTERACTIVE, False),
        (Shadowing.ASK, VIEW, True),
        (Shadowing.ASK, INTERACTIVE, True),
    ],
)
def test_the_policy_decides_what_may_be_asked(
    policy: Shadowing, mode: ShadowMode, may: bool
) -> None:
    assert (may_be_asked(SESSION, policy, mode) == "") is may


@pytest.mark.parametrize("state", set(SessionState) - {SessionState.ACTIVE})
def test_only_who_has_the_desktop_in_front_of_him_is_asked(state: SessionState) -> None:
    why = may_be_asked(replace(SESSION, state=state), Shadowing.ASK, VIEW)
    assert why == f"the session is {state}: its display is not open"
    assert may_be_asked(replace(SESSION, desktop_id=None), Shadowing.ASK, VIEW)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"state": SessionState.DISCONNECTED}, ShadowEnd.SESSION_OVER),
        ({"state": SessionState.ENDING}, ShadowEnd.SESSION_OVER),
        ({"desktop_id": "dsk_2"}, ShadowEnd.MOVED),
        ({"generation": 4}, ShadowEnd.MOVED),
        ({"display": "b1.tkt_2"}, ShadowEnd.MOVED),
        ({"endpoint_id": "ept_1"}, ShadowEnd.MOVED),
    ],
)
def test_it_holds_for_one_showing_of_one_desktop(
    changes: dict[str, Any], why: ShadowEnd | None
) -> None:
    now = replace(SESSION, **changes)
    for one in (make_shadow(), allowed(make_shadow(), NOW), opened(make_shadow(), NOW)):
        assert lapsed(one, now, NOW) is why


def test_it_does_not_outlive_its_session() -> None:
    assert lapsed(make_shadow(), None, NOW) is ShadowEnd.SESSION_OVER


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (ShadowState.ASKED, ShadowEnd.NO_ANSWER),
        (ShadowState.ALLOWED, ShadowEnd.NOT_OPENED),
        (ShadowState.OPEN, ShadowEnd.BROKER_GONE),
    ],
)
def test_each_step_has_its_time(state: ShadowState, why: ShadowEnd) -> None:
    one = make_shadow(state=state)
    assert lapsed(one, SESSION, one.until - 1) is None
    assert lapsed(one, SESSION, one.until) is why


def test_however_alive_it_is_it_ends() -> None:
    one = replace(opened(make_shadow(), NOW), until=NOW + 10**12)
    end = NOW + limits.SHADOW_S_MAX * 1000
    assert lapsed(one, SESSION, end - 1) is None
    assert lapsed(one, SESSION, end) is ShadowEnd.TIME_LIMIT


def test_what_is_over_has_no_ticket_and_says_why() -> None:
    one = make_shadow(ticket="abc")
    assert opened(one, NOW).ticket == ""
    assert over(one, ShadowEnd.STOPPED, NOW).ticket == ""
    assert set(ENDS) == set(ShadowEnd)
    refused = {why for why in ShadowEnd if over(one, why, NOW).state is ShadowState.REFUSED}
    assert refused == {ShadowEnd.REFUSED, ShadowEnd.NO_ANSWER}


def test_the_newest_of_what_is_over_is_kept_for_a_while_and_all_that_is_live() -> None:
    live = make_shadow(id="live", changed_at=NOW - 10**9)
    past = [over(make_shadow(id=f"p{at}"), ShadowEnd.ENDED, NOW + at) for at in range(5)]
    found = kept([past[3], live, *past[:3], past[4]], NOW + 1, 2)
    assert [one.id for one in found] == ["p3", "live", "p4"]
    assert kept([past[0]], NOW, 2) == ()


def test_a_display_outside_the_browser_is_known_by_its_ticket() -> None:
    assert in_viewer(f"b1-7.{VIEWER_PREFIX}_1")
    assert in_viewer(f"{VIEWER_PREFIX}_1")
    assert not in_viewer("b1-7.tkt_1")


def largest(prefix: str, text: str) -> dict[str, Shadow]:
    """As many as may be live, with names and reasons of the longest that are let in."""
    return {
        name: replace(
            opened(
                make_shadow(
                    id=name,
                    reason=text * limits.SHADOW_REASON_CHARS_MAX,
                    staff_name=text * limits.NAME_CHARS_MAX,
                    browser="tok_" + "x" * 22,
                    display="broker-99:1234567." + "x" * 26,
                ),
                NOW,
            ),
            ticket="f" * 64,
        )
        for name in (f"{prefix}_{at:022d}" for at in range(limits.SHADOWS_LIVE_MAX))
    }


async def test_whoever_asked_learns_why_though_all_end_together_and_others_begin() -> None:
    before, after = largest("old", "\u5370"), largest("new", "\u5370")
    past = {name: over(one, ShadowEnd.STOPPED, NOW) for name, one in before.items()}
    book = ShadowBook(make_kit(MemoryStore()))
    await book.change(lambda _: before)
    assert await book.read() == before
    await book.change(lambda now: {**now, **past})
    assert await book.read() == past, "with their reasons, for there is room"
    await book.change(lambda now: {**now, **after})
    found = await book.read()
    assert {name: one for name, one in found.items() if one.live} == after
    assert {name: one.why for name, one in found.items() if not one.live} == dict.fromkeys(
        past, ShadowEnd.STOPPED
    )


async def test_what_asks_has_its_place_in_the_list_however_long_the_reasons_are() -> None:
    """In characters of four bytes: then the oldest that are over give way."""
    before, after = largest("old", "\U0001f5a8"), largest("new", "\U0001f5a8")
    past = {
        name: over(one, ShadowEnd.STOPPED, NOW + at)
        for at, (name, one) in enumerate(before.items())
    }
    book = ShadowBook(make_kit(MemoryStore()))
    await book.change(lambda _: {**past, **after})
    found = await book.read()
    assert {name: one for name, one in found.items() if one.live} == after
    left = [name for name, one in found.items() if not one.live]
    assert left == list(past)[-len(left) :]
    assert len(left) > limits.SHADOWS_KEPT_MAX // 2


async def test_what_only_a_newer_broker_can_read_is_left_out_and_not_lost() -> None:
    kit = make_kit(MemoryStore())
    documents, book = kit.store.documents, ShadowBook(kit)
    await book.change(lambda _: {"shd_1": make_shadow()})
    document = await documents.document("shadows")
    assert document is not None
    (row,) = cast("list[dict[str, Any]]", document.value["shadows"])
    ahead = kit.clock.now() + 60_000
    newer = row | {"volume": 7}
    odd = [
        row | {"id": "shd_2", "why": "shadow.of_tomorrow", "until": ahead},
        row | {"id": "shd_3", "state": "dreamt", "until": ahead},
        {"id": "shd_4", "until": ahead},
    ]
    gone = [row | {"id": "shd_5", "mode": "listen", "until": 0}, 7]
    await documents.save("shadows", {"shadows": [newer, *odd, *gone]}, revision=document.revision)
    assert await book.read() == {"shd_1": make_shadow()}
    allowed_ = allowed(make_shadow(), NOW)
    await book.change(lambda now: {**now, "shd_1": allowed_})
    assert await book.read() == {"shd_1": allowed_}
    document = await documents.document("shadows")
    assert document is not None
    found = {one["id"]: one for one in cast("list[dict[str, Any]]", document.value["shadows"])}
    assert found.pop("shd_1")["volume"] == 7
    assert found == {one["id"]: one for one in odd}


async def test_a_change_is_decided_from_the_list_as_it_is() -> None:
    store = MemoryStore()
    here, there = ShadowBook(make_kit(store, "a")), ShadowBook(make_kit(store, "b"))
    one, two = make_shadow(), make_shadow(id="shd_2")
    tries: list[int] = []

    async def meanwhile() -> None:
        await there.change(lambda now: {**now, two.id: two})

    documents = store.documents
    save = documents.save

    async def late(*args: Any, **named: Any) -> Any:
        if not tries:
            tries.append(1)
            await meanwhile()
        return await save(*args, **named)

    documents.save = late  # type: ignore[method-assign]
    assert set(await here.change(lambda now: {**now, one.id: one})) == {one.id, two.id}


async def test_a_list_that_others_never_leave_alone_is_told_as_busy() -> None:
    store = MemoryStore()
    book, other = ShadowBook(make_kit(store, "a")), ShadowBook(make_kit(store, "b"))
    documents, count = store.documents, [0]
    save = documents.save

    async def late(*args: Any, **named: Any) -> Any:
        count[0] += 1
        shadow = make_shadow(id=f"shd_{count[0]}")
        documents.save = save  # type: ignore[method-assign]
        await other.change(lambda now: {**now, shadow.id: shadow})
        documents.save = late  # type: ignore[method-assign]
        return await save(*args, **named)

    documents.save = late  # type: ignore[method-assign]

    def add(now: Shadows_) -> Shadows_:
        return {**now, "shd_mine": make_shadow(id="shd_mine")}

    with pytest.raises(BusyError):
        await book.change(add)
    assert count[0] == limits.SHADOW_TRIES_MAX

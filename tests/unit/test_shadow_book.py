"""The list of shadows that brokers share: what is kept, and what happens when several write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from broker import limits
from broker.domain.errors import BusyError
from broker.domain.shadowing import Shadow, ShadowEnd, allowed, opened, over
from broker.services.shadow_book import ShadowBook, Shadows_
from broker.services.tickets import VIEWER_PREFIX, in_viewer
from broker.store.memory import MemoryStore
from tests.support.brokers import make_kit
from tests.support.builders import NOW, make_shadow


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

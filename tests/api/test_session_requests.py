"""Over HTTP: telling a person something, extending, moving with consent, places in the queue."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker import limits
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import EndpointKind, EndpointState
from broker.domain.settings import PoolSettings, TakeOver
from broker.ports import PageQuery, RosterChange
from tests.support.app import App, Person
from tests.support.builders import make_endpoint


async def set_library(app: App, settings: PoolSettings) -> None:
    pool = await app.services.pools.find("library")
    changed = replace(pool, settings=settings)
    await app.services.kit.store.directory.save_pool(changed, new=False)
    app.services.pools.forget()


async def add_thin(app: App, name: str) -> None:
    endpoint = make_endpoint(
        id=f"ept_{name}",
        name=name,
        kind=EndpointKind.THIN,
        state=EndpointState.ENROLLED,
        pool_ids=(),
    )
    await app.services.kit.store.directory.apply_roster(RosterChange(endpoints=(endpoint,)))


async def live(app: App, name: str = "ann", endpoint: str | None = None) -> dict[str, Any]:
    body = {"pool": "library"} if endpoint is None else {"pool": "library", "endpoint": endpoint}
    made = await app.call("POST", "/sessions", app.people[name], body=body)
    session = made.json["session"]
    place = session["endpoint"]["id"] if session["endpoint"] else None
    await app.services.sessions.live(session["id"], place, session["generation"])
    found: dict[str, Any] = (
        await app.call("GET", f"/sessions/{session['id']}", app.people[name])
    ).json
    return found


async def test_the_staff_tells_a_person_something_and_the_person_reads_it(app: App) -> None:
    session = await live(app)
    path, body = f"/sessions/{session['id']}/message", {"text": "The room closes at six."}
    told = await app.call("POST", path, app.people["alice"], body=body)
    assert told.status == 200
    seen = await app.call("GET", f"/sessions/{session['id']}", app.people["ann"])
    assert seen.json["notice"]["text"] == "The room closes at six."
    assert seen.json["notice"]["sender"] == "alice"
    assert seen.json["revision"] > session["revision"]
    refused = await app.call("POST", path, app.people["ann"], body=body)
    assert refused.status == 403
    for text in ("", "x" * (limits.NOTICE_CHARS_MAX + 1)):
        bad = await app.call("POST", path, app.people["alice"], body={"text": text})
        assert (bad.status, bad.json["code"]) == (400, "request.invalid")
    await app.call("DELETE", f"/sessions/{session['id']}", app.people["ann"])
    late = await app.call("POST", path, app.people["alice"], body=body)
    assert (late.status, late.json["code"]) == (409, "resource.conflict")


async def test_an_operator_extends_a_session_that_has_an_end(app: App) -> None:
    session = await live(app)
    path = f"/sessions/{session['id']}/extend"
    none = await app.call("POST", path, app.people["alice"], body={"seconds": 600})
    assert (none.status, none.json["code"]) == (409, "resource.conflict")
    await set_library(app, PoolSettings(session_max_s=3600))
    before = (await app.call("GET", f"/sessions/{session['id']}", app.people["ann"])).json
    assert before["ends_at"] is not None
    longer = await app.call("POST", path, app.people["alice"], body={"seconds": 600})
    assert longer.status == 200
    assert longer.json["ends_at"] > before["ends_at"]
    for seconds in (0, -1, limits.EXTEND_S_MAX + 1):
        bad = await app.call("POST", path, app.people["alice"], body={"seconds": seconds})
        assert bad.status == 400
    assert (await app.call("POST", path, app.people["ann"], body={"seconds": 1})).status == 403


async def test_a_browser_is_asked_before_its_session_moves_and_the_ticket_comes_after(
    app: App,
) -> None:
    await set_library(app, PoolSettings(take_over=TakeOver.ASK))
    await add_thin(app, "THIN-1")
    ann, session = app.people["ann"], await live(app)
    asked = await app.call("POST", "/sessions", ann, body={"pool": "library", "endpoint": "THIN-1"})
    assert (asked.status, asked.json["ticket"]) == (200, None)
    wish = asked.json["session"]["wish"]
    assert wish["endpoint"]["name"] == "THIN-1"
    path = f"/sessions/{session['id']}/consent"
    stranger = await app.call(
        "POST", path, app.people["bob"], body={"wish": wish["id"], "granted": True}
    )
    assert stranger.status == 404
    moved = await app.call("POST", path, ann, body={"wish": wish["id"], "granted": True})
    assert moved.status == 200
    assert moved.json["endpoint"]["name"] == "THIN-1"
    assert (moved.json["wish"], moved.json["state"]) == (None, "delivering")
    again = await app.call("POST", path, ann, body={"wish": wish["id"], "granted": True})
    assert (again.status, again.json["code"]) == (409, "resource.conflict")


async def sign_in_again(app: App, name: str) -> Person:
    """Another browser of the same person; `app.people` keeps the first."""
    first = app.people[name]
    other = await app.signed_in(await app.services.directory.user(first.id))
    app.people[name] = first
    return other


async def test_the_first_of_two_browsers_is_asked_and_the_second_cannot_answer(app: App) -> None:
    await set_library(app, PoolSettings(take_over=TakeOver.ASK))
    session, home = await live(app), app.people["ann"]
    school = await sign_in_again(app, "ann")
    asked = await app.call("POST", "/sessions", school, body={"pool": "library"})
    assert (asked.status, asked.json["ticket"]) == (200, None)
    wish = asked.json["session"]["wish"]
    assert wish["endpoint"] is None
    path, yes = f"/sessions/{session['id']}/consent", {"wish": wish["id"], "granted": True}
    assert (await app.call("POST", path, school, body=yes)).status == 403
    reload = await app.call("POST", "/sessions", home, body={"pool": "library"})
    assert reload.json["ticket"] is not None
    assert (await app.call("POST", path, home, body=yes)).status == 200
    gone = await app.call("POST", "/sessions", school, body={"pool": "library"})
    assert gone.json["ticket"] is not None


async def test_a_second_browser_is_refused_where_sessions_stay(app: App) -> None:
    await set_library(app, PoolSettings(take_over=TakeOver.REFUSE))
    await live(app)
    school = await sign_in_again(app, "ann")
    refused = await app.call("POST", "/sessions", school, body={"pool": "library"})
    assert (refused.status, refused.code) == (409, "session.elsewhere")
    assert refused.json["endpoint"] == "another browser"


@pytest.mark.parametrize("take_over", [TakeOver.MOVE, TakeOver.ASK])
async def test_who_does_not_want_it_moved_gets_it_only_where_it_is(
    app: App, take_over: TakeOver
) -> None:
    await set_library(app, PoolSettings(take_over=take_over))
    session, ann = await live(app), app.people["ann"]
    elsewhere = await sign_in_again(app, "ann")
    body = {"pool": "library", "move": False}
    refused = await app.call("POST", "/sessions", elsewhere, body=body)
    assert (refused.status, refused.code) == (409, "session.elsewhere")
    assert "was not to be moved" in refused.json["detail"]
    here = await app.call("POST", "/sessions", ann, body=body)
    assert (here.status, here.json["session"]["id"]) == (200, session["id"])
    assert here.json["ticket"] is not None


async def test_who_asks_from_a_browser_does_not_answer_for_the_endpoint(app: App) -> None:
    await set_library(app, PoolSettings(take_over=TakeOver.ASK))
    await add_thin(app, "THIN-1")
    session, ann = await live(app, endpoint="THIN-1"), app.people["ann"]
    asked = await app.call("POST", "/sessions", ann, body={"pool": "library"})
    body = {"wish": asked.json["session"]["wish"]["id"], "granted": True}
    refused = await app.call("POST", f"/sessions/{session['id']}/consent", ann, body=body)
    assert (refused.status, refused.code) == (403, "auth.forbidden")


async def test_a_rule_that_denies_an_endpoint_holds_where_no_endpoint_is_named(app: App) -> None:
    desktops, now = app.services.kit.store.desktops, app.clock.now()
    [place] = (await desktops.desktops(PageQuery(filters={"architecture": "idv"}))).items
    back = DesktopEvent.ENDPOINT_BACK
    fresh = await desktops.advance(place.id, back, now, deadline_at=now + 60_000)
    assert (await desktops.advance(fresh.id, DesktopEvent.REPORTED_READY, now)).state == "ready"
    rule = {"name": "n", "effect": "deny", "users": ["ann"], "endpoints": ["LAB-01"]}
    await app.call("POST", "/rules", app.people["alice"], body=rule)
    ann = app.people["ann"]
    there = await app.call("POST", "/sessions", ann, body={"pool": "lab", "endpoint": "LAB-01"})
    assert there.code == "admission.denied"
    nowhere = await app.call("POST", "/sessions", ann, body={"pool": "lab"})
    assert (nowhere.status, nowhere.code) == (409, "admission.wrong_endpoint")
    # who is not denied names it, too
    bob = await app.call("POST", "/sessions", app.people["bob"], body={"pool": "lab"})
    assert bob.code == "admission.wrong_endpoint"
    usable = (await app.call("GET", "/me/pools", ann)).json["items"]
    assert "lab" in [one["name"] for one in usable]


async def test_an_endpoint_of_the_other_kind_gets_no_desktop(app: App) -> None:
    body = {"pool": "library", "endpoint": "LAB-01"}
    refused = await app.call("POST", "/sessions", app.people["ann"], body=body)
    assert (refused.status, refused.code) == (409, "admission.wrong_endpoint")
    assert "fat" in refused.json["detail"]


async def test_a_pool_that_keeps_sessions_where_they_are_says_where(app: App) -> None:
    await set_library(app, PoolSettings(take_over=TakeOver.REFUSE))
    await add_thin(app, "THIN-1")
    session = await live(app, endpoint="THIN-1")
    refused = await app.call("POST", "/sessions", app.people["ann"], body={"pool": "library"})
    assert (refused.status, refused.json["code"]) == (409, "session.elsewhere")
    assert refused.json["endpoint"] == "THIN-1"
    assert refused.json["session_id"] == session["id"]


async def test_who_waits_is_told_a_new_place_by_the_long_poll(app: App) -> None:
    for number in range(5):
        other = await app.person(f"other{number}", groups=["class-a"])
        await app.call("POST", "/sessions", other, body={"pool": "library"})
    first, second = [
        (await app.call("POST", "/sessions", app.people[name], body={"pool": "library"})).json[
            "session"
        ]
        for name in ("ann", "bob")
    ]
    assert (second["place"], second["state"]) == (2, "queued")
    path = f"/sessions/{second['id']}?seen={second['revision']}&wait_s=30&place=2"
    poll = asyncio.ensure_future(app.call("GET", path, app.people["bob"]))
    await app.call("DELETE", f"/sessions/{first['id']}", app.people["ann"])
    answered = await asyncio.wait_for(poll, 25)
    assert (answered.json["place"], answered.json["state"]) == (1, "queued")
    assert "expected_wait_s" in answered.json

"""Connecting, waiting for news, logging off; and that nobody touches somebody else's session."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from broker.domain.lifecycle import SessionEvent
from broker.web.api.shapes import ConnectedShape, SessionShape
from tests.support.app import App, Person, Reply


async def connect(app: App, who: Person, pool: str = "library", **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await app.call("POST", "/sessions", who, body={"pool": pool}, headers=sent)


async def a_session(app: App, name: str = "ann", pool: str = "library") -> dict[str, Any]:
    found: dict[str, Any] = (await connect(app, app.people[name], pool)).json["session"]
    return found


async def test_a_free_desktop_is_given_with_a_ticket(app: App) -> None:
    reply = await connect(app, app.people["ann"])
    assert reply.status == 201
    made = msgspec.json.decode(reply.body, type=ConnectedShape)
    session = made.session
    assert made.ticket is not None
    assert len(made.ticket) == 43
    assert made.ticket_expires_at is not None
    assert (session.state, session.place, session.pool.name) == ("delivering", None, "library")
    assert session.user.username == "ann"
    assert session.desktop is not None
    assert session.desktop.name.startswith("library-")


async def test_asking_again_answers_the_same_session_with_a_new_ticket(app: App) -> None:
    first, again = [await connect(app, app.people["ann"]) for _ in range(2)]
    assert (first.status, again.status) == (201, 200)
    assert first.json["session"]["id"] == again.json["session"]["id"]
    assert first.json["ticket"] != again.json["ticket"]


async def test_a_pool_is_found_by_id_too(app: App) -> None:
    pool = next(one for one in await app.services.pools.all() if one.name == "library")
    assert (await connect(app, app.people["ann"], pool.id)).status == 201


@pytest.mark.parametrize(
    ("who", "body", "status", "code"),
    [
        ("ann", {"pool": "nowhere"}, 404, "resource.not_found"),
        ("ann", {"pool": "design"}, 403, "admission.not_entitled"),
        ("ann", {"pool": "library", "endpoint": "NOPE"}, 404, "resource.not_found"),
        ("ann", {"pool": "library", "seat": 1}, 400, "request.invalid"),
        ("ann", {}, 400, "request.invalid"),
    ],
)
async def test_who_is_not_admitted_is_told_why(
    app: App, who: str, body: dict[str, Any], status: int, code: str
) -> None:
    reply = await app.call("POST", "/sessions", app.people[who], body=body)
    assert (reply.status, reply.code) == (status, code)


async def test_a_closed_pool_takes_nobody(app: App) -> None:
    await app.call("PATCH", "/pools/library", app.people["alice"], body={"enabled": False})
    assert (await connect(app, app.people["ann"])).code == "admission.pool_closed"


# ------------------------------------------------------------------ idempotency


async def test_one_key_makes_one_session_however_often_it_is_sent(app: App) -> None:
    ann = app.people["ann"]
    replies = await asyncio.gather(
        *(connect(app, ann, Idempotency_Key="monday-0800") for _ in range(10))
    )
    assert len({reply.json["session"]["id"] for reply in replies}) == 1
    assert sorted(reply.status for reply in replies) == [200] * 9 + [201]


async def test_a_key_answers_its_session_even_when_that_is_over(app: App) -> None:
    ann = app.people["ann"]
    first = await connect(app, ann, Idempotency_Key="k")
    await app.call("DELETE", f"/sessions/{first.json['session']['id']}", ann)
    again = await connect(app, ann, Idempotency_Key="k")
    assert again.json["session"]["id"] == first.json["session"]["id"]
    assert again.json["ticket"] is None


async def test_a_key_for_something_else_is_refused(app: App) -> None:
    ann = app.people["ann"]
    await connect(app, ann, Idempotency_Key="k")
    body = {"pool": "lab", "endpoint": "LAB-01"}
    other = await app.call("POST", "/sessions", ann, body=body, headers={"Idempotency-Key": "k"})
    assert (other.status, other.code) == (422, "idempotency.mismatch")
    # somebody else's key of the same name is another key
    assert (await connect(app, app.people["bob"], Idempotency_Key="k")).status == 201


@pytest.mark.parametrize("key", ["", "x" * 129, "é"])
async def test_a_key_is_short_and_printable(app: App, key: str) -> None:
    reply = await connect(app, app.people["ann"], Idempotency_Key=key)
    assert (reply.status, reply.json["field"]) == (400, "Idempotency-Key")


# ------------------------------------------------------------------ the queue


async def fill_library(app: App) -> None:
    """Everybody of class-a but ann and bob has a desktop of the library, and none is left."""
    for number in range(5):
        person = await app.person(f"other{number}", groups=["class-a"])
        assert (await connect(app, person)).status == 201


async def test_without_a_free_desktop_one_waits_and_is_told_the_place(app: App) -> None:
    await fill_library(app)
    ann, bob = app.people["ann"], app.people["bob"]
    first, second = await connect(app, ann), await connect(app, bob)
    assert (first.status, second.status) == (202, 202)
    assert [one.json["session"]["place"] for one in (first, second)] == [1, 2]
    assert first.json["ticket"] is None
    listed = await app.call("GET", "/sessions?state=queued", app.people["alice"])
    assert {one["user"]["username"]: one["place"] for one in listed.json["items"]} == {
        "ann": 1,
        "bob": 2,
    }
    left = await app.call("DELETE", f"/sessions/{first.json['session']['id']}", ann)
    assert (left.status, left.json["state"]) == (202, "cancelled")
    moved_up = await app.call("GET", f"/sessions/{second.json['session']['id']}", bob)
    assert moved_up.json["place"] == 1


async def test_asking_again_in_the_queue_keeps_the_place(app: App) -> None:
    await fill_library(app)
    await connect(app, app.people["ann"])
    again = await connect(app, app.people["ann"])
    assert (again.status, again.json["session"]["place"]) == (202, 1)


# ------------------------------------------------------------------ waiting for news


async def poll(app: App, who: Person, session: dict[str, Any], wait_s: int = 25) -> Reply:
    path = f"/sessions/{session['id']}?seen={session['revision']}&wait_s={wait_s}"
    return await app.call("GET", path, who)


async def test_a_long_poll_ends_with_the_change(app: App) -> None:
    ann, session = app.people["ann"], await a_session(app)
    waiting = asyncio.ensure_future(poll(app, ann, session))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    await app.services.sessions.live(session["id"], None, 1)
    reply = await asyncio.wait_for(waiting, 20)
    assert (reply.json["state"], reply.json["revision"] > session["revision"]) == ("active", True)


async def test_a_change_that_was_missed_is_told_at_once(app: App) -> None:
    ann, session = app.people["ann"], await a_session(app)
    await app.services.sessions.live(session["id"], None, 1)
    assert (await poll(app, ann, session)).json["state"] == "active"


async def test_without_a_change_the_poll_answers_what_is(app: App) -> None:
    ann, session = app.people["ann"], await a_session(app)
    reply = await poll(app, ann, session, wait_s=1)
    assert reply.json["revision"] == session["revision"]


async def test_a_change_by_another_process_is_found_without_its_hint(app: App) -> None:
    ann, session = app.people["ann"], await a_session(app)
    waiting = asyncio.ensure_future(poll(app, ann, session))
    await asyncio.wait([waiting], timeout=0.2)
    store = app.services.kit.store.sessions
    await store.advance(session["id"], SessionEvent.REPORTED_LIVE, app.clock.now(), why="x")
    assert (await asyncio.wait_for(waiting, 20)).json["state"] == "active"


async def test_a_stopping_broker_lets_those_who_wait_go(app: App) -> None:
    ann, session = app.people["ann"], await a_session(app)
    waiting = asyncio.ensure_future(poll(app, ann, session))
    await asyncio.wait([waiting], timeout=0.3)
    app.broker.web.drain()
    reply = await asyncio.wait_for(waiting, 20)
    assert reply.json["revision"] == session["revision"]


@pytest.mark.parametrize("query", ["seen=-1", "seen=x", "wait_s=31", "seen=1&wait_s=1.5"])
async def test_a_strange_wait_is_refused(app: App, query: str) -> None:
    session = await a_session(app)
    reply = await app.call("GET", f"/sessions/{session['id']}?{query}", app.people["ann"])
    assert reply.status == 400


# ------------------------------------------------------------------ ending


async def test_logging_off_ends_the_session_and_may_be_repeated(app: App) -> None:
    ann, session = app.people["ann"], await a_session(app)
    path = f"/sessions/{session['id']}"
    first = await app.call("DELETE", path, ann)
    again = await app.call("DELETE", path, ann)
    assert (first.status, again.status) == (202, 202)
    assert first.json["state"] == again.json["state"] == "ended"
    assert msgspec.json.decode(again.body, type=SessionShape).ended_at is not None
    assert (await connect(app, ann)).json["session"]["id"] != session["id"]


async def test_disconnecting_keeps_the_desktop_for_coming_back(app: App) -> None:
    ann, session = app.people["ann"], await a_session(app)
    await app.services.sessions.live(session["id"], None, 1)
    away = await app.call("POST", f"/sessions/{session['id']}/disconnect", ann)
    assert (away.status, away.json["state"]) == (200, "disconnected")
    back = await connect(app, ann)
    assert back.json["session"]["id"] == session["id"]
    assert back.json["session"]["desktop"] == session["desktop"]


# ------------------------------------------------------------------ other people's


async def test_somebody_elses_session_is_not_there(app: App) -> None:
    session = await a_session(app, "ann")
    path, bob = f"/sessions/{session['id']}", app.people["bob"]
    tries = [
        ("GET", path),
        ("GET", f"{path}?seen=0&wait_s=5"),
        ("DELETE", path),
        ("POST", f"{path}/disconnect"),
        ("GET", f"{path}/display"),
    ]
    unknown = await app.call("GET", "/sessions/ses_nothing", bob)
    for method, target in tries:
        reply = await app.call(method, target, bob)
        assert (reply.status, reply.code) == (404, "resource.not_found"), (method, target)
        assert len(reply.json) == len(unknown.json)
        assert "ann" not in reply.body.decode().replace(session["id"], "")
    still = await app.call("GET", path, app.people["ann"])
    assert still.json["state"] == "delivering"


@pytest.mark.parametrize(
    "query", ["", "?user_id={ann}", "?state=delivering", "?live=true", "?desktop_id={desktop}"]
)
async def test_a_list_holds_nothing_of_others(app: App, query: str) -> None:
    session = await a_session(app, "ann")
    own = await a_session(app, "bob")
    asked = query.format(ann=app.people["ann"].id, desktop=session["desktop"]["id"])
    reply = await app.call("GET", f"/sessions{asked}", app.people["bob"])
    assert {one["id"] for one in reply.json["items"]} <= {own["id"]}


async def test_an_auditor_sees_and_changes_nothing(app: App) -> None:
    session = await a_session(app)
    path, audrey = f"/sessions/{session['id']}", app.people["audrey"]
    assert (await app.call("GET", path, audrey)).json["user"]["username"] == "ann"
    for method, target in (("DELETE", path), ("POST", f"{path}/disconnect")):
        reply = await app.call(method, target, audrey)
        assert (reply.status, reply.code) == (403, "auth.forbidden")


async def test_an_operator_may_end_it_and_the_session_says_who_did(app: App) -> None:
    session = await a_session(app)
    reply = await app.call("DELETE", f"/sessions/{session['id']}", app.people["oliver"])
    assert (reply.json["state"], "oliver" in reply.json["why"]) == ("ended", True)


async def test_not_even_an_administrator_opens_somebody_elses_display(app: App) -> None:
    session = await a_session(app)
    reply = await app.call("GET", f"/sessions/{session['id']}/display", app.people["alice"])
    assert (reply.status, reply.code) == (403, "auth.forbidden")


async def test_no_answer_but_the_owners_carries_a_ticket(app: App) -> None:
    made = (await connect(app, app.people["ann"])).json
    secrets = [made["ticket"], app.people["ann"].token]
    for path in ("/sessions", "/desktops", "/users", "/overview", "/metrics", "/jobs"):
        body = (await app.call("GET", path, app.people["alice"])).body.decode()
        assert not any(secret in body for secret in secrets), path


async def test_my_pools_show_what_i_may_use_and_what_i_have(app: App) -> None:
    session = await a_session(app)
    mine = (await app.call("GET", "/me/pools", app.people["ann"])).json["items"]
    assert [pool["name"] for pool in mine] == ["lab", "library"]
    assert [pool["session"] and pool["session"]["id"] for pool in mine] == [None, session["id"]]
    # a pool that was closed meanwhile is still where my session is
    await app.call("PATCH", "/pools/library", app.people["alice"], body={"enabled": False})
    again = (await app.call("GET", "/me/pools", app.people["ann"])).json["items"]
    assert [pool["name"] for pool in again] == ["lab", "library"]
    others = (await app.call("GET", "/me/pools", app.people["bob"])).json["items"]
    assert [pool["name"] for pool in others] == ["lab"]


async def test_a_hundred_at_once_get_a_desktop_each_or_a_place_each(app: App) -> None:
    people = [await app.person(f"pupil{n:03}", groups=["class-a"]) for n in range(100)]
    replies = await asyncio.gather(*(connect(app, person) for person in people))
    given = [one.json["session"]["desktop"]["id"] for one in replies if one.status == 201]
    places = [one.json["session"]["place"] for one in replies if one.status == 202]
    assert len(given) == len(set(given)) == 5
    assert sorted(places) == list(range(1, 96))
    for person, reply in zip(people, replies, strict=True):
        assert reply.json["session"]["user"]["id"] == person.id

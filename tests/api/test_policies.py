"""Rules, quotas, the site, previews and explanations over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.app import App, Reply


async def as_alice(app: App, method: str, path: str, body: Any = None) -> Reply:
    return await app.call(method, path, app.people["alice"], body=body)


async def connect(app: App, who: str, pool: str = "library") -> Reply:
    return await app.call("POST", "/sessions", app.people[who], body={"pool": pool})


EXAM = {
    "name": "exam",
    "effect": "deny",
    "groups": ["class-a"],
    "pools": ["library"],
    "networks": ["127.0.0.0/8"],
    "windows": [{"days": ["mon", "tue"], "start": "08:00", "end": "12:00"}],
    "note": "maths",
}


async def test_a_rule_is_added_shown_changed_and_removed_by_names(app: App) -> None:
    made = await as_alice(app, "POST", "/rules", EXAM)
    assert made.status == 201
    window = {"days": ["mon", "tue"], "start": "08:00", "end": "12:00", "holidays": "never"}
    assert made.json == {
        **EXAM, "id": made.json["id"], "users": [], "endpoints": [], "enabled": True,
        "windows": [window],
    }  # fmt: skip
    assert (await as_alice(app, "GET", "/rules")).json["items"] == [made.json]
    for ref in ("exam", made.json["id"]):
        assert (await as_alice(app, "GET", f"/rules/{ref}")).json == made.json
    changed = await as_alice(
        app, "PATCH", "/rules/exam", {"enabled": False, "endpoints": ["LAB-01"]}
    )
    assert changed.json == {**made.json, "enabled": False, "endpoints": ["LAB-01"]}
    again = await as_alice(app, "POST", "/rules", EXAM)
    assert (again.status, again.code) == (409, "resource.exists")
    assert (await as_alice(app, "DELETE", "/rules/exam")).status == 204
    assert (await as_alice(app, "GET", "/rules/exam")).status == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"effect": "maybe"}, "effect"),
        ({"groups": ["nobody"]}, "groups"),
        ({"networks": ["10.0.0.1/8"]}, "networks"),
        ({"windows": [{"start": "25:00"}]}, "windows[0].start"),
        ({"windows": [{"start": "24:00"}]}, "windows"),
        ({"effect": "allow", "groups": []}, "users"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_rule_that_cannot_be_is_refused_by_its_field(
    app: App, changes: dict[str, Any], field: str
) -> None:
    reply = await as_alice(app, "POST", "/rules", {**EXAM, **changes})
    assert (reply.status, reply.json["field"]) == (400, field)


async def test_a_rule_that_denies_is_named_to_whom_it_refuses(app: App) -> None:
    await as_alice(app, "POST", "/rules", {**EXAM, "windows": []})
    refused = await connect(app, "ann")
    assert (refused.status, refused.code) == (403, "admission.denied")
    assert "“exam”" in refused.json["detail"]
    await as_alice(app, "PATCH", "/rules/exam", {"networks": ["10.0.0.0/8"]})
    assert (await connect(app, "ann")).status == 201


async def test_a_rule_that_allows_opens_a_pool_to_one_person(app: App) -> None:
    assert (await connect(app, "cid")).code == "admission.not_entitled"
    body = {"name": "cid", "effect": "allow", "users": ["cid"], "pools": ["library"]}
    await as_alice(app, "POST", "/rules", body)
    assert (await connect(app, "cid")).status == 201


async def test_a_quota_is_held_and_changed(app: App) -> None:
    body = {"name": "one", "scope": "pool", "sessions_max": 1, "pools": ["library"]}
    made = await as_alice(app, "POST", "/quotas", body)
    assert made.json == {**body, "id": made.json["id"], "group": None, "enabled": True}
    assert (await connect(app, "ann")).status == 201
    refused = await connect(app, "bob")
    assert (refused.status, refused.code) == (409, "admission.over_quota")
    changed = await as_alice(app, "PATCH", "/quotas/one", {"sessions_max": 2})
    assert changed.json["sessions_max"] == 2
    assert (await connect(app, "bob")).status == 201
    assert [one["name"] for one in (await as_alice(app, "GET", "/quotas")).json["items"]] == ["one"]
    assert (await as_alice(app, "DELETE", "/quotas/one")).status == 204


# --------------------------------------------------------------------------------- the site


async def test_the_site_drains_tells_why_and_opens_again(app: App) -> None:
    before = (await as_alice(app, "GET", "/site")).json
    assert (before["state"], before["revision"]) == ("open", 0)
    held = await connect(app, "ann")
    drained = await as_alice(
        app, "PATCH", "/site", {"state": "draining", "message": "back at noon", "why": "power"}
    )
    assert drained.json["state"] == "draining"
    refused = await connect(app, "bob")
    assert (refused.status, refused.code) == (409, "admission.site_closed")
    assert refused.json["detail"].endswith("back at noon")
    again = await connect(app, "ann")
    assert again.json["session"]["id"] == held.json["session"]["id"]
    opened = await as_alice(app, "PATCH", "/site", {"state": "open", "message": ""})
    assert opened.json["message"] == ""
    assert (await connect(app, "bob")).status == 201


async def test_settings_of_the_site_are_checked_and_not_overwritten(app: App) -> None:
    body = {
        "time_zone": "Asia/Shanghai",
        "holidays": [
            {"day": "2026-12-25", "name": "Christmas"},
            {"day": "2026-10-01", "name": "国庆"},
        ],
        "desktops_max": 500,
        "revision": 0,
    }
    saved = await as_alice(app, "PATCH", "/site", body)
    assert saved.status == 200
    assert [one["day"] for one in saved.json["holidays"]] == ["2026-10-01", "2026-12-25"]
    assert (saved.json["desktops_max"], saved.json["revision"]) == (500, 1)
    late = await as_alice(app, "PATCH", "/site", {"desktops_max": 1, "revision": 0})
    assert (late.status, late.code) == (409, "resource.conflict")
    assert (await as_alice(app, "GET", "/site")).json == saved.json
    for bad, field in (
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"holidays": [{"day": "2026-02-30"}]}, "holidays"),
        ({"holidays": [{"day": "2026-01-01"}, {"day": "2026-01-01"}]}, "holidays"),
        ({"rebalance_above": 2}, "rebalance_above"),
    ):
        reply = await as_alice(app, "PATCH", "/site", bad)
        assert (reply.status, reply.json["field"]) == (400, field)
    assert (await as_alice(app, "PATCH", "/site", {"why": "x"})).status == 400


# --------------------------------------------------------------------------------- previews


async def test_the_help_desk_sees_what_a_person_can_do_and_why(app: App) -> None:
    await as_alice(app, "POST", "/rules", {**EXAM, "windows": [], "networks": ["10.0.0.0/8"]})
    oliver = app.people["oliver"]
    found = (await app.call("GET", "/users/ann/preview", oliver)).json
    by_pool = {one["pool"]["name"]: one for one in found["pools"]}
    library, design = by_pool["library"], by_pool["design"]
    assert (library["may"], library["ready"], library["place"]) == (True, 5, None)
    assert "no address is given" in library["reasons"][0]["text"]
    assert (design["may"], design["code"]) == (False, "admission.not_entitled")
    inside = (await app.call("GET", "/users/ann/preview?address=10.1.2.3", oliver)).json
    denied = next(one for one in inside["pools"] if one["pool"]["name"] == "library")
    assert (denied["may"], denied["code"]) == (False, "admission.denied")
    assert denied["reasons"][0]["applies"] is True


async def test_a_preview_takes_an_endpoint_and_a_time(app: App) -> None:
    await as_alice(app, "POST", "/rules", {**EXAM, "networks": []})
    oliver = app.people["oliver"]

    async def library(query: str) -> Any:
        found = (await app.call("GET", f"/users/ann/preview?{query}", oliver)).json
        return next(one for one in found["pools"] if one["pool"]["name"] == "library")

    monday = await library("at=2026-11-23T09:00:00Z&endpoint=LAB-01")
    assert monday["code"] == "admission.denied"
    assert (await library("at=2026-11-23T12:00:00Z"))["may"] is True
    assert (await library("at=2026-11-25T09:00:00%2B00:00"))["may"] is True
    for bad, status in (("at=9", 400), ("address=home", 400), ("endpoint=none", 404)):
        reply = await app.call("GET", f"/users/ann/preview?{bad}", oliver)
        assert reply.status == status, bad


async def test_a_person_sees_only_what_is_for_him(app: App) -> None:
    found = (await app.call("GET", "/me/preview", app.people["ann"])).json
    assert [one["pool"]["name"] for one in found["pools"]] == ["lab", "library"]
    assert found["address"] == "127.0.0.1"
    assert all(one["reasons"] == [] for one in found["pools"])
    other = await app.call("GET", "/users/bob/preview", app.people["ann"])
    assert other.status == 403


# --------------------------------------------------------------------------------- why


async def test_a_session_says_why_to_its_person_and_to_the_help_desk(app: App) -> None:
    session = (await connect(app, "ann")).json["session"]
    path = f"/sessions/{session['id']}/why"
    mine = (await app.call("GET", path, app.people["ann"])).json["items"]
    name = session["desktop"]["name"]
    assert mine[0]["text"].startswith(f"You were given {name} because it was the first ready")
    theirs = (await app.call("GET", path, app.people["oliver"])).json["items"]
    assert theirs[0]["text"].startswith(f"Ann was given {name}")
    assert (theirs[0]["by"], theirs[0]["action"]) == ("ann", "session.connect")
    assert (await app.call("GET", path, app.people["bob"])).status == 404


async def test_a_message_is_told_once_and_the_note_of_it_not_at_all(app: App) -> None:
    session = (await connect(app, "ann")).json["session"]
    path = f"/sessions/{session['id']}"
    for text in ("one", "two"):
        told = await app.call("POST", f"{path}/message", app.people["oliver"], body={"text": text})
        assert told.status == 200
    reply = await app.call("GET", f"{path}/why", app.people["oliver"])
    actions = [one["action"] for one in reply.json["items"]]
    assert actions.count("session.message") == 2
    assert "session.noted" not in actions


async def test_pools_desktops_and_hosts_say_what_was_decided_about_them(app: App) -> None:
    await as_alice(app, "PATCH", "/pools/library", {"title": "Books"})
    session = (await connect(app, "ann")).json["session"]
    pool = (await as_alice(app, "GET", "/pools/library/why?limit=1")).json
    assert pool["items"][0]["text"].startswith("Ann was given ")
    rest = (await as_alice(app, "GET", f"/pools/library/why?after={pool['next']}")).json
    assert [one["text"] for one in rest["items"]] == ["The pool was changed."]
    assert rest["items"][0]["by"] == "alice"
    desktop = (await as_alice(app, "GET", f"/desktops/{session['desktop']['id']}/why")).json
    assert desktop["items"][0]["id"] == pool["items"][0]["id"]
    await as_alice(app, "PATCH", "/hosts/server-1", {"state": "draining"})
    host = (await as_alice(app, "GET", "/hosts/server-1/why")).json
    assert any(one["text"].startswith("The host takes nothing new") for one in host["items"])


async def test_my_pools_are_those_that_rules_leave_me(app: App) -> None:
    async def mine(who: str) -> list[str]:
        found = (await app.call("GET", "/me/pools", app.people[who])).json["items"]
        return [one["name"] for one in found]

    assert await mine("ann") == ["lab", "library"]
    await as_alice(app, "POST", "/rules", {"name": "x", "effect": "deny", "pools": ["lab"]})
    body = {"name": "y", "effect": "allow", "users": ["cid"], "pools": ["library", "lab"]}
    await as_alice(app, "POST", "/rules", body)
    assert await mine("ann") == ["library"]
    assert await mine("cid") == ["design", "library"]
    await as_alice(app, "PATCH", "/site", {"state": "draining"})
    assert await mine("ann") == ["library"]
    await as_alice(app, "PATCH", "/pools/library", {"enabled": False})
    assert await mine("ann") == []

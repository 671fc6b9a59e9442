"""Lists in pages: complete, in order, and deaf to cursors they did not give."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.app import App

LISTS = ("users", "groups", "pools", "desktops", "sessions", "endpoints", "hosts", "images",
         "jobs", "campaigns")  # fmt: skip
NAMED = ("users", "groups", "pools", "desktops", "endpoints", "hosts", "images", "campaigns")
FILTERS: dict[str, tuple[str, ...]] = {
    "users": ("role=user", "group_id=x"),
    "desktops": ("pool_id=x", "host_id=x", "endpoint_id=x", "state=ready", "architecture=vdi"),
    "sessions": ("user_id=x", "pool_id=x", "desktop_id=x", "endpoint_id=x", "state=active",
                 "architecture=voi", "live=true", "live=false"),
    "endpoints": ("state=online", "kind=thin", "pool_id=x", "location=x"),
    "jobs": ("state=queued", "verb=reset", "desktop_id=x", "host_id=x"),
    "campaigns": ("state=running",),
}  # fmt: skip


async def rows(app: App, path: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        reply = await app.call("GET", f"{path}limit={limit}{after}", app.people["alice"])
        assert reply.status == 200, reply.body
        assert len(reply.json["items"]) <= limit
        found += reply.json["items"]
        if reply.json["next"] is None:
            return found
        after = f"&after={reply.json['next']}"


async def furnish_more(app: App) -> None:
    alice = app.people["alice"]
    for number in range(7):
        person = await app.person(f"李{number}", groups=["class-a"])
        await app.call("POST", "/sessions", person, body={"pool": "library"})
        body = {"name": f"c{number}", "seed": number, "plan_sha256": "0" * 64}
        await app.call("POST", "/campaigns", alice, body=body)


@pytest.mark.parametrize("name", LISTS)
async def test_small_pages_put_together_are_the_large_one(app: App, name: str) -> None:
    await furnish_more(app)
    whole = await rows(app, f"/{name}?", 500)
    assert await rows(app, f"/{name}?", 1) == whole
    assert await rows(app, f"/{name}?", 3) == whole
    ids = [one["id"] for one in whole]
    assert len(set(ids)) == len(ids)
    if name in {"sessions", "campaigns"}:
        assert len(ids) >= 7
        assert ids == sorted(ids, reverse=True)


@pytest.mark.parametrize("name", LISTS)
async def test_a_cursor_that_was_tampered_with_is_refused(app: App, name: str) -> None:
    await furnish_more(app)
    alice = app.people["alice"]
    users = (await app.call("GET", "/users?limit=1", alice)).json["next"]
    pools = (await app.call("GET", "/pools?limit=1", alice)).json["next"]
    other = pools if name == "users" else users
    flipped = users[:-1] + ("A" if users[-1] != "A" else "B")
    for cursor in (other, flipped, "x", "%00", "..%2f", "a" * 1000):
        reply = await app.call("GET", f"/{name}?after={cursor}", alice)
        assert (reply.status, reply.json["field"]) == (400, "after"), cursor


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_takes_its_own_parameters_and_no_others(app: App, name: str) -> None:
    alice = app.people["alice"]
    for query in ("limit=0", "limit=501", "limit=x", "page=2", "limit=1&limit=2", "sort=name"):
        assert (await app.call("GET", f"/{name}?{query}", alice)).status == 400, query
    for query in FILTERS.get(name, ()):
        assert (await app.call("GET", f"/{name}?{query}", alice)).status == 200, query
    for query in ("state=nope", "architecture=x86", "role=root", "live=maybe"):
        assert (await app.call("GET", f"/{name}?{query}", alice)).status == 400, query
    expected = 200 if name in NAMED else 400
    assert (await app.call("GET", f"/{name}?text=a%25_%27", alice)).status == expected


@pytest.mark.parametrize("name", ["users", "pools", "desktops"])
async def test_text_finds_part_of_a_name_in_any_case(app: App, name: str) -> None:
    text = {"users": "AN", "pools": "LIBR", "desktops": "LIBRARY-"}[name]
    found = (await app.call("GET", f"/{name}?text={text}", app.people["alice"])).json["items"]
    key = "username" if name == "users" else "name"
    assert found
    assert all(text.lower() in one[key].lower() for one in found)

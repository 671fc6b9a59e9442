"""A pool gets another version of an image: by PATCH, by a command; what desktops tell of theirs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.domain.model import Image
from broker.ports import PageQuery, RosterChange
from tests.support.app import App, Reply
from tests.support.cli import Ran, run


async def versions(app: App, *numbers: int, name: str = "win", boot_bytes: int = 1) -> None:
    """These versions are there, too."""
    ids, now = app.services.kit.ids, app.clock.now()
    images = tuple(
        Image(
            id=ids.new("img"),
            name=name,
            version=number,
            size_bytes=3_000_000,
            boot_bytes=boot_bytes,
            created_at=now,
        )
        for number in numbers
    )
    await app.services.kit.store.directory.apply_roster(RosterChange(images=images))
    app.services.pools.forget()


async def patch(app: App, image: Any, pool: str = "library", who: str = "alice") -> Reply:
    return await app.call("PATCH", f"/pools/{pool}", app.people[who], body={"image": image})


async def in_command(app: App, *words: str) -> Ran:
    env = {"TRIVIUM_URL": app.url, "TRIVIUM_TOKEN": app.people["alice"].token}
    return await asyncio.to_thread(lambda: run(*words, env=env))


async def desktops(app: App, pool: str, query: str = "") -> list[dict[str, Any]]:
    pool_id = (await app.services.pools.find(pool)).id
    reply = await app.call("GET", f"/desktops?pool_id={pool_id}{query}", app.people["alice"])
    found: list[dict[str, Any]] = reply.json["items"]
    return found


async def test_a_pool_gets_another_version_and_the_trail_says_which(app: App) -> None:
    await versions(app, 2)
    reply = await patch(app, "win@2")
    assert reply.status == 200, reply.body
    assert (reply.json["image"]["name"], reply.json["image"]["version"]) == ("win", 2)
    query = PageQuery(limit=10, filters={"request_id": reply.headers["X-Request-Id"]})
    (entry,) = (await app.services.kit.store.audit.entries(query)).items
    assert entry.action == "pool.change"
    assert entry.why == "library has win@2 instead of win@1: machines are made from it now"
    assert entry.details["image"] == {"from": "win@1", "to": "win@2"}


async def test_a_name_alone_is_its_newest_version(app: App) -> None:
    await versions(app, 9, 10)
    assert (await patch(app, "win")).json["image"]["version"] == 10


async def test_the_same_version_again_changes_nothing(app: App) -> None:
    reply = await patch(app, "win@1")
    assert reply.json["image"]["version"] == 1
    assert (await app.services.pools.find("library")).image_since is None
    query = PageQuery(limit=10, filters={"request_id": reply.headers["X-Request-Id"]})
    (entry,) = (await app.services.kit.store.audit.entries(query)).items
    assert entry.why == "done"


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("linux@1", "there is no image 'linux'; the images there: empty, win"),
        ("win@7", "'win' has no version '7'; the versions there: 3, 2, 1"),
        ("win@", None),
        ("win@newest", "'win' has no version 'newest'; the versions there: 3, 2, 1"),
    ],
)
async def test_what_does_not_exist_is_refused_with_what_does(
    app: App, image: str, says: str | None
) -> None:
    await versions(app, 2, 3)
    await versions(app, 1, name="empty", boot_bytes=0)
    reply = await patch(app, image)
    if says is None:
        # a name with nothing behind its sign is its newest
        assert reply.json["image"]["version"] == 3
        return
    assert (reply.status, reply.json["field"]) == (400, "image")
    assert reply.json["detail"] == says
    assert (await patch(app, None)).status == 400


async def test_a_streamed_boot_needs_something_to_read(app: App) -> None:
    await versions(app, 1, name="empty", boot_bytes=0)
    pool = {
        "name": "physics", "architecture": "voi", "image": "win@1", "size_max": 0,
        "resources": {"cpus": 2, "memory_mib": 4096},
    }  # fmt: skip
    assert (await app.call("POST", "/pools", app.people["alice"], body=pool)).status == 201
    reply = await patch(app, "empty@1", "physics")
    assert (reply.status, reply.json["field"]) == (400, "image")
    assert "no VOI pool can use it" in reply.json["detail"]
    assert (await patch(app, "empty@1")).status == 200


@pytest.mark.parametrize("who", ["ann", "audrey", "oliver"])
async def test_who_may_not_change_pools_gives_no_image(app: App, who: str) -> None:
    await versions(app, 2)
    assert (await patch(app, "win@2", who=who)).status == 403
    assert (await app.services.pools.find("library")).image_since is None


async def test_desktops_tell_what_they_were_made_from_and_what_is_due(app: App) -> None:
    await versions(app, 2)
    assert {one["image_due"] for one in await desktops(app, "library")} == {None}
    await patch(app, "win@2")
    found = await desktops(app, "library")
    # made before anybody kept what from, and before the change
    assert {one["image"] for one in found} == {None}
    assert {one["image_due"]["version"] for one in found} == {2}
    assert {one["image_due"] for one in await desktops(app, "design")} == {None}


async def test_an_endpoints_desktop_has_none_of_its_own(app: App) -> None:
    await versions(app, 2)
    assert (await patch(app, "win@2", "lab")).status == 200
    (one,) = await desktops(app, "lab")
    assert (one["image"], one["image_due"]) == (None, None)


async def test_desktops_are_found_by_the_version_that_they_were_made_from(app: App) -> None:
    image_id = (await app.services.pools.images())[0].id
    assert await desktops(app, "library", f"&image_id={image_id}") == []
    shown = await in_command(app, "desktop", "list", "--image", "win@1")
    assert shown.code == 0, shown.err
    refused = await in_command(app, "desktop", "list", "--image", "win@4")
    assert refused.code != 0
    assert "there is no image 'win@4'" in refused.err


async def test_a_command_gives_a_pool_another_version(app: App) -> None:
    await versions(app, 2)
    changed = await in_command(app, "pool", "change", "library", "--image", "win@2")
    assert changed.code == 0, changed.err
    assert "win@2" in changed.out
    refused = await in_command(app, "pool", "change", "library", "--image", "win@3")
    assert refused.code != 0
    assert "the versions there: 2, 1" in refused.err
    name = (await desktops(app, "library"))[0]["name"]
    shown = await in_command(app, "desktop", "show", name)
    assert "not known, the pool has win@2" in shown.out
    assert "not known, old" in (await in_command(app, "desktop", "list")).out

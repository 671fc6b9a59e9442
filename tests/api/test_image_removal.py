"""Versions of golden images are removed over HTTP and by command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker.domain.errors import AlreadyExistsError
from broker.ports import PageQuery, RosterChange
from broker.services.image_removal import ImageRemoval
from broker.services.image_uploads import ImageUpload
from broker.services.kit import Kit
from tests.support.app import App, Reply
from tests.support.cli import Ran, run
from tests.support.disk_images import MIB

TYPE = {"Content-Type": "application/octet-stream"}


async def upload(app: App, query: str) -> Reply:
    alice = app.people["alice"]
    path = f"/images?{query}&format=raw"
    return await app.call("POST", path, alice, raw=bytes(MIB), headers=TYPE)


async def disk() -> AsyncIterator[bytes]:
    yield bytes(1024)


async def remove(app: App, ref: str, who: str = "alice") -> Reply:
    return await app.call("DELETE", f"/images/{ref}", app.people[who])


def files(app: App) -> list[str]:
    return sorted(path.name for path in app.broker.config.images.glob("*.qcow2"))


async def listed(app: App) -> set[str]:
    reply = await app.call("GET", "/images", app.people["alice"])
    return {f"{one['name']}@{one['version']}" for one in reply.json["items"]}


def removal(app: App) -> ImageRemoval:
    return app.services.image_removal


async def test_a_version_goes_with_its_file_and_the_others_stay(app: App) -> None:
    first = await upload(app, "name=studio")
    await upload(app, "name=studio")
    gone = await remove(app, first.json["id"])
    assert (gone.status, gone.body) == (204, b"")
    found = await listed(app)
    assert "studio@1" not in found
    assert "studio@2" in found
    assert files(app) == ["studio-v2.qcow2"]
    query = PageQuery(limit=100, filters={"request_id": gone.headers["X-Request-Id"]})
    (entry,) = (await app.services.kit.store.audit.entries(query)).items
    assert (entry.action, entry.outcome) == ("image.remove", "done")
    assert (entry.details["image"], entry.details["version"]) == ("studio", 1)


async def test_who_removes_it_again_succeeds_and_what_never_was_is_not_found(app: App) -> None:
    await upload(app, "name=studio")
    both = await asyncio.gather(remove(app, "studio@1"), remove(app, "studio%401"))
    assert [one.status for one in both] == [204, 204]
    assert (await remove(app, "studio@1")).status == 204
    for ref in ("studio@2", "studio", "img_none"):
        reply = await remove(app, ref)
        assert (reply.status, reply.code) == (404, "resource.not_found"), ref


async def test_a_version_in_use_stays_and_the_answer_names_who_uses_it(app: App) -> None:
    pool = await app.services.pools.find("design")
    image = await app.services.pools.image(pool.image_id)
    reply = await remove(app, image.id)
    assert (reply.status, reply.code) == (409, "image.in_use")
    assert "design" in reply.json["pools"]
    assert reply.json["desktops"] > 0
    assert "design (" in reply.json["detail"]
    assert f"{image.name}@{image.version}" in await listed(app)


async def test_only_administrators_remove_images(app: App) -> None:
    await upload(app, "name=studio")
    for who in ("oliver", "ann"):
        assert (await remove(app, "studio@1", who)).status == 403
    assert files(app) == ["studio-v1.qcow2"]


async def test_the_number_of_a_removed_version_is_never_another_images(app: App) -> None:
    """Hosts that are away may have a copy of the one that was removed."""
    await upload(app, "name=studio")
    await remove(app, "studio@1")
    again = await upload(app, "name=studio&version=1")
    assert (again.status, again.code) == (409, "resource.exists")
    assert "was removed" in again.json["detail"]
    following = await upload(app, "name=studio")
    assert following.json["version"] == 2
    roster = {"images.csv": "name,version,size_gib,boot_mib\nstudio,1,10,100\n"}
    reply = await app.call("POST", "/imports", app.people["alice"], body={"files": roster})
    assert reply.status == 422, reply.body
    assert "was removed" in reply.body.decode()


async def test_an_upload_of_a_version_that_is_removed_meanwhile_leaves_nothing(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two brokers take the same number; the first's is removed before the second has its file."""
    uploads, store = app.services.image_uploads, app.services.kit.store.directory
    taken = uploads._store
    assert taken is not None
    take = taken.take

    async def slow(*words: object, **more: object) -> object:
        found = await take(*words, **more)  # type: ignore[arg-type]
        other = replace((await store.images())[0], id="img_other", name="studio", version=1)
        await store.apply_roster(RosterChange(images=(other,)))
        await removal(app).remove("studio@1")
        return found

    monkeypatch.setattr(taken, "take", slow)

    with pytest.raises(AlreadyExistsError):
        await uploads.add(ImageUpload(name="studio", format="raw", version=1), disk())
    assert files(app) == []


async def test_a_broker_deletes_its_file_of_what_was_removed_through_another(app: App) -> None:
    kit: Kit = app.services.kit
    await upload(app, "name=studio")
    elsewhere = ImageRemoval(kit, app.services.shared, app.services.pools, None)
    await elsewhere.remove("studio@1")
    assert files(app) == ["studio-v1.qcow2"]
    await removal(app).tidy()
    assert files(app) == []


async def command(app: App, *words: str) -> Ran:
    env = {"TRIVIUM_URL": app.url, "TRIVIUM_TOKEN": app.people["alice"].token}
    return await asyncio.to_thread(lambda: run("image", *words, env=env))


async def test_versions_are_removed_by_command(app: App) -> None:
    await upload(app, "name=studio")
    done = await command(app, "remove", "studio@1")
    assert done.code == 0, done.err
    assert "studio@1 is removed" in done.err
    assert files(app) == []
    pool = await app.services.pools.find("design")
    refused = await command(app, "remove", pool.image_id, "--json")
    assert refused.code == 1
    error = json.loads(refused.err)["error"]
    assert (error["code"], "design" in error["pools"]) == ("image.in_use", True)

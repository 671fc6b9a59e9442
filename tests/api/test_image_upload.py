"""Golden images over HTTP: who may upload what, how it is recorded, and how slow it may be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.config import load
from broker.domain.errors import BusyError, TriviumError, UnavailableError
from broker.ports import PageQuery, RosterChange
from broker.services import image_uploads
from broker.web.guard import GuardLimits
from tests.support.app import App, Reply, furnish, running_app
from tests.support.cli import Ran, run
from tests.support.disk_images import MIB, made
from tests.support.eventually import eventually

TYPE = {"Content-Type": "application/octet-stream"}
SLOW = GuardLimits(body_s=0.3, upload_stalled_s=3.0, sweep_s=0.05)


async def upload(app: App, data: bytes, query: str, who: str = "alice") -> Reply:
    path = f"/images?{query}"
    return await app.call("POST", path, app.people[who], raw=data, headers=TYPE)


async def disk() -> AsyncIterator[bytes]:
    yield bytes(1024)


def files(app: App) -> list[str]:
    folder = app.broker.config.images
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def versions(app: App) -> list[tuple[str, int]]:
    reply = await app.call("GET", "/images", app.people["alice"])
    return [(one["name"], one["version"]) for one in reply.json["items"]]


async def test_an_upload_becomes_the_next_version_of_its_image(app: App, tmp_path: Path) -> None:
    data = (await asyncio.to_thread(made, tmp_path / "disk")).read_bytes()
    first = await upload(app, data, "name=studio&format=qcow2&boot_mib=1")
    assert (first.status, first.json["version"]) == (201, 1), first.body
    assert first.json["size_bytes"] == len(data)
    assert (first.json["virtual_bytes"], first.json["boot_bytes"]) == (8 * MIB, len(data))
    second = await upload(app, data, "name=studio&format=qcow2")
    assert (second.status, second.json["version"]) == (201, 2), second.body
    taken = await upload(app, data, "name=studio&format=qcow2&version=2")
    assert (taken.status, taken.code) == (409, "resource.exists")
    assert {("studio", 1), ("studio", 2)} <= set(await versions(app))
    assert files(app) == ["studio-v1.qcow2", "studio-v2.qcow2"]
    query = PageQuery(limit=100, filters={"request_id": first.headers["X-Request-Id"]})
    (entry,) = (await app.services.kit.store.audit.entries(query)).items
    assert entry.action == "image.upload"
    assert entry.details["image"] == "studio"
    assert entry.details["sha256"] == first.json["sha256"]


async def test_a_refused_upload_leaves_no_image_and_no_file(app: App, tmp_path: Path) -> None:
    before = await versions(app)
    data = (await asyncio.to_thread(made, tmp_path / "disk", "vmdk")).read_bytes()
    for query, status, code in (
        ("name=studio&format=qcow2", 422, "image.refused"),
        ("name=..%2Fup&format=vmdk", 400, "request.invalid"),
        ("name=up%20s&format=vmdk", 422, "image.refused"),
        ("name=studio", 400, "request.invalid"),
        ("format=vmdk", 400, "request.invalid"),
        ("name=studio&format=vdi", 400, "request.invalid"),
        ("name=studio&format=vmdk&path=/etc/x", 400, "request.invalid"),
    ):
        reply = await upload(app, data, query)
        assert (reply.status, reply.code) == (status, code), (query, reply.body)
    assert await versions(app) == before
    assert files(app) == []


async def test_only_plain_bytes_of_an_administrator_are_taken(app: App) -> None:
    query = "/images?name=studio&format=raw"
    reply = await app.call("POST", query, app.people["oliver"], raw=bytes(512), headers=TYPE)
    assert reply.status == 403
    for headers in ({}, {"Content-Type": "text/plain"}, {**TYPE, "Content-Encoding": "gzip"}):
        reply = await app.call("POST", query, app.people["alice"], raw=bytes(512), headers=headers)
        assert reply.status == 415, headers
    assert files(app) == []


async def test_an_image_without_its_record_is_not_kept(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LostError(Exception):
        pass

    async def lost(change: object) -> None:
        del change
        raise LostError

    monkeypatch.setattr(app.services.kit.store.directory, "apply_roster", lost)
    reply = await upload(app, bytes(1024), "name=studio&format=raw")
    assert reply.status == 500
    assert files(app) == []


@pytest.mark.parametrize("error", [UnavailableError, BusyError])
async def test_an_image_whose_record_may_be_stored_keeps_its_file(
    app: App, monkeypatch: pytest.MonkeyPatch, error: type[TriviumError]
) -> None:
    """The database was told to store it, and its answer was lost."""
    apply = app.services.kit.store.directory.apply_roster

    async def unanswered(change: RosterChange) -> None:
        await apply(change)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(app.services.kit.store.directory, "apply_roster", unanswered)
        reply = await upload(app, bytes(1024), "name=studio&format=raw")
    assert reply.status == 503
    assert ("studio", 1) in await versions(app)
    assert files(app) == ["studio-v1.qcow2"]


async def test_a_file_without_its_record_gives_way_to_an_upload_of_its_version(app: App) -> None:
    app.broker.config.images.mkdir()
    (app.broker.config.images / "studio-v3.qcow2").touch()
    reply = await upload(app, bytes(1024), "name=studio&format=raw&version=3")
    assert (reply.status, reply.json["version"]) == (201, 3), reply.body
    assert (app.broker.config.images / "studio-v3.qcow2").stat().st_size > 0


async def test_a_file_without_its_record_is_in_no_upload_s_way(app: App) -> None:
    """As a restored database leaves it: that number is another image's at the hosts."""
    app.broker.config.images.mkdir()
    for name in ("studio-v3.qcow2", "studio-v9.raw", "studios-v7.qcow2", "studio-v2-v8.qcow2"):
        (app.broker.config.images / name).touch()
    reply = await upload(app, bytes(1024), "name=studio&format=raw")
    assert (reply.status, reply.json["version"]) == (201, 4), reply.body


@pytest.mark.parametrize("recorded", [True, False])
async def test_an_upload_whose_caller_leaves_keeps_its_file_only_with_a_record(
    app: App, monkeypatch: pytest.MonkeyPatch, *, recorded: bool
) -> None:
    begun, goes_on, ended = asyncio.Event(), asyncio.Event(), list[RosterChange]()
    apply = app.services.kit.store.directory.apply_roster

    async def slow(change: RosterChange) -> None:
        begun.set()
        await goes_on.wait()
        if recorded:
            await apply(change)
        ended.append(change)
        if not recorded:
            raise RuntimeError

    monkeypatch.setattr(app.services.kit.store.directory, "apply_roster", slow)
    uploads = app.services.image_uploads
    task = asyncio.create_task(
        uploads.add(image_uploads.ImageUpload(name="studio", format="raw"), disk())
    )
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: ended)
    await eventually(lambda: files(app) == ["studio-v1.qcow2"] * recorded)
    assert (("studio", 1) in await versions(app)) is recorded


async def test_no_more_uploads_than_allowed_run_at_once(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.services.image_uploads, "_places", 0)
    reply = await upload(app, bytes(512), "name=studio&format=raw")
    assert (reply.status, reply.code) == (503, "server.busy")


async def test_an_upload_that_takes_too_long_is_refused(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_uploads, "IMAGE_UPLOAD_S", 0.0)
    reply = await upload(app, bytes(512), "name=studio&format=raw")
    assert (reply.status, reply.code) == (503, "server.unavailable")


# ------------------------------------------------------------------------- slow clients


def head(app: App, length: int) -> bytes:
    lines = (
        "POST /api/v1/images?name=slow&format=raw HTTP/1.1",
        f"Host: {app.address}",
        f"Authorization: Bearer {app.people['alice'].token}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {length}",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_an_upload_may_be_slow_but_not_stand_still(tmp_path: Path) -> None:
    async with running_app(tmp_path, guard=SLOW) as app:
        await furnish(app)
        reader, writer = await asyncio.open_connection(app.address.host, app.address.port)
        writer.write(head(app, 1024))
        for _ in range(32):  # longer than it may stand still, or another body may take
            writer.write(bytes(32))
            await asyncio.sleep(0.15)
        async with asyncio.timeout(60):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 201"), answer
        writer.close()

        reader, writer = await asyncio.open_connection(app.address.host, app.address.port)
        writer.write(head(app, 1024) + bytes(128))
        async with asyncio.timeout(60):
            answer = await reader.read()
        assert answer == b""
        writer.close()
        await eventually(lambda: not list(app.broker.config.images.glob("incoming/*")))
        assert files(app) == ["slow-v1.qcow2"]


# ------------------------------------------------------------------------- by command


async def command(app: App, *words: str) -> Ran:
    """`trivium image …`, as alice; beside the broker, which runs in this process."""
    env = {"TRIVIUM_URL": app.url, "TRIVIUM_TOKEN": app.people["alice"].token}
    return await asyncio.to_thread(lambda: run("image", *words, env=env))


async def test_images_are_examined_and_uploaded_by_command(app: App, tmp_path: Path) -> None:
    file = await asyncio.to_thread(made, tmp_path / "disk", "vmdk")
    looked = await command(app, "examine", str(file), "--format", "vmdk", "--json")
    assert looked.code == 0, looked.err
    assert looked.document["virtual_bytes"] == 8 * MIB
    refused = await command(app, "examine", str(file), "--json")
    assert refused.code == 1
    assert json.loads(refused.err)["error"]["code"] == "image.refused"
    added = await command(
        app, "add", str(file), "--format", "vmdk", "--name", "studio", "--version", "7"
    )
    assert added.code == 0, added.err
    assert "studio@7" in added.out
    again = await command(
        app, "add", str(file), "--format", "vmdk", "--name", "studio", "--version", "7", "--json"
    )
    assert json.loads(again.err)["error"]["code"] == "resource.exists"
    listed = await command(app, "list")
    assert "studio" in listed.out
    assert files(app) == ["studio-v7.qcow2"]


def test_images_are_kept_in_the_data_directory() -> None:
    assert load({"TRIVIUM_DATA": "/srv/trivium"}).images == Path("/srv/trivium/images")

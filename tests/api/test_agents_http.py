"""What endpoints use beside the link: enrolment, image segments, display sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from yarl import URL

from broker import limits, wire
from broker.domain.model import EndpointKind, EndpointState, Ticket
from broker.ports import RosterChange
from broker.services.tickets import secret_hash, ticket_for
from broker.web.display import CLOSE_ENDED, CLOSE_REFUSED
from tests.support.app import App, Reply, furnish, running_app
from tests.support.builders import make_endpoint
from tests.support.eventually import eventually

KEY = "ab" * 32


async def token(app: App) -> str:
    [made] = await app.services.endpoints.make_tokens(1)
    return made


async def enrol(app: App, secret: str, **changes: Any) -> Reply:
    body = {"token": secret, "name": "T-01", "kind": "thin", "public_key": KEY} | changes
    return await app.call("POST", "/agent/v1/enrol", body=body)


async def test_an_endpoint_enrols_once_per_token(app: App) -> None:
    secret = await token(app)
    reply = await enrol(app, secret, location="Room 2", agent_version="1.0", from_tomorrow=1)
    assert reply.status == 201
    assert reply.json["installation_id"] == app.services.kit.installation_id
    found = await app.call("GET", "/endpoints/T-01", app.people["alice"])
    assert (found.json["id"], found.json["location"]) == (reply.json["endpoint_id"], "Room 2")
    assert KEY not in found.body.decode()
    again = await enrol(app, secret, name="T-02")
    assert (again.status, again.code) == (403, "enrolment.refused")


async def test_a_thousand_uses_of_one_token_make_one_endpoint(app: App) -> None:
    secret = await token(app)
    replies = await asyncio.gather(*(enrol(app, secret, name=f"T-{n}") for n in range(100)))
    assert sorted(reply.status for reply in replies) == [201] + [403] * 99


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"public_key": "zz"}, 400),
        ({"public_key": "ab" * 31}, 400),
        ({"public_key": "é"}, 400),
        ({"kind": "toaster"}, 400),
        ({"name": ""}, 400),
        ({"name": "a/b"}, 400),
        ({"name": "x" * 121}, 400),
        ({"name": "a\x1b[2J"}, 400),
        ({"location": "a\u2028b"}, 400),
        ({"protocol": 99}, 400),
        ({"token": ""}, 403),
        ({"token": "x" * 9000}, 413),
    ],
)
async def test_a_wrong_enrolment_does_not_use_the_token_up(
    app: App, changes: dict[str, Any], status: int
) -> None:
    secret = await token(app)
    assert (await enrol(app, secret, **changes)).status == status
    assert (await enrol(app, secret)).status == 201


async def test_a_late_token_is_refused(app: App) -> None:
    secret = await token(app)
    app.clock.shift_s += limits.ENROLMENT_S + 1
    assert (await enrol(app, secret)).code == "enrolment.refused"


async def test_one_of_another_kind_or_retired_is_a_conflict(app: App) -> None:
    assert (await enrol(app, await token(app), name="LAB-01")).code == "resource.conflict"
    await app.call("POST", "/endpoints/LAB-01/retire", app.people["alice"])
    reply = await enrol(app, await token(app), name="LAB-01", kind="fat")
    assert reply.code == "resource.conflict"


# ------------------------------------------------------------------ segments


async def image_token(app: App, life_s: int = 60) -> tuple[str, str]:
    [image] = await app.services.pools.images()
    until = app.clock.now() + life_s * 1000
    return image.id, app.services.images.token(image, "ses_1", until)


def segment_path(image_id: str, index: object) -> str:
    return f"/agent/v1/images/{image_id}/segments/{index}"


async def test_the_segments_together_are_the_image(app: App) -> None:
    image_id, secret = await image_token(app)
    headers = {"Authorization": f"Bearer {secret}"}
    [image] = await app.services.pools.images()
    manifest = app.services.images.manifest(image, boot_only=False)
    size = 0
    for index, digest in enumerate(manifest.digests):
        reply = await app.call("GET", segment_path(image_id, index), headers=headers)
        assert (reply.status, reply.headers["Content-Length"]) == (200, str(len(reply.body)))
        assert hashlib.blake2b(reply.body, digest_size=16).hexdigest() == digest
        assert reply.headers["Content-Type"] == "application/octet-stream"
        size += len(reply.body)
    assert size == image.size_bytes
    past = await app.call("GET", segment_path(image_id, len(manifest.digests)), headers=headers)
    assert past.status == 404


@pytest.mark.parametrize("index", ["-1", "x", "1e3", "9" * 30, "%D9%A3", "0x1", "%20"])
async def test_an_index_is_a_small_whole_number(app: App, index: str) -> None:
    image_id, secret = await image_token(app)
    headers = {"Authorization": f"Bearer {secret}"}
    assert (await app.call("GET", segment_path(image_id, index), headers=headers)).status == 404


async def test_a_token_opens_its_own_image_for_its_own_time(app: App) -> None:
    image_id, secret = await image_token(app)
    good = {"Authorization": f"Bearer {secret}"}
    assert (await app.call("GET", segment_path(image_id, 0), headers=good)).status == 200
    assert (await app.call("GET", segment_path("img_other", 0), headers=good)).status == 401
    first = "A" if secret[0] != "A" else "B"
    for bad in ("", "x", "é", first + secret[1:], app.people["alice"].token):
        headers = {"Authorization": f"Bearer {bad}"}
        reply = await app.call("GET", segment_path(image_id, 0), headers=headers)
        assert (reply.status, reply.code) == (401, "auth.required"), bad
    cookie = {"Cookie": f"trivium={secret}"}
    assert (await app.call("GET", segment_path(image_id, 0), headers=cookie)).status == 401
    app.clock.shift_s += 61
    assert (await app.call("GET", segment_path(image_id, 0), headers=good)).status == 401


async def test_many_endpoints_fetch_at_once(app: App) -> None:
    image_id, secret = await image_token(app)
    headers = {"Authorization": f"Bearer {secret}"}
    replies = await asyncio.gather(
        *(app.call("GET", segment_path(image_id, n % 3), headers=headers) for n in range(60))
    )
    assert {reply.status for reply in replies} == {200}
    assert app.services.tally.totals["image_bytes_sent", "all"] == 60 // 3 * 3_000_000


# ------------------------------------------------------------------ displays


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[App]:
    """With the reconciler and the simulated engine, so that desktops have displays."""
    env = {"TRIVIUM_SPEED": "1000"}
    async with running_app(tmp_path, env=env, reconcile=True) as made:
        await furnish(made, desktops=0)
        await made.call("PATCH", "/pools/library", made.people["alice"], body={"spares_min": 2})
        ready = made.services.kit.store.desktops.counts
        async with asyncio.timeout(60):
            while not any(state == "ready" for _, state in await ready()):
                await asyncio.sleep(0.05)
        yield made


async def ticket(app: App, name: str = "ann") -> tuple[str, str]:
    """(session id, ticket)"""
    made = await app.call("POST", "/sessions", app.people[name], body={"pool": "library"})
    return made.json["session"]["id"], made.json["ticket"]


@contextlib.asynccontextmanager
async def display(
    app: App, session_id: str, name: str = "ann"
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    url = URL(f"{app.url}/api/v1/sessions/{session_id}/display")
    async with app.http.ws_connect(url, headers=app.people[name].headers) as ws:
        yield ws


async def present(ws: aiohttp.ClientWebSocketResponse, secret: str) -> wire.FromDisplay:
    await ws.send_str(wire.encode(wire.DisplayOpen(ticket=secret)).decode())
    async with asyncio.timeout(30):
        message = await ws.receive()
    assert message.type is WSMsgType.TEXT
    answer: wire.FromDisplay = wire.decode_from_display(message.data)
    return answer


async def closed(ws: aiohttp.ClientWebSocketResponse) -> int:
    """The close code, once it is closed; frames before it are let pass."""
    async with asyncio.timeout(30):
        while True:
            message = await ws.receive()
            if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED}:
                return ws.close_code or 0


async def test_a_ticket_opens_the_display_once_and_the_session_is_live(live: App) -> None:
    session_id, secret = await ticket(live)
    async with display(live, session_id) as ws:
        ready = await present(ws, secret)
        assert isinstance(ready, wire.DisplayReady)
        assert ready.session_id == session_id
        assert ready.width > 0
        async with asyncio.timeout(30):
            frame = await ws.receive()
        assert frame.type is WSMsgType.BINARY
        await ws.send_bytes(b"\x04\x01")
        session = await live.call("GET", f"/sessions/{session_id}", live.people["ann"])
        assert session.json["state"] == "active"
        async with display(live, session_id) as second:
            refused = await present(second, secret)
            assert isinstance(refused, wire.DisplayRefused)
            assert refused.code == "ticket.refused"
            assert await closed(second) == CLOSE_REFUSED
        assert not ws.closed
    async with asyncio.timeout(30):
        while True:
            after = await live.call("GET", f"/sessions/{session_id}", live.people["ann"])
            if after.json["state"] == "disconnected":
                break
            await asyncio.sleep(0.05)


async def test_a_ticket_of_another_session_does_not_open_this_one(live: App) -> None:
    session_id, _ = await ticket(live, "ann")
    _, others = await ticket(live, "bob")
    async with display(live, session_id) as ws:
        refused = await present(ws, others)
        assert isinstance(refused, wire.DisplayRefused)
        assert refused.code == "ticket.refused"


async def test_a_ticket_is_good_for_a_minute(live: App) -> None:
    session_id, secret = await ticket(live)
    live.clock.shift_s += limits.TICKET_S + 1
    async with display(live, session_id) as ws:
        assert isinstance(await present(ws, secret), wire.DisplayRefused)


async def test_logging_off_closes_the_display(live: App) -> None:
    session_id, secret = await ticket(live)
    async with display(live, session_id) as ws:
        await present(ws, secret)
        await live.call("DELETE", f"/sessions/{session_id}", live.people["ann"])
        live.broker.displays.kill(session_id)
        assert await closed(ws) == CLOSE_ENDED


async def test_a_display_ends_with_the_sign_in(live: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.web.display.DISPLAY_SIGN_IN_S", 0.1)
    session_id, secret = await ticket(live)
    async with display(live, session_id) as ws:
        await present(ws, secret)
        await live.call("POST", "/auth/logout", live.people["ann"])
        assert await closed(ws) == CLOSE_ENDED


async def test_input_that_is_too_large_or_no_input_closes(live: App) -> None:
    for sent in (b"x" * (limits.DISPLAY_INPUT_BYTES_MAX + 1), "text"):
        session_id, secret = await ticket(live)
        async with display(live, session_id) as ws:
            assert isinstance(await present(ws, secret), wire.DisplayReady)
            if isinstance(sent, str):
                await ws.send_str(sent)
            else:
                await ws.send_bytes(sent)
            assert await closed(ws) in {1009, CLOSE_ENDED}
    await eventually(lambda: live.broker.displays.open_count == 0)


async def endpoints_ticket(live: App) -> tuple[str, str]:
    """A session of ann's at a thin endpoint, and the ticket that comes with its order."""
    endpoint = make_endpoint(
        id="ept_thin",
        name="THIN-1",
        kind=EndpointKind.THIN,
        state=EndpointState.ENROLLED,
        pool_ids=(),
    )
    services = live.services
    await services.kit.store.directory.apply_roster(RosterChange(endpoints=(endpoint,)))
    body = {"pool": "library", "endpoint": "THIN-1"}
    made = await live.call("POST", "/sessions", live.people["ann"], body=body)
    session_id, secret = made.json["session"]["id"], ticket_for("ept_thin", "s" * 43)
    await services.kit.store.credentials.add_ticket(
        Ticket(
            id="tkt_thin",
            secret_hash=secret_hash(secret),
            session_id=session_id,
            user_id=live.people["ann"].id,
            expires_at=live.clock.now() + 60_000,
        )
    )
    return session_id, secret


async def test_tickets_open_nothing_at_a_place_of_the_other_kind(live: App) -> None:
    """What an endpoint is given opens no browser's display, and the other way round."""
    session_id, secret = await endpoints_ticket(live)
    async with display(live, session_id) as ws:
        refused = await present(ws, secret)
        assert isinstance(refused, wire.DisplayRefused)
        assert refused.code == "ticket.refused"
    await live.call("DELETE", f"/sessions/{session_id}", live.people["ann"])
    _, secret = await ticket(live)
    url = URL(live.url + wire.DISPLAY_PATH)
    async with live.http.ws_connect(url, protocols=(wire.SUBPROTOCOL,)) as ws:
        assert isinstance(await present(ws, secret), wire.DisplayRefused)


async def test_an_endpoint_opens_a_display_by_its_ticket_alone(live: App) -> None:
    session_id, secret = await endpoints_ticket(live)
    url = URL(live.url + wire.DISPLAY_PATH)
    async with live.http.ws_connect(url, protocols=(wire.SUBPROTOCOL,)) as ws:
        assert ws.protocol == wire.SUBPROTOCOL
        ready = await present(ws, secret)
        assert isinstance(ready, wire.DisplayReady)
        assert ready.session_id == session_id


async def test_a_display_address_without_a_socket_says_so(live: App) -> None:
    session_id, _ = await ticket(live)
    reply = await live.call("GET", f"/sessions/{session_id}/display", live.people["ann"])
    assert (reply.status, reply.code) == (400, "request.invalid")
    assert (await live.call("GET", "/agent/v1/display")).status == 400
    assert (await live.call("GET", "/agent/v1/link")).status == 400

"""Requests that a stranger's page makes in somebody's browser: none changes or opens anything."""

from __future__ import annotations

import aiohttp
import pytest
from yarl import URL

from broker.web.access import Access
from broker.web.routes import SAFE_METHODS, Route, Surface
from tests.support.app import App, Reply

STRANGERS = (
    "https://evil.example",
    "http://127.0.0.1:1",
    "http://localhost",
    "null",
    "http://127.0.0.1.evil.example",
)


def path_of(route: Route) -> str:
    path = route.template
    for name in route.params:
        path = path.replace("{" + name + "}", "nothing_here")
    return path


def changing(app: App) -> list[Route]:
    return [
        route
        for route in app.broker.web.table
        if route.method not in SAFE_METHODS and route.surface is not Surface.AGENT
    ]


def cookie(app: App, name: str = "alice") -> dict[str, str]:
    return {"Cookie": f"trivium={app.people[name].token}"}


def stopped(reply: Reply) -> bool:
    return (reply.status, reply.code) == (403, "auth.origin") or (
        # the console says it on a page
        reply.status == 403 and reply.headers["Content-Type"].startswith("text/html")
    )


async def send(app: App, route: Route, headers: dict[str, str]) -> Reply:
    return await app.call(route.method, path_of(route), body={}, headers=headers, base="")


async def test_a_cookie_alone_changes_nothing(app: App) -> None:
    for route in changing(app):
        if route.need is not Access.PUBLIC:
            assert stopped(await send(app, route, cookie(app))), route.path


async def test_a_cookie_with_the_consoles_header_is_enough(app: App) -> None:
    for route in changing(app):
        if route.surface is Surface.API:
            reply = await send(app, route, {**cookie(app), "X-Trivium": "1"})
            assert not stopped(reply), route.path


@pytest.mark.parametrize("origin", STRANGERS)
async def test_nothing_is_changed_from_a_strangers_page(app: App, origin: str) -> None:
    for route in changing(app):
        for headers in (
            {**cookie(app), "X-Trivium": "1"},
            app.people["alice"].headers,
            {},
        ):
            reply = await send(app, route, {**headers, "Origin": origin})
            assert stopped(reply), (route.path, headers)


async def test_our_own_pages_may(app: App) -> None:
    for host in (str(app.address), f"localhost:{app.address.port}"):
        reply = await app.call(
            "POST",
            "/campaigns",
            body={"name": "x", "seed": 1, "plan_sha256": "a" * 64},
            headers={
                **cookie(app),
                "X-Trivium": "1",
                "Host": host,
                "Origin": f"http://{host}",
            },
        )
        assert reply.status == 201


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""],
)
async def test_a_form_of_a_strangers_page_is_not_read_as_json(app: App, kind: str) -> None:
    headers = {"X-Trivium": "1", **cookie(app), "Content-Type": kind}
    reply = await app.call(
        "POST", "/users", raw=b'{"username":"mallory","role":"administrator"}', headers=headers
    )
    assert (reply.status, reply.code) == (415, "request.media_type")


async def test_reading_tells_other_sites_nothing(app: App) -> None:
    reply = await app.call(
        "GET", "/users", headers={**cookie(app), "Origin": "https://evil.example"}
    )
    assert not any(name.lower().startswith("access-control") for name in reply.headers)
    assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def open_socket(app: App, path: str, headers: dict[str, str]) -> int:
    """The status of the answer to a WebSocket handshake: 101 when it was taken."""
    try:
        async with app.http.ws_connect(URL(app.url + path), headers=headers):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


async def a_session(app: App) -> str:
    made = await app.call("POST", "/sessions", app.people["ann"], body={"pool": "library"})
    return str(made.json["session"]["id"])


@pytest.mark.parametrize("origin", STRANGERS)
async def test_no_display_opens_for_a_strangers_page(app: App, origin: str) -> None:
    path = f"/api/v1/sessions/{await a_session(app)}/display"
    for headers in (cookie(app, "ann"), app.people["ann"].headers):
        assert await open_socket(app, path, {**headers, "Origin": origin}) == 403


async def test_a_display_opens_for_our_own_page_and_for_programs(app: App) -> None:
    path = f"/api/v1/sessions/{await a_session(app)}/display"
    own = {"Origin": f"http://{app.address}"}
    assert await open_socket(app, path, {**cookie(app, "ann"), **own}) == 101
    assert await open_socket(app, path, app.people["ann"].headers) == 101
    # a browser always sends an Origin with a socket
    assert await open_socket(app, path, cookie(app, "ann")) == 403


@pytest.mark.parametrize("path", ["/agent/v1/link", "/agent/v1/display"])
async def test_agents_sockets_refuse_every_browser(app: App, path: str) -> None:
    for origin in (*STRANGERS, f"http://{app.address}"):
        assert await open_socket(app, path, {"Origin": origin}) == 403
    assert await open_socket(app, path, {}) == 101


async def test_an_enrolment_from_a_browser_is_refused(app: App) -> None:
    reply = await app.call(
        "POST", "/agent/v1/enrol", body={}, headers={"Origin": f"http://{app.address}"}
    )
    assert (reply.status, reply.code) == (403, "auth.origin")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.2", "a b"])
async def test_another_host_name_is_misdirected(app: App, host: str) -> None:
    for path in ("/healthz", "/api/v1/users", "/nothing"):
        answer = await app.raw(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        assert answer.split(b" ", 2)[1] in {b"421", b"400"}


async def test_forwarding_headers_are_not_believed(app: App) -> None:
    strange = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "https",
        "Forwarded": "for=127.0.0.1;host=evil.example;proto=https",
    }
    reply = await app.call("GET", "/auth/me", app.people["ann"], headers=strange)
    assert reply.status == 200
    assert b"evil.example" not in reply.body

"""Bad bodies against every route that takes one: always 400, 413 or 415, never a 5xx."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.limits import BODY_BYTES_MAX, ROSTER_BYTES_MAX
from broker.web.routes import Route, Surface
from tests.support.app import App

BAD: dict[str, bytes] = {
    "nothing": b"",
    "half": b'{"a":',
    "text": b"hello",
    "a list": b"[]",
    "null": b"null",
    "a number": b"1",
    "not UTF-8": b'{"username":"\xff\xfe"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte-order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"username":NaN}',
    "too large a float": b'{"seed":1e999}',
    "5,000 digits": b'{"count":' + b"9" * 5000 + b"}",
    "100,000 deep": b"[" * 30_000 + b"]" * 30_000,
    "a key twice": b'{"username":"a","username":"b"}',
    "half a surrogate pair": b'{"username":"\\ud800"}',
    "NUL": b'{"username":"a\\u0000b"}',
    "an unknown field": b'{"nobody_knows_this":1}',
    "a prototype": b'{"__proto__":{"role":"administrator"},"constructor":1}',
    "a struct's tag": b'{"type":"display_open"}',
}
HEADERS: dict[str, dict[str, str]] = {
    "no type": {"Content-Type": ""},
    "a form": {"Content-Type": "application/x-www-form-urlencoded"},
    "plain text": {"Content-Type": "text/plain"},
    "UTF-7": {"Content-Type": "application/json; charset=utf-7"},
    "an unknown charset": {"Content-Type": "application/json; charset=x-nope"},
    "a cousin": {"Content-Type": "application/vnd.api+json"},
    "gzip": {"Content-Encoding": "gzip"},
    "deflate": {"Content-Encoding": "deflate"},
    "identity": {"Content-Encoding": "identity"},
    "an unknown encoding": {"Content-Encoding": "x-nope"},
}
REFUSED = {400, 413, 415, 422}


def taking_bodies(app: App) -> list[Route]:
    return [route for route in app.broker.web.table if route.request is not None]


def path_of(app: App, route: Route) -> str:
    """The route's address, of something that exists where that can be."""
    path = route.template
    for name in route.params:
        known = app.people["bob"].id if "/users/" in path else "library"
        path = path.replace("{" + name + "}", known)
    return path


async def send(
    app: App, route: Route, raw: bytes, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    person = None if route.surface is Surface.AGENT else app.people["alice"]
    reply = await app.call(
        route.method, path_of(app, route), person, raw=raw, headers=headers or {}
    )
    if reply.status >= 400:
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert "Traceback" not in reply.body.decode()
    return reply.status, reply.code


async def test_what_is_not_json_is_refused_everywhere(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    for route in taking_bodies(app):
        for name, raw in BAD.items():
            status, code = await send(app, route, raw)
            # agents of tomorrow may send fields that nobody knows today
            expected = {*REFUSED, 404} if name == "an unknown field" else REFUSED
            assert status in expected, (route.path, name, status, code)
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_only_plain_json_in_utf_8_is_read(app: App) -> None:
    for route in taking_bodies(app):
        for name, headers in HEADERS.items():
            assert (await send(app, route, b"{}", headers))[0] == 415, (route.path, name)


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        'APPLICATION/JSON;CHARSET="UTF-8"',
    ],
)
async def test_utf_8_may_be_named(app: App, kind: str) -> None:
    body = json.dumps({"name": "x", "seed": 1, "plan_sha256": "a" * 64}).encode()
    headers = {"Content-Type": kind}
    reply = await app.call("POST", "/campaigns", app.people["alice"], raw=body, headers=headers)
    assert reply.status == 201


async def test_a_body_above_the_limit_is_refused_by_its_length_and_without_one(app: App) -> None:
    for route in taking_bodies(app):
        large = b'{"x":"' + b"a" * route.request_bytes_max + b'"}'
        assert (await send(app, route, large))[0] == 413, route.path
        if route.request_bytes_max > BODY_BYTES_MAX:
            continue
        chunked = (
            (
                f"{route.method} {path_of(app, route)} HTTP/1.1\r\nHost: {app.address}\r\n"
                f"Authorization: Bearer {app.people['alice'].token}\r\nConnection: close\r\n"
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                f"{len(large):x}\r\n"
            ).encode()
            + large
            + b"\r\n0\r\n\r\n"
        )
        answer = await app.raw(chunked)
        assert answer.split(b" ", 2)[1] == b"413", route.path


def bombs() -> dict[str, tuple[str, bytes]]:
    member = gzip.compress(b"")
    return {
        "zeros": ("gzip", gzip.compress(b"\0" * 40_000_000)),
        "50,000 empty members": ("gzip", member * 50_000),
        "deflate": ("deflate", zlib.compress(b"\0" * 40_000_000)),
        "garbage": ("gzip", b"\x1f\x8b" + b"x" * 5000),
        "brotli by name": ("br", b"\x0b" * 1000),
        "zstd by name": ("zstd", b"(\xb5/\xfd" + b"\0" * 1000),
    }


async def test_a_compressed_bomb_is_not_unpacked(app: App) -> None:
    for name, (encoding, raw) in bombs().items():
        for path in ("/imports", "/sessions"):
            reply = await app.call(
                "POST",
                path,
                app.people["alice"],
                raw=raw[:ROSTER_BYTES_MAX],
                headers={"Content-Encoding": encoding},
            )
            assert (reply.status, reply.code) == (415, "request.media_type"), (name, path)


async def test_a_body_where_none_is_wanted_is_refused_but_for_an_empty_object(app: App) -> None:
    ann = app.people["ann"]
    made = await app.call("POST", "/sessions", ann, body={"pool": "library"})
    path = f"/sessions/{made.json['session']['id']}/disconnect"
    for raw in (b'{"x":1}', b"[]", b"x" * 10, b"{}" * 200):
        assert (await app.call("POST", path, ann, raw=raw)).status == 400
    assert (await app.call("POST", path, ann, raw=b"{}")).status == 200


async def test_nothing_is_read_for_somebody_who_may_not_send_it(app: App) -> None:
    reply = await app.call("POST", "/users", app.people["ann"], raw=b"{" * 1000)
    assert reply.code == "auth.forbidden"
    reply = await app.call("POST", "/users", raw=b"{" * 1000)
    assert reply.code == "auth.required"


WORDS = st.sampled_from(
    ["ann", "library", "LAB-01", "class-a", "administrator", "vdi", "", " ", "a" * 121, "李",
     "${jndi:ldap://x}", "'; DROP TABLE users; --", "../../etc", "<script>", "%s%n", "\u202e",
     "\ufdd0", "\U0010ffff", "\r\nX: y", "0", "-1", "NaN"]
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def fields_of(route: Route) -> tuple[str, ...]:
    return tuple(route.request.__struct_fields__)


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
async def test_no_body_made_of_known_fields_breaks_anything(app: App, data: st.DataObject) -> None:
    """Half right is where the trouble is: the route's own fields with values of any kind."""
    for route in taking_bodies(app):
        if route.path.endswith(("/auth/login", "/auth/password")):
            continue  # guessing is slowed down, which is tested in test_auth
        names = st.sampled_from(fields_of(route))
        body = data.draw(st.dictionaries(names, VALUES, max_size=6))
        status, code = await send(app, route, json.dumps(body).encode())
        assert status < 500, (route.path, body, status, code)


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(path=st.text(max_size=30), query=st.text(max_size=30))
async def test_no_path_or_query_breaks_anything(app: App, path: str, query: str) -> None:
    def quoted(text: str) -> str:
        return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))

    for start in ("/users/", "/pools/", "/sessions/", "/endpoints/", "/desktops/", "/users?"):
        target = start + quoted(path) + ("" if "?" in start else "?") + quoted(query)
        reply = await app.call("GET", target, app.people["alice"])
        assert reply.status in {200, 400, 404}, target

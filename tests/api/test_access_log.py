"""The access log: one JSON line for each request, and never a secret in it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from broker.web.accesslog import AccessRecord
from tests.support.app import PASSWORD, App


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "trivium.access"
    ]


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="trivium.access")


async def test_each_request_is_one_line_with_who_what_and_how_it_ended(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await app.call("GET", "/auth/me", app.people["ann"])
    refused = await app.call("GET", "/users?text=x", app.people["ann"])
    unknown = await app.call("GET", "/nothing")
    found = lines(caplog)
    assert [one["request_id"] for one in found] == [
        one.headers["X-Request-Id"] for one in (reply, refused, unknown)
    ]
    assert [(one["status"], one.get("user", ""), one.get("code", "")) for one in found] == [
        (200, "ann", ""),
        (403, "ann", "auth.forbidden"),
        (404, "", "resource.not_found"),
    ]
    assert found[1]["path"] == "/api/v1/users"
    assert all(set(one) <= set(AccessRecord.__struct_fields__) for one in found)


async def test_no_secret_is_in_any_log(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ann = app.people["ann"]
    made = await app.call("POST", "/sessions", ann, body={"pool": "library"})
    login = {"username": "ann", "password": PASSWORD}
    token = (await app.call("POST", "/auth/login", body=login)).json["token"]
    await app.call("POST", "/auth/login", body={"username": "ann", "password": "guess-4711"})
    await app.call("GET", f"/auth/me?token={token}", ann)
    await app.call("GET", "/auth/me", headers={"Cookie": f"trivium={token}"})
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "auth/login" in text
    for secret in (ann.token, token, PASSWORD, "guess-4711", made.json["ticket"]):
        assert secret not in text


HOSTILE = ("%0d%0aGET%20/x", "${jndi:ldap://x/a}", "%s%s%n", "{0}", "%1b[31mred", "%ff%fe", "%22}")


@pytest.mark.parametrize("part", HOSTILE)
async def test_hostile_text_stays_inside_its_line(
    app: App, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    reply = await app.call("GET", f"/users/{part}", app.people["alice"])
    assert reply.status in {400, 404}
    records = [record.getMessage() for record in caplog.records if record.name == "trivium.access"]
    assert len(records) == 1
    assert records[0].isprintable()
    assert json.loads(records[0])["status"] == reply.status


async def test_a_failure_inside_is_logged_once_and_answered_without_a_trace(
    app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: object) -> None:
        raise RuntimeError("the driver's own words, /secret/path")

    monkeypatch.setattr(app.services.kit.store.directory, "groups", breaks)
    reply = await app.call("GET", "/groups", app.people["alice"])
    assert (reply.status, reply.code) == (500, "internal.error")
    assert "driver" not in reply.body.decode()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info is not None
    assert reply.headers["X-Request-Id"] in errors[0].getMessage()
    assert lines(caplog)[-1]["code"] == "internal.error"

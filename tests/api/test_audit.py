"""The trail as it is written by real requests, looked at, exported and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import pytest

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import UnavailableError
from broker.domain.lifecycle import SessionEvent
from broker.ports import PageQuery
from broker.web.audited import GIVEN
from broker.web.routes import SAFE_METHODS, Route
from tests.support.app import PASSWORD, App, Reply
from tests.support.audited_requests import (
    Ask,
    as_alice,
    move_to_another_host,
    on_desktop,
    on_snapshot,
    retire_a_host_that_is_down,
)

SECRETS = ("s3cret-word", "t0ps3cret")
"""put wherever a password, secret or free text goes: none may be in the trail"""
NEW_PASSWORD = "s3cret-word t0ps3cret phrase"


def key(route: Route) -> str:
    return f"{route.method} {route.template}"


async def entries(app: App, **filters: str) -> list[AuditEntry]:
    """Oldest first."""
    query = PageQuery(limit=500, filters=filters)
    page = await app.services.kit.store.audit.entries(query)
    return list(reversed(page.items))


async def fresh(app: App, ask: Ask) -> tuple[Reply, list[AuditEntry]]:
    """The answer, and the entries that were not there before."""
    before = {one.id for one in await entries(app)}
    reply = await ask(app)
    return reply, [one for one in await entries(app) if one.id not in before]


def as_nobody(path: str, body: Any) -> Ask:
    async def ask(app: App) -> Reply:
        return await app.call("POST", path, body=body)

    return ask


def form(path: str, **fields: str) -> Ask:
    async def ask(app: App) -> Reply:
        return await app.call(
            "POST",
            path,
            raw=urlencode(fields).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded", "Origin": app.url},
            base="",
        )

    return ask


def on_session(method: str, path: str, body: Any = None) -> Ask:
    async def ask(app: App) -> Reply:
        session_id = (await app.services.sessions.own(await _identity(app)))[0].id
        full = path.replace("ID", session_id)
        return await app.call(method, full, app.people["alice"], body=body)

    return ask


async def _upload(app: App) -> Reply:
    return await app.call(
        "POST",
        "/images?name=uploaded&format=raw",
        app.people["alice"],
        raw=bytes(1024),
        headers={"Content-Type": "application/octet-stream"},
    )


async def _identity(app: App) -> Any:
    return await app.services.accounts.identify(app.people["alice"].token)


async def connect_and_come_up(app: App) -> Reply:
    reply = await connect(app)
    await app.services.kit.store.sessions.advance(
        reply.json["session"]["id"], SessionEvent.REPORTED_LIVE, app.clock.now(), why="it is live"
    )
    return reply


async def connect(app: App) -> Reply:
    return await app.call("POST", "/sessions", app.people["alice"], body={"pool": "library"})


async def enrol(app: App) -> Reply:
    made = await app.call("POST", "/endpoints/tokens", app.people["alice"], body={"count": 1})
    body = {
        "token": made.json["tokens"][0],
        "name": "LAB-01",
        "kind": "fat",
        "location": "Room 1",
        "public_key": "ab" * 32,
        "agent_version": "1",
        "protocol": 1,
    }
    return await app.call("POST", "/agent/v1/enrol", body=body)


async def sign_out(app: App) -> Reply:
    return await app.call("POST", "/auth/logout", app.people["alice"])


async def sign_out_by_form(app: App) -> Reply:
    return await app.call(
        "POST",
        "/sign-out",
        raw=b"",
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": app.url,
            "Cookie": f"trivium={app.people['oliver'].token}",
        },
        base="",
    )


async def campaign_change(app: App) -> Reply:
    alice = app.people["alice"]
    made = await app.call("POST", "/campaigns", alice, body=CAMPAIGN)
    body = {"state": "finished", "verdict": "pass"}
    return await app.call("PATCH", f"/campaigns/{made.json['id']}", alice, body=body)


CAMPAIGN = {"name": "one", "seed": 1, "plan_sha256": "0" * 64}
HOST = {
    "name": "server-9",
    "engine": "simulated",
    "profile": "hosted",
    "cpus": 16,
    "memory_mib": 65536,
}
POOL = {
    "name": "studio",
    "architecture": "vdi",
    "image": "win",
    "resources": {"cpus": 2, "memory_mib": 2048},
    "size_max": 5,
    "groups": ["class-a"],
}
USER = {"username": "dora", "groups": ["class-a"], "password": NEW_PASSWORD}

SHADOWS: Sequence[tuple[str, Ask, Sequence[str]]] = [
    (
        f"{method} /api/v1/sessions/{{id}}/shadows{rest}",
        on_session(method, f"/sessions/ID/shadows{rest}".replace("{shadow_id}", "shd_none"), body),
        [f"shadow.{verb}"],
    )
    for method, rest, body, verb in (
        ("POST", "", {"mode": "view", "reason": "s3cret-word"}, "ask"),
        ("POST", "/{shadow_id}/answer", {"granted": True}, "answer"),
        ("POST", "/{shadow_id}/ticket", None, "ticket"),
        ("DELETE", "/{shadow_id}", None, "end"),
    )
]
"""of a session whose display is not open"""
REQUESTS: Sequence[tuple[str, Ask, Sequence[str]]] = (
    (
        "POST /api/v1/desktops/{id}/restart",
        on_desktop("POST", "DESKTOP/restart"),
        ["desktop.restart"],
    ),
    ("POST /api/v1/desktops/{id}/move", move_to_another_host, ["desktop.move"]),
    ("POST /api/v1/users", as_alice("POST", "/users", USER), ["user.create"]),
    (
        "PATCH /api/v1/users/{id}",
        as_alice("PATCH", "/users/dora", {"display_name": "Dora"}),
        ["user.change"],
    ),
    (
        "POST /api/v1/users/{id}/password",
        as_alice("POST", "/users/dora/password", {"password": NEW_PASSWORD}),
        ["user.set_password"],
    ),
    (
        "POST /api/v1/users/passwords",
        as_alice("POST", "/users/passwords", {"passwords": {"dora": NEW_PASSWORD}}),
        ["user.set_passwords"],
    ),
    ("POST /api/v1/pools", as_alice("POST", "/pools", POOL), ["pool.create"]),
    (
        "PATCH /api/v1/pools/{id}",
        as_alice("PATCH", "/pools/studio", {"spares_min": 1}),
        ["pool.change"],
    ),
    ("POST /api/v1/hosts", as_alice("POST", "/hosts", HOST), ["host.create"]),
    ("POST /api/v1/images", _upload, ["image.upload"]),
    ("DELETE /api/v1/images/{id}", as_alice("DELETE", "/images/uploaded@1"), ["image.remove"]),
    (
        "POST /api/v1/hosts/check",
        as_alice(
            "POST",
            "/hosts/check",
            {"name": "server-9", "engine": "simulated", "profile": "hosted"},
        ),
        ["host.check"],
    ),
    (
        "PATCH /api/v1/hosts/{id}",
        as_alice("PATCH", "/hosts/server-9", {"start_limit": 3}),
        ["host.change"],
    ),
    (
        "POST /api/v1/hosts/{id}/power",
        as_alice("POST", "/hosts/server-9/power", {"on": False}),
        ["host.power", "host.power_off"],
    ),
    (
        "POST /api/v1/hosts/{id}/breakers/reset",
        as_alice("POST", "/hosts/server-9/breakers/reset", {}),
        ["breaker.reset"],
    ),
    (
        "POST /api/v1/hosts/{id}/retire",
        retire_a_host_that_is_down,
        ["host.retire"],
    ),
    (
        "POST /api/v1/desktops/{id}/assign",
        on_desktop("POST", "DESKTOP/assign", {"user": "ann"}, dedicated=True),
        ["desktop.assign"],
    ),
    (
        "POST /api/v1/desktops/{id}/unassign",
        on_desktop("POST", "DESKTOP/unassign"),
        ["desktop.unassign"],
    ),
    ("POST /api/v1/desktops/{id}/reset", on_desktop("POST", "DESKTOP/reset"), ["desktop.reset"]),
    (
        "POST /api/v1/desktops/{id}/snapshots",
        on_snapshot("POST", "", {"name": "before", "note": SECRETS[0]}),
        ["desktop.snapshot"],
    ),
    (
        "POST /api/v1/desktops/{id}/snapshots/{snapshot}/revert",
        on_snapshot("POST", "/before/revert"),
        ["desktop.revert"],
    ),
    (
        "DELETE /api/v1/desktops/{id}/snapshots/{snapshot}",
        on_snapshot("DELETE", "/before"),
        ["desktop.drop_snapshot"],
    ),
    ("DELETE /api/v1/desktops/{id}", on_desktop("DELETE", "DESKTOP"), ["desktop.delete"]),
    (
        "POST /api/v1/endpoints/tokens",
        as_alice("POST", "/endpoints/tokens", {"count": 2}),
        ["endpoint.make_tokens"],
    ),
    ("POST /agent/v1/enrol", enrol, ["endpoint.make_tokens", "endpoint.enrol"]),
    (
        "POST /api/v1/endpoints/{id}/retire",
        as_alice("POST", "/endpoints/LAB-01/retire"),
        ["endpoint.retire"],
    ),
    (
        "POST /api/v1/imports",
        as_alice("POST", "/imports", {"files": {"groups.csv": "name,title\nt0ps3cret,x\n"}}),
        ["roster.import"],
    ),
    ("POST /api/v1/campaigns", as_alice("POST", "/campaigns", CAMPAIGN), ["campaign.create"]),
    ("PATCH /api/v1/campaigns/{id}", campaign_change, ["campaign.create", "campaign.change"]),
    (
        "POST /api/v1/sessions",
        connect_and_come_up,
        ["session.connect", "session.reported_live"],
    ),
    (
        "POST /api/v1/sessions/{id}/connection",
        on_session("POST", "/sessions/ID/connection", {"kind": "vnc"}),
        ["session.open_viewer"],
    ),
    *SHADOWS,
    (
        "POST /api/v1/sessions/{id}/message",
        on_session("POST", "/sessions/ID/message", {"text": "s3cret-word"}),
        ["session.message", "session.noted"],
    ),
    (
        "POST /api/v1/sessions/{id}/lock",
        on_session("POST", "/sessions/ID/lock"),
        ["session.lock"],
    ),
    (
        "POST /api/v1/sessions/{id}/extend",
        on_session("POST", "/sessions/ID/extend", {"seconds": 60}),
        ["session.extend"],
    ),
    (
        "POST /api/v1/sessions/{id}/consent",
        on_session("POST", "/sessions/ID/consent", {"wish": "wsh_1", "granted": True}),
        ["session.consent"],
    ),
    (
        "POST /api/v1/sessions/{id}/disconnect",
        on_session("POST", "/sessions/ID/disconnect"),
        ["session.disconnected"],
    ),
    (
        "DELETE /api/v1/sessions/{id}",
        on_session("DELETE", "/sessions/ID"),
        ["session.log_off", "session.finished"],
    ),
    (
        "POST /api/v1/rules",
        as_alice("POST", "/rules", {"name": "exam", "effect": "deny", "note": "s3cret-word"}),
        ["rule.create"],
    ),
    (
        "PATCH /api/v1/rules/{id}",
        as_alice("PATCH", "/rules/exam", {"networks": ["10.0.0.0/8"]}),
        ["rule.change"],
    ),
    ("DELETE /api/v1/rules/{id}", as_alice("DELETE", "/rules/exam"), ["rule.delete"]),
    (
        "POST /api/v1/quotas",
        as_alice("POST", "/quotas", {"name": "two", "scope": "user", "sessions_max": 2}),
        ["quota.create"],
    ),
    (
        "PATCH /api/v1/quotas/{id}",
        as_alice("PATCH", "/quotas/two", {"sessions_max": 3}),
        ["quota.change"],
    ),
    ("DELETE /api/v1/quotas/{id}", as_alice("DELETE", "/quotas/two"), ["quota.delete"]),
    (
        "PATCH /api/v1/site",
        as_alice("PATCH", "/site", {"state": "draining", "message": "soon"}),
        ["site.drain"],
    ),
    (
        "POST /api/v1/auth/login",
        lambda app: app.call("POST", "/auth/login", body={"username": "bob", "password": PASSWORD}),
        ["user.sign_in"],
    ),
    (
        "POST /api/v1/auth/password",
        as_alice("POST", "/auth/password", {"old": "s3cret-word wrong", "new": NEW_PASSWORD}),
        ["user.change_password"],
    ),
    ("POST /api/v1/auth/logout", sign_out, ["user.sign_out"]),
    ("POST /sign-in", form("/sign-in", username="bob", password=PASSWORD), ["user.sign_in"]),
    ("POST /sign-out", sign_out_by_form, ["user.sign_out"]),
)
"""a real request to each route that changes something, in an order in which each can be made"""
OF_SETUP = {"POST /api/v1/setup", "POST /setup"}
"""tested where nobody administers the broker yet"""
REFUSED = {
    "POST /api/v1/sessions/{id}/connection",
    *(name for name, _, _ in SHADOWS),
    "POST /api/v1/sessions/{id}/lock",
    "POST /api/v1/sessions/{id}/extend",
    "POST /api/v1/sessions/{id}/consent",
    "POST /api/v1/auth/password",
}
"""these requests are refused, as each must be written, too"""


async def test_every_route_that_changes_something_is_written_once(app: App) -> None:
    table = [route for route in app.broker.web.table if route.method not in SAFE_METHODS]
    assert {key(route) for route in table} == {name for name, _, _ in REQUESTS} | OF_SETUP
    for name, ask, actions in REQUESTS:
        reply, written = await fresh(app, ask)
        outcome = Outcome.REFUSED if name in REFUSED else Outcome.DONE
        assert reply.status < 500, (name, reply.status, reply.body)
        # within one millisecond the order of entries is that of their ids
        found = sorted(one.action for one in written)
        assert found == sorted(actions), (name, reply.status, reply.body)
        assert {one.outcome for one in written} == {outcome}, (name, reply.body)
        assert all(one.why for one in written), name
    kept = repr(await entries(app))
    assert not [secret for secret in SECRETS if secret in kept]
    assert not [one.token for one in app.people.values() if one.token in kept]
    assert PASSWORD not in kept


@pytest.mark.parametrize("by_form", [True, False])
async def test_making_the_first_administrator_is_written(bare: App, by_form: bool) -> None:
    secret = await bare.services.accounts.setup_secret()
    assert secret is not None
    body = {"secret": secret, "username": "root1", "password": NEW_PASSWORD, "display_name": "R"}
    if by_form:
        reply, written = await fresh(bare, form("/setup", **body))
    else:
        reply, written = await fresh(bare, lambda app: app.call("POST", "/setup", body=body))
    assert reply.status in {201, 303}
    (one,) = written
    assert (one.action, one.outcome) == ("user.set_up", Outcome.DONE)
    user = await bare.services.directory.user("root1")
    assert (one.user_id, one.source) == (user.id, "127.0.0.1")
    assert secret not in repr(one)


async def test_an_entry_says_who_asked_from_where_for_what(app: App) -> None:
    reply, [one] = await fresh(app, as_alice("PATCH", "/pools/library", {"title": "Books"}))
    assert one.actor == app.people["alice"].id
    assert one.source == "127.0.0.1"
    assert one.request_id == reply.headers["X-Request-Id"]
    assert one.pool_id == reply.json["id"]
    assert one.details["fields"] == {"title": "Books"}
    assert one.details["status"] == 200


async def test_of_secrets_only_that_they_were_given_is_kept(app: App) -> None:
    _, [one] = await fresh(app, as_alice("POST", "/users", USER))
    fields = one.details["fields"]
    assert fields == {
        "username": "dora", "display_name": "", "role": "user", "groups": ["class-a"],
        "password": GIVEN,
    }  # fmt: skip
    assert one.user_id.startswith("usr_")


@pytest.mark.parametrize(
    ("who", "method", "path", "body", "code", "action"),
    [
        ("ann", "POST", "/users", USER, "auth.forbidden", "user.create"),
        ("alice", "POST", "/users", {"username": "ann"}, "resource.exists", "user.create"),
        ("alice", "DELETE", "/sessions/ses_none", None, "resource.not_found", "session.log_off"),
        ("cid", "POST", "/sessions", {"pool": "library"}, "admission.not_entitled",
         "session.connect"),
        ("ann", "POST", "/sessions", {"pool": "none"}, "resource.not_found", "session.connect"),
    ],
)  # fmt: skip
async def test_a_refused_request_is_written_once_with_its_code(
    app: App, who: str, method: str, path: str, body: Any, code: str, action: str
) -> None:
    async def ask(app: App) -> Reply:
        return await app.call(method, path, app.people[who], body=body)

    reply, written = await fresh(app, ask)
    assert reply.code == code
    (one,) = written
    assert (one.action, one.outcome) == (action, Outcome.REFUSED)
    assert one.details["code"] == code
    assert one.actor == app.people[who].id
    assert one.source == "127.0.0.1"


async def test_what_strangers_are_refused_does_not_fill_the_trail(app: App) -> None:
    for path, body in (
        ("/users", USER),
        ("/setup", {"secret": "x", "username": "eve", "password": PASSWORD}),
        ("/agent/v1/enrol", {"token": "x"}),
    ):
        _, written = await fresh(app, as_nobody(path, body))
        assert written == []


async def test_a_connect_costs_no_entry_but_the_claims_own(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended: list[int] = []
    audit = app.services.kit.store.audit
    append = audit.append

    async def counted(some: Any) -> None:
        appended.append(len(some))
        await append(some)

    monkeypatch.setattr(audit, "append", counted)
    _, [one] = await fresh(app, connect)
    assert one.action == "session.connect"
    assert one.source == "127.0.0.1"
    assert one.request_id.startswith("req_")
    assert appended == []


async def away(*_: Any) -> bool:
    raise UnavailableError("the database is away")


async def test_without_the_trail_nothing_is_changed(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.services.kit.store.audit, "append", away)
    refused = await app.call("POST", "/users", app.people["alice"], body=USER)
    signed_in = await app.call(
        "POST", "/auth/login", body={"username": "bob", "password": PASSWORD}
    )
    monkeypatch.undo()
    assert (refused.status, refused.code) == (503, "server.unavailable")
    assert signed_in.status == 503
    assert (await app.call("GET", "/users/dora", app.people["alice"])).status == 404


async def test_a_request_whose_end_cannot_be_written_is_sealed_as_unknown(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.services.kit.store.audit, "settle", away)
    reply, [one] = await fresh(app, as_alice("POST", "/users", USER))
    monkeypatch.undo()
    assert reply.status == 201
    assert one.outcome is Outcome.ASKED
    app.clock.shift_s += 61
    await app.services.audit.seal()
    (sealed,) = await entries(app, action="user.create")
    assert sealed.outcome is Outcome.UNKNOWN


# --------------------------------------------------------------------------------- looking

"""The trail as it is written by real requests, looked at, exported and checked."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import UnavailableError
from broker.domain.lifecycle import HostEvent, SessionEvent
from broker.domain.model import DesktopState, PoolKind, Resources
from broker.ports import PageQuery
from broker.web.audited import GIVEN
from broker.web.routes import SAFE_METHODS, Route
from tests.support.app import PASSWORD, App, Reply
from tests.support.live_broker import live_broker

SECRETS = ("s3cret-word", "t0ps3cret")
"""put wherever a password, secret or free text goes: none may be in the trail"""
NEW_PASSWORD = "s3cret-word t0ps3cret phrase"

Ask = Callable[[App], Awaitable[Reply]]


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


def as_alice(method: str, path: str, body: Any = None) -> Ask:
    async def ask(app: App) -> Reply:
        return await app.call(method, path, app.people["alice"], body=body)

    return ask


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


async def retire_a_host_that_is_down(app: App) -> Reply:
    host = await app.services.directory.add_host(
        name="server-8",
        engine="simulated",
        profile="hosted",
        capacity=Resources(cpus=4, memory_mib=4096),
        overcommit_cpu=1,
        start_limit=1,
    )
    await app.services.kit.store.directory.move_host(host.id, HostEvent.LOST, app.clock.now())
    return await as_alice("POST", "/hosts/server-8/retire", {"give_up": True})(app)


async def _upload(app: App) -> Reply:
    return await app.call(
        "POST",
        "/images?name=uploaded&format=raw",
        app.people["alice"],
        raw=bytes(1024),
        headers={"Content-Type": "application/octet-stream"},
    )


def on_desktop(method: str, path: str, body: Any = None, *, dedicated: bool = False) -> Ask:
    """A desktop of the pool design, which nobody has: another one for each path."""

    async def ask(app: App) -> Reply:
        pool = await app.services.pools.find("design")
        kind = PoolKind.DEDICATED if dedicated else pool.kind
        await app.services.kit.store.directory.save_pool(replace(pool, kind=kind), new=False)
        app.services.pools.forget()
        query = PageQuery(filters={"pool_id": pool.id})
        rows = (await app.services.kit.store.desktops.desktops(query)).items
        owned = [one for one in rows if one.owner_id is not None]
        ready = [one for one in rows if one.state is DesktopState.READY and one.owner_id is None]
        one = owned[0] if "unassign" in path else ready[0]
        full = path.replace("DESKTOP", f"/desktops/{one.id}")
        return await app.call(method, full, app.people["alice"], body=body)

    return ask


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

REQUESTS: Sequence[tuple[str, Ask, Sequence[str]]] = (
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
    (
        "POST /api/v1/sessions/{id}/message",
        on_session("POST", "/sessions/ID/message", {"text": "s3cret-word"}),
        ["session.message", "session.noted"],
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


async def test_the_trail_is_listed_newest_first_and_filtered(app: App) -> None:
    for title in ("one", "two", "three"):
        await as_alice("PATCH", "/pools/library", {"title": title})(app)
    audrey = app.people["audrey"]
    first = (await app.call("GET", "/audit?action=pool.change&limit=2", audrey)).json
    assert [one["details"]["fields"]["title"] for one in first["items"]] == ["three", "two"]
    assert first["items"][0]["actor"] == {"id": app.people["alice"].id, "name": "alice"}
    second = (
        await app.call("GET", f"/audit?action=pool.change&after={first['next']}", audrey)
    ).json
    assert [one["details"]["fields"]["title"] for one in second["items"]] == ["one"]
    at = first["items"][0]["at"]
    later = await app.call("GET", f"/audit?action=pool.change&since={at}&until={at}", audrey)
    assert later.json["items"] == []
    for bad in ("since=yesterday", "outcome=good", "limit=0", "since=2026-11-21T08:00:00"):
        assert (await app.call("GET", f"/audit?{bad}", audrey)).status == 400


async def test_an_export_holds_the_sealed_chain_and_says_where_it_ends(app: App) -> None:
    for title in ("one", "two", "three"):
        await as_alice("PATCH", "/pools/library", {"title": title})(app)
    await app.services.audit.seal()
    audrey = app.people["audrey"]
    lines = (await app.call("GET", "/audit/export", audrey)).body.splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["number"] for one in found[:-1]] == list(range(1, len(found)))
    assert found[-1] == {
        "end": {"last_number": found[-2]["number"], "last_seal": found[-2]["seal"]}
    }
    rest = (await app.call("GET", "/audit/export?after=2", audrey)).body.splitlines()
    assert rest == lines[2:]


async def test_a_check_tells_that_the_chain_holds_and_gives_an_anchor(app: App) -> None:
    await as_alice("PATCH", "/pools/library", {"title": "one"})(app)
    await app.services.audit.seal()
    audrey = app.people["audrey"]
    found = (await app.call("GET", "/audit/check", audrey)).json
    assert found["break"] is None
    assert found["sealed"] == found["last_number"] >= 1
    anchor = f"{found['last_number']}:{found['last_seal']}"
    good = (await app.call("GET", f"/audit/check?anchor={anchor}&since={anchor}", audrey)).json
    assert good["break"] is None
    wrong = f"{found['last_number']}:{'0' * 64}"
    bad = (await app.call("GET", f"/audit/check?anchor={wrong}", audrey)).json
    assert bad["break"]["number"] == found["last_number"]
    assert bad["break"]["here"]["entry"]["action"]
    refused = await app.call("GET", "/audit/check?anchor=7", audrey)
    assert (refused.status, refused.json["field"]) == (400, "anchor")


def test_a_running_broker_seals_by_itself(tmp_path: Path) -> None:
    with live_broker(tmp_path) as broker:

        async def sealed() -> bool:
            return (await broker.store.audit.last_seal())[0] > 0

        entry = AuditEntry(id="aud_1", at=1, actor="", action="x.y", outcome=Outcome.DONE)
        broker.ask(broker.store.audit.append([entry]))
        broker.until_true(sealed)

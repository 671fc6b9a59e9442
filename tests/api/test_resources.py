"""People, pools, machines, endpoints, imports and campaigns, over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from broker.web.routes import Surface
from tests.support.app import PASSWORD, App, Reply

PLAN = "ab" * 32


async def as_alice(app: App, method: str, path: str, body: Any = None) -> Reply:
    return await app.call(method, path, app.people["alice"], body=body)


# ------------------------------------------------------------------ people


async def test_a_person_is_added_changed_and_can_sign_in(app: App) -> None:
    new = {
        "username": "Li.Ming",
        "display_name": "李明 Li Ming",
        "groups": ["class-b"],
        "password": PASSWORD,
    }
    added = await as_alice(app, "POST", "/users", new)
    assert added.status == 201
    assert (added.json["username"], added.json["role"]) == ("li.ming", "user")
    login = {"username": "LI.MING", "password": PASSWORD}
    assert (await app.call("POST", "/auth/login", body=login)).status == 200
    changed = await as_alice(
        app, "PATCH", f"/users/{added.json['id']}", {"display_name": "Li", "groups": []}
    )
    assert (changed.json["display_name"], changed.json["groups"]) == ("Li", [])
    again = await as_alice(app, "GET", "/users/li.ming")
    assert again.json == changed.json


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"username": "ann"}, 409, None),
        ({"username": "ANN "}, 409, None),
        ({"username": "two words"}, 400, "username"),
        ({"username": "a/b"}, 400, "username"),
        ({"username": "a\u202eb"}, 400, "username"),
        ({"username": "x", "display_name": "a\x07b"}, 400, "display_name"),
        ({"username": "x", "role": "root"}, 400, "role"),
        ({"username": "x", "groups": ["nope"]}, 400, "groups"),
        ({"username": "x", "password": "short"}, 400, "password"),
        ({"username": "x", "id": "usr_1"}, 400, "id"),
        ({"username": "x", "enabled": True}, 400, "enabled"),
    ],
)
async def test_a_person_who_cannot_be_added_leaves_no_trace(
    app: App, body: dict[str, Any], status: int, field: str | None
) -> None:
    before = (await as_alice(app, "GET", "/users")).json
    reply = await as_alice(app, "POST", "/users", body)
    assert (reply.status, reply.json.get("field")) == (status, field)
    assert (await as_alice(app, "GET", "/users")).json == before


async def test_nobody_takes_the_own_rights_away(app: App) -> None:
    alice = app.people["alice"].id
    for body in ({"role": "user"}, {"enabled": False}):
        reply = await as_alice(app, "PATCH", f"/users/{alice}", body)
        assert reply.code == "resource.conflict"
    assert (await as_alice(app, "PATCH", f"/users/{alice}", {"display_name": "A"})).status == 200


async def test_many_passwords_are_set_at_once_or_none(app: App) -> None:
    new = "a new and long pass phrase"
    good = {"passwords": {"ann": new, "bob": new}}
    assert (await as_alice(app, "POST", "/users/passwords", good)).json == {"set": 2}
    for bad in ({"ann": PASSWORD, "nobody": PASSWORD}, {"ann": PASSWORD, "bob": "short"}):
        reply = await as_alice(app, "POST", "/users/passwords", {"passwords": bad})
        assert reply.status in {400, 404}
    for username in ("ann", "bob"):
        login = {"username": username, "password": new}
        assert (await app.call("POST", "/auth/login", body=login)).status == 200


async def test_five_hundred_passwords_fit_and_one_more_does_not(app: App) -> None:
    passwords = {f"nobody{n}": PASSWORD for n in range(501)}
    reply = await as_alice(app, "POST", "/users/passwords", {"passwords": passwords})
    assert (reply.status, reply.json["field"]) == (400, "passwords")


async def test_a_password_set_by_an_administrator_ends_the_sign_ins(app: App) -> None:
    ann = app.people["ann"]
    path = f"/users/{ann.id}/password"
    assert (await as_alice(app, "POST", path, {"password": "x"})).json["field"] == "password"
    assert (await as_alice(app, "POST", path, {"password": PASSWORD + "!"})).status == 204
    assert (await app.call("GET", "/auth/me", ann)).status == 401


# ------------------------------------------------------------------ pools


def new_pool(**changes: Any) -> dict[str, Any]:
    return {
        "name": "physics",
        "architecture": "voi",
        "image": "win@1",
        "resources": {"cpus": 2, "memory_mib": 4096},
        "size_max": 10,
        "groups": ["class-a"],
    } | changes


async def test_a_pool_is_added_and_changed(app: App) -> None:
    added = await as_alice(app, "POST", "/pools", new_pool())
    assert added.status == 201
    assert (added.json["title"], added.json["kind"], added.json["image"]["version"]) == (
        "physics",
        "floating",
        1,
    )
    changed = await as_alice(
        app, "PATCH", "/pools/physics", {"spares_min": 3, "log_off": "delete", "groups": []}
    )
    assert (changed.json["spares_min"], changed.json["log_off"]) == (3, "delete")
    assert (await as_alice(app, "GET", f"/pools/{added.json['id']}")).json["groups"] == []


async def test_a_pools_limits_are_set_shown_and_held_against_its_size(app: App) -> None:
    size = {"cpus": 1, "memory_mib": 1024, "network_mbit": 50}
    pool = new_pool(architecture="vdi", resources=size)
    assert (await as_alice(app, "POST", "/pools", pool)).status == 201
    limits = {"disk_mib_s": 100, "network_peak_mbit": 80, "network_burst_mib": 16}
    wanted = {"settings": {"limits": limits, "share_pages": False}}
    changed = await as_alice(app, "PATCH", "/pools/physics", wanted)
    assert (changed.status, changed.json["settings"]["limits"]) == (200, limits)
    shown = await as_alice(app, "GET", "/pools/physics")
    assert shown.json["settings"]["share_pages"] is False
    low = await as_alice(
        app, "PATCH", "/pools/physics", {"settings": {"limits": {"network_peak_mbit": 49}}}
    )
    assert (low.status, low.json["field"]) == (400, "settings.limits.network_peak_mbit")
    page = (await app.call("GET", f"/pools/{shown.json['id']}", app.people["alice"], base="")).body
    assert b'name="settings.limits.network_peak_mbit"' in page
    assert b'value="80"' in page


async def test_a_pool_names_a_class_of_storage_in_the_api_and_in_the_console(app: App) -> None:
    assert (await as_alice(app, "POST", "/pools", new_pool(architecture="vdi"))).status == 201
    changed = await as_alice(app, "PATCH", "/pools/physics", {"settings": {"storage": "fast"}})
    assert (changed.status, changed.json["settings"]["storage"]) == (200, "fast")
    odd = await as_alice(app, "PATCH", "/pools/physics", {"settings": {"storage": "../disks"}})
    assert (odd.status, odd.json["field"]) == (400, "settings.storage")
    path = f"/pools/{changed.json['id']}"
    page = (await app.call("GET", path, app.people["alice"], base="")).body
    assert b'name="settings.storage" value="fast"' in page
    again = await as_alice(app, "PATCH", "/pools/physics", {"settings": {"storage": ""}})
    assert again.json["settings"]["storage"] == ""


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"name": "library"}, 409, None),
        ({"name": "a;b"}, 400, "name"),
        ({"image": "linux"}, 400, "image"),
        ({"architecture": "vdx"}, 400, "architecture"),
        ({"spares_min": 11}, 400, "spares_min"),
        ({"size_max": -1}, 400, "size_max"),
        ({"log_off": "keep"}, 400, "log_off"),
        ({"resources": {"cpus": 0, "memory_mib": 1}}, 400, "resources.cpus"),
        ({"resources": {"cpus": 1}}, 400, "resources.memory_mib"),
        ({"lease_s": 10**12}, 400, "lease_s"),
    ],
)
async def test_a_pool_that_cannot_be_is_refused(
    app: App, changes: dict[str, Any], status: int, field: str | None
) -> None:
    reply = await as_alice(app, "POST", "/pools", new_pool(**changes))
    assert (reply.status, reply.json.get("field")) == (status, field)


async def test_a_floating_pool_cannot_be_changed_to_keep_what_people_leave(app: App) -> None:
    refused = await as_alice(app, "PATCH", "/pools/library", {"log_off": "keep"})
    assert (refused.status, refused.json["field"]) == (400, "log_off")
    assert "next person" in refused.json["detail"]
    assert (await as_alice(app, "GET", "/pools/library")).json["log_off"] == "reset"
    kept = new_pool(architecture="vdi", kind="dedicated", log_off="keep")
    assert (await as_alice(app, "POST", "/pools", kept)).status == 201


async def test_null_is_no_way_to_leave_a_field_out(app: App) -> None:
    reply = await as_alice(app, "PATCH", "/pools/library", {"enabled": None})
    assert (reply.status, reply.json["field"]) == (400, "enabled")


async def test_a_pools_counts_are_of_its_desktops_and_queue(app: App) -> None:
    await app.call("POST", "/sessions", app.people["ann"], body={"pool": "library"})
    library = (await as_alice(app, "GET", "/pools/library")).json
    assert library["desktops"] == {"ready": 4, "assigned": 1}
    assert library["waiting"] == 0


# ------------------------------------------------------------------ machines


async def test_a_host_is_added_drained_and_shows_its_load(app: App) -> None:
    new = {
        "name": "server-2",
        "engine": "simulated",
        "profile": "hosted",
        "cpus": 16,
        "memory_mib": 65536,
    }
    added = await as_alice(app, "POST", "/hosts", new)
    assert added.status == 201
    assert not any(added.json["used"].values())
    drained = await as_alice(app, "PATCH", "/hosts/server-2", {"state": "draining"})
    assert drained.json["state"] == "draining"
    hosts = (await as_alice(app, "GET", "/hosts")).json["items"]
    assert [(one["name"], one["used"]["cpus"]) for one in hosts] == [
        ("server-1", 20),
        ("server-2", 0),
    ]
    assert (await as_alice(app, "POST", "/hosts", new)).code == "resource.exists"
    assert (await as_alice(app, "PATCH", "/hosts/nope", {"state": "up"})).status == 404


async def test_desktops_say_where_they_are(app: App) -> None:
    found = (await as_alice(app, "GET", "/desktops?architecture=idv")).json["items"]
    [place] = found
    assert place["endpoint"]["name"] == "LAB-01"
    assert place["host"] is None
    one = await as_alice(app, "GET", f"/desktops/{place['id']}")
    assert one.json == place
    ready = (await as_alice(app, "GET", "/desktops?state=ready&limit=3")).json["items"]
    assert {one["host"]["name"] for one in ready} == {"server-1"}


async def test_jobs_are_shown_with_names(app: App) -> None:
    made = await app.call("POST", "/sessions", app.people["ann"], body={"pool": "library"})
    session = made.json["session"]
    await app.call("DELETE", f"/sessions/{session['id']}", app.people["ann"])
    # its host's turn for it comes with the reconciler's next look
    await app.services.reconciler.look()
    [job] = (await as_alice(app, "GET", "/jobs?verb=reset")).json["items"]
    assert (job["verb"], job["desktop"], job["host"]["name"]) == (
        "reset",
        session["desktop"],
        "server-1",
    )
    assert (await as_alice(app, "GET", f"/jobs/{job['id']}")).json == job


# ------------------------------------------------------------------ endpoints


async def test_enrolment_tokens_are_many_and_different(app: App) -> None:
    reply = await app.call(
        "POST", "/endpoints/tokens", app.people["oliver"], body={"count": 500, "ttl_s": 60}
    )
    assert reply.status == 201
    assert len(set(reply.json["tokens"])) == 500
    for bad in ({"count": 501}, {"count": 0}, {"ttl_s": 10**9}):
        reply = await app.call("POST", "/endpoints/tokens", app.people["oliver"], body=bad)
        assert reply.status == 400


async def test_an_endpoint_is_retired_once(app: App) -> None:
    oliver = app.people["oliver"]
    retired = await app.call("POST", "/endpoints/LAB-01/retire", oliver)
    assert (retired.status, retired.json["state"]) == (200, "retired")
    again = await app.call("POST", "/endpoints/LAB-01/retire", oliver)
    assert (again.status, again.code) == (409, "lifecycle.refused")
    found = (await app.call("GET", "/endpoints?state=retired", oliver)).json["items"]
    assert [one["pools"] for one in found] == [["lab"]]


# ------------------------------------------------------------------ rosters

ROSTER = {
    "groups.csv": "name,title\nclass-c,Class C\n",
    "users.csv": "username,display_name,role,groups\nzoe,Zoe,user,class-c\n",
}


async def test_a_roster_is_checked_then_imported_and_then_is_the_same(app: App) -> None:
    checked = await as_alice(app, "POST", "/imports", {"files": ROSTER, "check_only": True})
    assert checked.status == 200, checked.body
    assert checked.json["counts"]["users"]["new"] == 1
    assert (await as_alice(app, "GET", "/users/zoe")).status == 404
    await as_alice(app, "POST", "/imports", {"files": ROSTER})
    assert (await as_alice(app, "GET", "/users/zoe")).json["groups"] == ["class-c"]
    again = await as_alice(app, "POST", "/imports", {"files": ROSTER})
    assert again.json["counts"]["users"] == {"new": 0, "changed": 0, "same": 1}


async def test_a_bad_roster_names_each_bad_line_and_changes_nothing(app: App) -> None:
    files = {"users.csv": "username,role\ngood,user\ntwo words,user\nx,root\n"}
    reply = await as_alice(app, "POST", "/imports", {"files": files})
    assert (reply.status, reply.code) == (422, "roster.invalid")
    assert {one["line"] for one in reply.json["problems"]} == {3, 4}
    assert all(set(one) == {"file", "line", "field", "message"} for one in reply.json["problems"])
    assert (await as_alice(app, "GET", "/users/good")).status == 404


# ------------------------------------------------------------------ campaigns


async def a_campaign(app: App) -> str:
    body = {"name": "Monday", "seed": 7, "plan_sha256": PLAN}
    return str((await as_alice(app, "POST", "/campaigns", body)).json["id"])


async def test_a_campaign_runs_and_ends_with_its_report(app: App) -> None:
    campaign = await a_campaign(app)
    path = f"/campaigns/{campaign}"
    assert (await as_alice(app, "GET", f"{path}/report")).status == 404
    folder = app.broker.config.reports / "2026-11-21"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<!doctype html><p>fine</p>")
    (app.broker.config.reports / "latest").symlink_to(folder.name)
    changes = {
        "state": "finished",
        "verdict": "good",
        "report_path": "latest/report.html",
        "summary": {"vdi": {"sessions": 3}},
    }
    ended = await as_alice(app, "PATCH", path, changes)
    assert (ended.status, ended.json["summary"]) == (200, {"vdi": {"sessions": 3}})
    assert ended.json["finished_at"] is not None
    report = await as_alice(app, "GET", f"{path}/report")
    assert (report.status, report.body) == (200, b"<!doctype html><p>fine</p>")
    policy = report.headers["Content-Security-Policy"]
    assert policy.endswith("; sandbox")
    assert "script-src" not in policy
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy
    assert report.headers["Content-Type"] == "text/html; charset=utf-8"
    back = await as_alice(app, "PATCH", path, {"state": "running"})
    assert back.code == "resource.conflict"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../trivium.db", "a/../../x.html", "latest/report.json", "x.html\0",
     "a\\b.html", "x.html\n", "./../x.html", "x" * 301 + ".html"],
)  # fmt: skip
async def test_a_report_is_an_html_file_among_the_reports(app: App, path: str) -> None:
    campaign = await a_campaign(app)
    reply = await as_alice(app, "PATCH", f"/campaigns/{campaign}", {"report_path": path})
    assert reply.status == 400


async def test_a_link_does_not_lead_out_of_the_reports(app: App) -> None:
    campaign = await a_campaign(app)
    app.broker.config.reports.mkdir(parents=True)
    outside = app.broker.config.data / "secret.html"
    outside.write_text("secret")
    (app.broker.config.reports / "link.html").symlink_to(outside)
    (app.broker.config.reports / "folder.html").mkdir()
    for name in ("link.html", "folder.html", "none.html"):
        await as_alice(app, "PATCH", f"/campaigns/{campaign}", {"report_path": name})
        assert (await as_alice(app, "GET", f"/campaigns/{campaign}/report")).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "seed": -1, "plan_sha256": PLAN},
        {"name": "x", "seed": 1, "plan_sha256": "zz" * 32},
        {"name": "", "seed": 1, "plan_sha256": PLAN},
        {"name": "a\x1b[2J", "seed": 1, "plan_sha256": PLAN},
    ],
)
async def test_a_campaign_that_cannot_be_is_refused(app: App, body: dict[str, Any]) -> None:
    assert (await as_alice(app, "POST", "/campaigns", body)).status == 400


async def test_a_summary_is_short(app: App) -> None:
    campaign = await a_campaign(app)
    summary = {"x": "a" * 33_000}
    reply = await as_alice(app, "PATCH", f"/campaigns/{campaign}", {"summary": summary})
    assert (reply.status, reply.json["field"]) == (400, "summary")


# ------------------------------------------------------------------ all of them


async def test_the_overview_counts_by_architecture(app: App) -> None:
    await app.services.overviews.sample()
    await app.call("POST", "/sessions", app.people["ann"], body={"pool": "library"})
    await app.services.overviews.sample()
    found = (await as_alice(app, "GET", "/overview")).json
    assert set(found["architectures"]) == {"vdi", "idv", "voi"}
    vdi = found["architectures"]["vdi"]
    assert (vdi["desktops"], vdi["sessions"]) == (
        {"ready": 9, "assigned": 1},
        {"delivering": 1},
    )
    assert found["endpoints"] == {"thin": {}, "fat": {"enrolled": 1}}
    assert [point["vdi"]["ready"] for point in found["series"]] == [10, 9]
    assert set(found["series"][0]["idv"]) >= {"active", "waiting", "ready"}


async def test_every_answer_is_what_its_route_declares(app: App) -> None:
    """Each GET of the API without something that must exist, decoded as the declared struct."""
    await app.call("POST", "/sessions", app.people["alice"], body={"pool": "library"})
    await a_campaign(app)
    checked = 0
    for route in app.broker.web.table:
        kind = route.answers.get(200)
        if route.surface is Surface.PAGE or route.method != "GET" or kind is None or route.params:
            continue
        reply = await app.call("GET", route.path, app.people["alice"], base="")
        if reply.status == 200:
            msgspec.json.decode(reply.body, type=kind, strict=True)
            checked += 1
    assert checked >= 12


async def test_times_are_rfc_3339_in_utc_with_milliseconds(app: App) -> None:
    user = (await as_alice(app, "GET", "/users/ann")).json
    assert len(user["created_at"]) == len("2026-11-21T08:00:00.123Z")
    assert user["created_at"].endswith("Z")
    assert user["created_at"][19] == "."

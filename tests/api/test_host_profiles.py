"""A stored host gets another profile: checked, refused where it would lose desktops, written down,
and in use at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.domain.audit import AuditEntry
from broker.domain.features import Feature
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import DesktopState, Host
from broker.ports import PageQuery
from tests.support.app import App, Reply
from tests.support.prompt_engine import PromptEngine

EMPTY = {
    "name": "server-2", "engine": "simulated", "profile": "bare-metal",
    "cpus": 8, "memory_mib": 16384,
}  # fmt: skip


async def ask(app: App, body: dict[str, Any], ref: str = "server-1", by: str = "alice") -> Reply:
    return await app.call("PATCH", f"/hosts/{ref}", app.people[by], body=body)


async def stored(app: App, name: str = "server-1") -> Host:
    hosts = await app.services.kit.store.directory.hosts()
    return next(one for one in hosts if one.name == name)


async def entry_of(app: App, reply: Reply) -> AuditEntry:
    query = PageQuery(limit=100, filters={"request_id": reply.headers["X-Request-Id"]})
    [entry] = (await app.services.kit.store.audit.entries(query)).items
    return entry


async def test_a_changed_knob_is_in_use_at_once_though_desktops_are_there(app: App) -> None:
    engine, before = app.broker.engines["simulated"], await stored(app)
    assert Feature.MIGRATE in engine.features(before)
    reply = await ask(app, {"profile": "bare-metal?migrate=0"})
    assert reply.status == 200, reply.body
    assert (reply.json["profile"], reply.json["revision"]) == ("bare-metal?migrate=0", 2)
    # whoever read the host before it was changed does not bring the old profile back
    assert Feature.MIGRATE not in engine.features(before)
    assert Feature.MIGRATE not in engine.features(await stored(app))


async def test_the_trail_tells_the_profile_before_and_after(app: App) -> None:
    long = "bare-metal?slow_factor=1." + "0" * 300
    done = await entry_of(app, await ask(app, {"profile": long}))
    assert (done.action, done.outcome.value) == ("host.change", "done")
    assert done.details["profile"] == {"before": "bare-metal", "after": long}
    refused = await entry_of(app, await ask(app, {"profile": "hosted"}))
    assert (refused.outcome.value, refused.details["code"]) == ("refused", "host.occupied")
    assert refused.details["profile"] == {"before": long, "after": "hosted"}


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ("turbo", "'turbo' is none of bare-metal"),
        ("bare-metal?speed=9", "no knob is called 'speed'"),
        ("bare-metal?boot_fail=7", "knob boot_fail: '7' is out of range"),
    ],
)
async def test_a_profile_is_checked_as_when_a_host_is_added(
    app: App, profile: str, says: str
) -> None:
    before = await stored(app)
    changed = await ask(app, {"profile": profile, "start_limit": 1})
    added = await app.call("POST", "/hosts", app.people["alice"], body=EMPTY | {"profile": profile})
    for reply in (changed, added):
        assert (reply.status, reply.code) == (400, "request.invalid"), reply.body
        assert reply.json["field"] == "profile"
        assert says in reply.json["detail"]
    assert await stored(app) == before
    assert len(await app.services.kit.store.directory.hosts()) == 1


async def test_one_with_which_its_desktops_would_be_lost_waits_until_there_are_none(
    app: App,
) -> None:
    before, store = await stored(app), app.services.kit.store
    reply = await ask(app, {"profile": "hosted", "start_limit": 1})
    assert (reply.status, reply.code) == (409, "host.occupied"), reply.body
    assert (reply.json["desktops"], reply.json["changed"]) == (10, ["profile"])
    assert "under maintenance and wait until it is empty" in reply.json["advice"]
    assert await stored(app) == before
    states = [state for state in DesktopState if state is not DesktopState.DELETED]
    for desktop in await store.desktops.on_host(before.id, states, 100):
        await store.desktops.advance(desktop.id, DesktopEvent.DELETE_ASKED, app.clock.now())
        await store.desktops.advance(desktop.id, DesktopEvent.DELETED, app.clock.now())
    reply = await ask(app, {"profile": "hosted"})
    assert (reply.status, reply.json["profile"]) == (200, "hosted"), reply.body


async def test_what_somebody_changed_meanwhile_is_not_written_over(app: App) -> None:
    read = (await ask(app, {"start_limit": 5})).json
    assert (await ask(app, {"start_limit": 6})).status == 200
    late = await ask(app, {"profile": "bare-metal?resize=0", "revision": read["revision"]})
    assert (late.status, late.code) == (409, "resource.conflict"), late.body
    assert late.json["revision"] == read["revision"] + 1
    assert (await stored(app)).profile == "bare-metal"
    again = {"profile": "bare-metal?resize=0", "revision": late.json["revision"]}
    assert (await ask(app, again)).status == 200
    # that it drains meanwhile is nothing that anybody would write over
    assert (await ask(app, {"state": "draining"})).status == 200
    assert (await ask(app, {"start_limit": 7, "revision": 4})).status == 200


async def test_changes_that_arrive_together_are_all_made(app: App) -> None:
    replies = await asyncio.gather(
        ask(app, {"start_limit": 3}), ask(app, {"cpus": 7}), ask(app, {"overcommit_cpu": 2}),
        ask(app, {"profile": "bare-metal?resize=0"}),
    )  # fmt: skip
    host = await stored(app)
    kept = {
        "start_limit": host.start_limit == 3, "cpus": host.capacity.cpus == 7,
        "overcommit_cpu": host.overcommit_cpu == 2, "profile": host.profile != "bare-metal",
    }  # fmt: skip
    assert [reply.status for reply in replies] == [200 if one else 409 for one in kept.values()]
    assert host.revision == 1 + sum(kept.values())


async def test_the_engine_of_a_host_stays_and_only_administrators_change_its_profile(
    app: App,
) -> None:
    body = {"profile": "bare-metal?resize=0"}
    assert (await ask(app, body | {"engine": "libvirt"})).status == 400
    assert (await ask(app, body, by="oliver")).status == 403
    assert (await ask(app, body, ref="nowhere")).status == 404
    assert (await ask(app, {"profile": "bare metal"})).status == 400
    assert (await stored(app)).profile == "bare-metal"


async def test_of_an_engine_that_does_not_tell_where_machines_live_none_is_left_behind(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.broker.engines._engines, "simulated", PromptEngine())
    reply = await ask(app, {"profile": "bare-metal?resize=0"})
    assert (reply.status, reply.code) == (409, "host.occupied"), reply.body
    assert (await app.call("POST", "/hosts", app.people["alice"], body=EMPTY)).status == 201
    reply = await ask(app, {"profile": "bare-metal?whatever"}, ref="server-2")
    assert reply.status == 200, reply.body

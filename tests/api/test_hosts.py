"""Hosts over HTTP: switched and declared lost, with entries that say who asked from where."""

from __future__ import annotations

from broker.ports import PageQuery
from tests.support.app import App, Reply

EMPTY = {
    "name": "server-2", "engine": "simulated", "profile": "bare-metal",
    "cpus": 8, "memory_mib": 16384,
}  # fmt: skip


async def ask(app: App, method: str, path: str, body: object) -> Reply:
    return await app.call(method, path, app.people["alice"], body=body)


async def written(app: App, reply: Reply) -> dict[str, str]:
    """action -> where from, of the entries of this request."""
    query = PageQuery(limit=100, filters={"request_id": reply.headers["X-Request-Id"]})
    found = (await app.services.kit.store.audit.entries(query)).items
    return {one.action: one.source for one in found}


async def test_an_empty_host_is_switched_off(app: App) -> None:
    added = await ask(app, "POST", "/hosts", EMPTY)
    assert added.status == 201, added.body
    reply = await ask(app, "POST", "/hosts/server-2/power", {"on": False})
    assert (reply.status, reply.json["state"]) == (202, "powering_off"), reply.body
    assert await written(app, reply) == {
        "host.power": "127.0.0.1", "host.power_off": "127.0.0.1",
    }  # fmt: skip
    assert (await ask(app, "POST", "/hosts/nowhere/power", {"on": True})).status == 404
    assert (await ask(app, "POST", "/hosts/server-2/power", {})).status == 400


async def test_a_lost_host_is_down_and_a_drained_one_drains_as_the_trail_says(app: App) -> None:
    assert (await ask(app, "POST", "/hosts", EMPTY)).status == 201
    for wish, action in (("draining", "host.drain"), ("down", "host.lost")):
        reply = await ask(app, "PATCH", "/hosts/server-2", {"state": wish})
        assert (reply.status, reply.json["state"]) == (200, wish)
        assert await written(app, reply) == {
            "host.change": "127.0.0.1", action: "127.0.0.1",
        }  # fmt: skip


async def test_ending_a_session_is_written_with_the_request_that_asked(app: App) -> None:
    begun = await ask(app, "POST", "/sessions", {"pool": "library"})
    path = f"/sessions/{begun.json['session']['id']}"
    ended = await ask(app, "DELETE", path, None)
    assert ended.status == 202, ended.body
    found = await written(app, ended)
    assert found["session.log_off"] == "127.0.0.1"
    assert found["session.finished"] == "127.0.0.1"


async def test_a_hosts_profile_may_be_as_long_as_the_addresses_in_it(app: App) -> None:
    profile = "bare-metal?" + "&".join(f"boot_fail=0.{n:020d}" for n in range(20))
    added = await ask(app, "POST", "/hosts", EMPTY | {"profile": profile})
    assert (added.status, added.json["profile"]) == (201, profile)
    for bad in ("bare metal", f"bare-metal?{'x' * 1000}"):
        assert (await ask(app, "POST", "/hosts", EMPTY | {"profile": bad})).status == 400

"""What a host has, what a desktop takes, and circuit breakers, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from broker import limits
from broker.domain.errors import QueueFullError
from broker.domain.settings import PoolSettings
from broker.ports import PageQuery
from broker.web.encoding import stamp
from tests.support.app import App, Reply


async def as_alice(app: App, method: str, path: str, body: Any = None) -> Reply:
    return await app.call(method, path, app.people["alice"], body=body)


async def test_a_hosts_capacity_is_changed_and_what_is_left_out_stays(app: App) -> None:
    before = (await as_alice(app, "GET", "/hosts")).json["items"][0]["capacity"]
    changes = {"disk_mib": 900_000, "disk_iops": 20_000, "network_mbit": 10_000}
    changed = await as_alice(app, "PATCH", "/hosts/server-1", changes)
    assert changed.status == 200
    assert changed.json["capacity"] == before | changes
    changed = await as_alice(app, "PATCH", "/hosts/server-1", {"cpus": 7, "memory_mib": 5000})
    assert changed.json["capacity"] == before | changes | {"cpus": 7, "memory_mib": 5000}


@pytest.mark.parametrize("body", [{"cpus": 0}, {"memory_mib": 0}, {"disk_mib": -1}])
async def test_a_capacity_that_cannot_be_is_refused(app: App, body: dict[str, Any]) -> None:
    assert (await as_alice(app, "PATCH", "/hosts/server-1", body)).status == 400


async def failing(app: App) -> tuple[str, str]:
    """A breaker of the library that is open on the first host."""
    pool = await app.services.pools.find("library")
    host = await app.services.site.host("server-1")
    for _ in range(PoolSettings().failures_max):
        await app.services.breakers.outcome(pool.id, host.id, ok=False, detail="no answer")
    return pool.id, host.id


async def test_an_open_breaker_is_shown_counted_and_reset(app: App) -> None:
    assert (await as_alice(app, "GET", "/breakers")).json["items"] == []
    pool_id, host_id = await failing(app)
    (shown,) = (await as_alice(app, "GET", "/breakers")).json["items"]
    assert (shown["pool"], shown["host"], shown["state"]) == ("library", "server-1", "open")
    assert (shown["failures"], shown["error"]) == (PoolSettings().failures_max, "no answer")
    assert shown["since"] < shown["until"]
    assert not shown["trying"]
    for host, number in (("server-1", 1), (host_id, 1), ("server-2", 0)):
        found = (await as_alice(app, "GET", f"/breakers?host={host}")).json["items"]
        assert len(found) == number, host
    assert app.services.breakers.paused == 1
    other = await as_alice(app, "POST", "/hosts/server-1/breakers/reset", {"pool": "nope"})
    assert other.status == 404
    done = await as_alice(app, "POST", "/hosts/server-1/breakers/reset", {"pool": "library"})
    assert (done.status, done.json) == (200, {"reset": 1})
    assert (await as_alice(app, "GET", "/breakers")).json["items"] == []
    query = PageQuery(filters={"pool_id": pool_id})
    actions = [one.action for one in (await app.services.kit.store.audit.entries(query)).items]
    assert {"breaker.open", "breaker.reset", "breaker.close"} <= set(actions)
    again = await as_alice(app, "POST", f"/hosts/{host_id}/breakers/reset", {})
    assert again.json == {"reset": 0}


async def page(app: App, who: str, host_id: str) -> str:
    reply = await app.call("GET", f"/hosts/{host_id}", app.people[who], base="")
    assert reply.status == 200
    return " ".join(reply.body.decode().split())


async def test_the_hosts_page_tells_what_fails_there_since_when_and_when_it_is_tried_again(
    app: App,
) -> None:
    host = await app.services.site.host("server-1")
    assert 'id="paused"' not in await page(app, "alice", host.id)
    pool_id, host_id = await failing(app)
    breaker = (await app.services.breakers.all())[pool_id, host_id]
    assert breaker.since is not None
    assert breaker.until is not None
    text = await page(app, "alice", host_id)
    times = PoolSettings().failures_max
    assert f'<a href="/pools/{pool_id}"><b>Library</b></a> failed {times} times in a row' in text
    assert "no answer" in text
    for words, at in (("No machines are made since", breaker.since), ("again at", breaker.until)):
        assert f'{words} <time datetime="{stamp(at)}"' in text
    assert f'hx-post="/api/v1/hosts/{host_id}/breakers/reset"' in text
    for who in ("oliver", "audrey"):
        theirs = await page(app, who, host_id)
        assert "no answer" in theirs
        assert "breakers/reset" not in theirs
    app.clock.shift_s += PoolSettings().breaker_s
    half = await page(app, "alice", host_id)
    assert ">half_open<" in half
    assert "The next that is needed is tried." in half
    await app.services.breakers.begun(await app.services.pools.find("library"), host_id)
    assert "One is being tried just now." in await page(app, "alice", host_id)
    await app.services.breakers.outcome(pool_id, host_id, ok=True, detail="")
    assert 'id="paused"' not in await page(app, "alice", host_id)


async def test_another_hosts_breakers_and_single_failures_are_not_on_the_page(app: App) -> None:
    pool = await app.services.pools.find("library")
    host = await app.services.site.host("server-1")
    await app.services.breakers.outcome(pool.id, host.id, ok=False, detail="no answer")
    for _ in range(PoolSettings().failures_max):
        await app.services.breakers.outcome(pool.id, "hst_other", ok=False, detail="no answer")
    assert 'id="paused"' not in await page(app, "alice", host.id)


async def test_who_finds_the_queue_full_is_told_when_to_come_back(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not all at the same moment: a class that is refused would come back as one."""
    monkeypatch.setattr(limits, "POOL_QUEUE_MAX", 0)
    pool = await app.services.pools.find("library")
    for host in await app.services.kit.store.directory.host_loads():
        await as_alice(app, "PATCH", f"/hosts/{host.host.id}", {"state": "draining"})
    pauses: list[float] = []
    for _ in range(3):
        refused = await app.call("POST", "/sessions", app.people["ann"], body={"pool": pool.name})
        assert refused.status == 503
        assert refused.json["code"] == QueueFullError.code
        assert int(refused.headers["Retry-After"]) >= 1
        pauses.append(refused.json["retry_after_s"])
    assert len(set(pauses)) == 3
    assert all(0 < pause <= 60 for pause in pauses)


async def test_the_pages_offer_what_can_be_changed(app: App) -> None:
    pool = await app.services.pools.find("library")
    alice = app.people["alice"]
    text = (await app.call("GET", f"/pools/{pool.id}", alice, base="")).body.decode()
    for name in ("settings.weights.cpus", "settings.guarantee.disk", "resources.network_mbit"):
        assert f'name="{name}"' in text
    text = (await app.call("GET", "/hosts", alice, base="")).body.decode()
    for name in ("settings.overcommit_memory", "overcommit_cpu", "disk_iops", "start_limit"):
        assert f'name="{name}"' in text

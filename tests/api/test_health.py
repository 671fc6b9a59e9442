"""Alive, ready, and the metrics."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker import limits
from broker.domain.errors import UnavailableError
from tests.support.app import App, Reply, furnish, running_app
from tests.support.eventually import eventually


async def test_an_empty_broker_is_alive_and_not_ready_before_the_first_look(bare: App) -> None:
    assert (await bare.call("GET", "/healthz")).json == {"status": "alive"}
    ready = await bare.call("GET", "/readyz")
    assert (ready.status, ready.json["reconciler"]) == (503, "starting")


async def test_a_broker_that_looks_is_ready_and_one_that_stopped_looking_is_not(
    app: App,
) -> None:
    reconciler = app.services.reconciler
    reconciler.looked_at_s = app.clock.monotonic()
    assert (await app.call("GET", "/readyz")).status == 200
    app.clock.shift_s += limits.READY_S + 1
    ready = await app.call("GET", "/readyz")
    assert (ready.status, ready.json["reconciler"]) == (503, "behind")


async def test_the_reconciler_itself_makes_it_ready(tmp_path: Path) -> None:
    async with running_app(tmp_path, reconcile=True) as app:
        await eventually(lambda: app.services.reconciler.looked_at_s is not None)
        assert (await app.call("GET", "/readyz")).json["ready"] is True


async def test_without_its_store_it_is_alive_and_not_ready(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.services.reconciler.looked_at_s = app.clock.monotonic()

    async def away() -> None:
        raise UnavailableError

    monkeypatch.setattr(app.services.kit.store, "ping", away)
    ready = await app.call("GET", "/readyz")
    assert (ready.status, ready.json["store"]) == (503, "unavailable")
    assert (await app.call("GET", "/healthz")).status == 200


async def test_a_store_that_does_not_answer_does_not_hang_the_answer(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.web.health.STORE_PING_S", 0.05)

    async def hangs() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(app.services.kit.store, "ping", hangs)
    assert (await app.call("GET", "/readyz")).json["store"] == "slow"


async def test_a_stopping_broker_is_not_ready_and_still_answers(app: App) -> None:
    app.services.reconciler.looked_at_s = app.clock.monotonic()
    app.broker.web.drain()
    ready = await app.call("GET", "/readyz")
    assert (ready.status, ready.json["draining"]) == (503, True)
    assert (await app.call("GET", "/auth/me", app.people["ann"])).status == 200


async def test_a_stopped_broker_takes_nobody_and_lets_work_under_way_end(tmp_path: Path) -> None:
    async with running_app(tmp_path) as app:
        await furnish(app)
        web = app.broker.web
        waiting = asyncio.ensure_future(app.call("GET", "/events", app.people["alice"]))
        await eventually(lambda: web.web.running.streams)
        await asyncio.wait_for(web.stop(5.0), 30)
        assert (await waiting).status == 200
        with contextlib.suppress(OSError):
            await asyncio.open_connection(app.address.host, app.address.port)
            raise AssertionError("somebody got in")


# ------------------------------------------------------------------ metrics


def samples(reply: Reply) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


async def test_the_metrics_parse_and_count_what_happened(app: App) -> None:
    await app.call("POST", "/sessions", app.people["ann"], body={"pool": "library"})
    for _ in range(3):
        await app.call("GET", "/users/usr_nothing", app.people["alice"])
    await app.call("GET", "/nothing/here")
    await app.call("PROPFIND", "/auth/me")
    found = samples(await app.call("GET", "/metrics"))

    def value(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    def requests(route: str, method: str, status: str) -> float:
        return value("trivium_http_requests_total", route=route, method=method, status=status)

    assert requests("/api/v1/sessions", "POST", "2xx") == 1
    assert requests("/api/v1/users/{id}", "GET", "4xx") == 3
    assert requests("none", "GET", "4xx") == 1
    assert requests("none", "other", "4xx") >= 1
    assert value("trivium_outcomes_total", outcome="connects", architecture="vdi") == 1
    assert value("trivium_desktops", architecture="vdi", state="assigned") == 1
    assert value("trivium_sessions", architecture="vdi", state="delivering") == 1
    assert value("trivium_endpoints", kind="fat", state="enrolled") == 1
    assert value("trivium_agents_connected") == 0
    assert value("trivium_store_up") == 1
    assert value("trivium_draining") == 0
    assert value("process_resident_memory_bytes") > 0
    steps = {"step": "assign", "architecture": "vdi"}
    assert value("trivium_step_seconds_count", **steps) == 1
    assert value("trivium_step_seconds_bucket", le="+Inf", **steps) == 1


async def test_histograms_only_grow_from_bucket_to_bucket(app: App) -> None:
    for seconds in (0.004, 0.3, 0.3, 7, 1000):
        app.services.tally.took("to_live", "idv", seconds)
    found = samples(await app.call("GET", "/metrics"))
    counts = {
        dict(labels)["le"]: count
        for (name, labels), count in found.items()
        if name == "trivium_step_seconds_bucket" and ("step", "to_live") in labels
    }
    in_order = [counts[bound] for bound in sorted(counts, key=float)]
    assert in_order == sorted(in_order)
    assert (counts["0.005"], counts["0.5"], counts["10.0"], counts["+Inf"]) == (1, 3, 4, 5)
    key = ("trivium_step_seconds_sum", (("architecture", "idv"), ("step", "to_live")))
    assert found[key] == pytest.approx(1007.604)


async def test_the_loops_lag_is_measured(app: App) -> None:
    key = ("trivium_event_loop_lag_seconds_count", ())
    async with asyncio.timeout(30):
        while samples(await app.call("GET", "/metrics"))[key] == 0:
            await asyncio.sleep(0.1)


async def test_strange_methods_and_paths_do_not_make_the_metrics_grow(app: App) -> None:
    await app.call("GET", "/x")
    before = len(samples(await app.call("GET", "/metrics")))
    await app.call("PROPFIND", "/y")
    once = len(samples(await app.call("GET", "/metrics")))
    for number in range(30):
        await app.call("GET", f"/nothing{number}")
        for method in ("PROPFIND", "MKCOL", "LOCK", "TRACE", "PURGE", "MOVE"):
            await app.call(method, f"/y{number}")
    assert len(samples(await app.call("GET", "/metrics"))) == once
    assert once - before <= 2


async def test_metrics_are_for_this_machine_and_for_readers(app: App) -> None:
    here = {"Host": f"localhost:{app.address.port}"}
    assert (await app.call("GET", "/metrics", headers=here)).status == 200
    # as a proxy on this machine passes a stranger's request on
    app.broker.web.web.sites._hosts.add("desk.example")
    proxied = {"Host": "desk.example"}
    assert (await app.call("GET", "/metrics", headers=proxied)).status == 401
    ann, audrey = app.people["ann"], app.people["audrey"]
    assert (await app.call("GET", "/metrics", ann, headers=proxied)).status == 403
    assert (await app.call("GET", "/metrics", audrey, headers=proxied)).status == 200

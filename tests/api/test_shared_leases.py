"""The shared work of a whole broker: taken up at the start, shown, and given back at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from broker.app import Running, Seams, serve
from broker.config import load
from broker.domain.model import WorkLease
from broker.services.shared_work import Work
from broker.store import open_store
from broker.system import SystemChance, SystemClock, SystemIds
from tests.support.eventually import eventually
from tests.support.fakes import PlainPasswords

PLANNED = {Work.PLANNER, Work.SWEEPER, Work.PURGE}
"""taken up by the first look"""


async def _leases(url: str) -> Sequence[WorkLease]:
    store = open_store(url)
    await store.open()
    try:
        return await store.leases.leases()
    finally:
        await store.close()


async def _served(tmp_path: Path, url: str) -> tuple[list[str], dict[str, float]]:
    """What one run of a broker said it does, at /readyz and in /metrics."""
    config = load(
        {
            "TRIVIUM_LISTEN": "127.0.0.1:0",
            "TRIVIUM_DATA": str(tmp_path),
            "TRIVIUM_DATABASE_URL": url,
        }
    )
    seams = Seams(
        clock=SystemClock(), ids=SystemIds(), chance=SystemChance(1), hasher=PlainPasswords()
    )
    stop = asyncio.Event()
    running: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(serve(config, stop, ready=running.set_result, seams=seams))
    either: list[asyncio.Future[Any]] = [serving, running]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    try:
        base, services = (await running).url, running.result().broker.services
        await eventually(lambda: services.reconciler.looked_at_s is not None)
        async with aiohttp.ClientSession() as http:
            ready = await (await http.get(f"{base}/readyz")).json()
            text = await (await http.get(f"{base}/metrics")).text()
    finally:
        stop.set()
        await serving
    samples = (one for family in text_string_to_metric_families(text) for one in family.samples)
    held = {one.labels["work"]: one.value for one in samples if one.name == "trivium_lease_held"}
    assert ready["looked_s_ago"] >= 0
    return ready["work"], held


async def test_a_broker_shows_what_it_does_and_gives_it_back_when_it_stops(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'trivium.db'}"
    work, held = await _served(tmp_path, url)
    assert set(work) >= PLANNED
    assert {name for name, value in held.items() if value} == set(work)
    leases = await _leases(url)
    assert {one.name for one in leases} >= PLANNED
    assert {one.holder for one in leases} == {""}


async def test_the_only_broker_of_a_data_directory_waits_for_no_dead_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trivium.db'}"
    store, now = open_store(url), SystemClock().now()
    await store.open()
    for work in Work:
        await store.leases.acquire(work, "brk_killed", now, now + 3_600_000)
    await store.close()
    await _served(tmp_path, url)
    assert {one.fence for one in await _leases(url) if one.name in PLANNED} == {2}

"""The demo whole: what `make run` does, interrupted, killed, and taken up again."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.support.process import BrokerProcess, free_port
from tests.support.started import DEADLINE_S, all_ended, started

DEMO = ("demo", "--endpoints", "60", "--duration", "36")


@pytest.mark.timeout(900)
async def test_a_demo_is_interrupted_killed_and_taken_up_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with started(data, *DEMO) as first:
        assert "60 online" in await first.says("endpoints ")
        await first.says("people ")
        first.process.send_signal(signal.SIGINT)
        code, _, said = await first.ends()
        assert (code, "everything is stopped" in said) == (0, True)
        await all_ended(data)
    async with started(data, *DEMO) as second:
        assert "(as before)" in await second.says("roster ")
        # the first word of progress: people have begun to arrive
        await second.says("arrived")
        second.process.kill()
        await second.process.wait()
        await all_ended(data)
    async with started(data, *DEMO, "--once", "--json") as third:
        code, out, said = await third.ends()
        assert code == 0, said
    report = json.loads(out)
    assert report["verdict"] == "pass"
    assert set(report["architectures"]) == {"vdi", "idv", "voi"}
    assert report["invariants"]["double_assignments"] == 0
    assert report["invariants"]["lost_sessions"] == 0
    assert (report["speed"], report["bytes_scale"]) == (8, 256)
    latest = data / "reports" / "latest"
    assert json.loads((latest / "report.json").read_text())["plan_sha256"] == report["plan_sha256"]
    assert (latest / "report.html").stat().st_size > 10_000
    for secret in ("campaign/people.json", "campaign/cast.json", "fleet/identities.json"):
        assert (data / secret).stat().st_mode & 0o077 == 0
    await all_ended(data)


@pytest.mark.timeout(300)
async def test_a_second_broker_on_the_port_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with started(tmp_path / "one", "serve", "--json") as first:
        assert first.process.stdout is not None
        ready = json.loads(await asyncio.wait_for(first.process.stdout.readline(), DEADLINE_S))
        assert ready["address"] == f"127.0.0.1:{first.port}"
        words = ("--listen", ready["address"], "--json")
        async with started(tmp_path / "two", "demo", *words) as second:
            code, out, said = await second.ends()
        assert (code, out) == (1, "")
        error = json.loads(said)["error"]
        assert error["title"] == f"Port {first.port} is taken"
        assert f"kill {first.process.pid}" in error["advice"]
        async with started(tmp_path / "one", "serve") as third:
            code, _, said = await third.ends()
        assert code == 1
        assert "data directory" in said
        first.process.send_signal(signal.SIGTERM)
        assert (await first.ends())[0] == 0


@pytest.mark.timeout(300)
async def test_a_fleet_is_shown_and_stopped(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path, free_port(), {})
    await broker.start()
    try:
        words = ("--url", broker.url, "--made-up", "--mix", "thin=2,idv=1,voi=1", "--json")
        async with started(tmp_path, "fleet", *words) as fleet:
            assert fleet.process.stdout is not None
            async with asyncio.timeout(DEADLINE_S):
                async for line in fleet.process.stdout:
                    if json.loads(line)["connected"] == 4:
                        break
            fleet.process.send_signal(signal.SIGINT)
            code, _, _ = await fleet.ends()
        assert code == 0
        assert [path.name for path in (tmp_path / "fleet").glob("tokens*")] == []
    finally:
        await broker.stop()

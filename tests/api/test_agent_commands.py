"""`trivium-agent` as people start it: a process, its output, its signals, its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broker import wire
from tests.support.eventually import eventually
from tests.support.fake_broker import FakeBroker

ROOT = Path(__file__).parent.parent.parent
DEADLINE_S = 60.0


class Agent:
    """A `trivium-agent` process and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out: list[str] = []

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            text = (await self.process.stdout.readline()).decode()
        assert text, "the process ended"
        self.out.append(text)
        return text

    async def snapshot_with(self, **wanted: Any) -> dict[str, Any]:
        """The first progress line, in JSON, that has these values."""
        while True:
            found = json.loads(await self.line())
            if all(found[name] == value for name, value in wanted.items()):
                return dict(found)

    async def end(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """Exit code, further output, errors."""
        if number is not None:
            self.process.send_signal(number)
        async with asyncio.timeout(DEADLINE_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def agent(*arguments: object, folder: Path) -> AsyncIterator[Agent]:
    environment = {name: text for name, text in os.environ.items() if "TRIVIUM" not in name}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agents",
        *(str(argument) for argument in arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    try:
        yield Agent(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def tokens_file(broker: FakeBroker, folder: Path, count: int) -> Path:
    path = folder / "tokens"
    path.write_text("\n".join(broker.make_tokens(count)) + "\n")
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_fleet_tells_its_progress_says_bye_at_a_signal_and_exits_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with FakeBroker() as broker:
        tokens = tokens_file(broker, tmp_path, 10)
        given = ("fleet", "--url", broker.url, "--tokens", tokens, "--endpoints", 10)
        async with agent(
            *given, "--json", "--every", 0.2, "--ramp", 0, "--speed", 1000, folder=tmp_path
        ) as fleet:
            await fleet.snapshot_with(connected=10)
            kinds = sorted(one.kind for one in broker.enrolled.values())
            assert kinds == ["fat"] * 6 + ["thin"] * 4
            for one in broker.enrolled.values():
                broker.start(one.id, "vdi" if one.kind == "thin" else "voi")
            await fleet.snapshot_with(sessions={"vdi": 4, "idv": 0, "voi": 6})
            code, out, err = await fleet.end(number)
            assert (code, err) == (0, "")
            last = json.loads(out.splitlines()[-1])
            assert last["connected"] == 0
            assert last["faults"] == 0
            assert last["image_bytes"] == 6 * 6 * 20_000
            assert len(broker.told(wire.Bye)) == 10

        again = ("fleet", "--url", broker.url, "--endpoints", 10)
        async with agent(*again, "--every", 0.2, "--ramp", 0, folder=tmp_path) as fleet:
            while "connected 10/10" not in await fleet.line():
                pass
            assert (await fleet.end(number))[0] == 0


async def test_a_fleet_comes_as_the_names_of_a_roster(tmp_path: Path) -> None:
    names = tmp_path / "names"
    lines = [
        {"name": "机房-01", "kind": "fat", "location": "三楼"},
        {"name": "lab-02", "kind": "thin"},
        {"name": "lab-03", "kind": "thin"},
    ]
    names.write_text("\n".join(json.dumps(line) for line in lines))
    async with FakeBroker() as broker:
        tokens = tokens_file(broker, tmp_path, 3)
        given = ("fleet", "--url", broker.url, "--tokens", tokens, "--names", names)
        async with agent(
            *given, "--mix", "thin=1,idv=1", "--json", "--every", 0.2, "--ramp", 0, folder=tmp_path
        ) as fleet:
            await fleet.snapshot_with(connected=2)
            assert {one.name for one in broker.enrolled.values()} == {"机房-01", "lab-02"}


async def test_one_endpoint_runs_keeps_its_state_and_stops_at_a_signal(tmp_path: Path) -> None:
    async with FakeBroker() as broker:
        (token,) = broker.make_tokens(1)
        given = ("run", "--url", broker.url, "--name", "desk", "--kind", "fat", "--speed", 1000)
        for enrolment in (("--token", token), ()):
            async with agent(*given, *enrolment, "--cache", "cache", folder=tmp_path) as one:
                await eventually(lambda: broker.links)
                broker.start(broker.id_of("desk"), "idv")
                await eventually(lambda: broker.told(wire.Live))
                assert (await one.end(signal.SIGTERM))[0] == 0
            broker.received.clear()
            await eventually(lambda: not broker.links)
    assert (tmp_path / "var" / "agent.json").exists()
    assert len(list((tmp_path / "cache").glob("??/*"))) == 12


async def test_an_endpoint_that_is_refused_for_good_says_why_and_does_not_exit_0(
    tmp_path: Path,
) -> None:
    async with FakeBroker() as broker:
        given = ("run", "--url", broker.url, "--name", "desk", "--kind", "thin", "--token", "bad")
        async with agent(*given, folder=tmp_path) as one:
            code, _, err = await one.end()
    assert code == 1
    assert "desk was refused for good: enrolment.refused" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fleet", "--url", "ftp://x"), "not an http or https address"),
        (("fleet", "--mix", "thin=0"), "1 to"),
        (("fleet", "--mix", "big=3"), "'big=3' is not one of thin, idv, voi"),
        (("run", "--name", "d", "--kind", "thin", "--calibration", "bad.toml"), "not valid TOML"),
        (("fleet", "--ca", "bad.toml"), "no certificates"),
        (("run", "--name", "d"), "--kind"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "bad.toml").write_text("x = ")
    async with agent(*arguments, folder=tmp_path) as one:
        code, _, err = await one.end()
    assert code == 2
    assert says in err
    assert "Traceback" not in err


async def test_a_broker_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    async with FakeBroker() as broker:
        tokens = tokens_file(broker, tmp_path, 2)
        url = broker.url
    given = ("fleet", "--url", url, "--tokens", tokens, "--endpoints", 2, "--ramp", 0)
    async with agent(*given, "--json", "--every", 0.1, folder=tmp_path) as fleet:
        found: dict[str, Any] = {"retries": 0}
        while found["retries"] < 2:
            found = json.loads(await fleet.line())
        assert found["connected"] == 0
        assert (await fleet.end(signal.SIGINT))[0] == 0


SERVER_LIBRARIES = (
    "sqlalchemy",
    "jinja2",
    "asyncssh",
    "locust",
    "gevent",
    "psycopg",
    "argon2",
    "nats",
    "prometheus_client",
    "rich",
    "psutil",
    "hdrh",
)


def test_agents_bring_none_of_the_servers_libraries_and_of_the_broker_only_the_wire() -> None:
    program = """
import importlib, pkgutil, sys, agents
for found in pkgutil.walk_packages(agents.__path__, "agents."):
    importlib.import_module(found.name)
print("\\n".join(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    modules = set(done.stdout.split())
    assert "agents.fleet" in modules
    assert modules.isdisjoint(SERVER_LIBRARIES)
    assert {name for name in modules if name.partition(".")[0] == "broker"} == {
        "broker",
        "broker.wire",
    }
    assert not {name for name in modules if name.partition(".")[0] == "loadtests"}


def test_the_core_does_no_io_and_reads_neither_clock_nor_chance() -> None:
    program = """
import sys
import agents.core.endpoint, agents.registry
print("\\n".join(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    modules = set(done.stdout.split())
    assert modules.isdisjoint({"asyncio", "aiohttp", "socket", "agents.system", "agents.runner"})
    pure = [
        ROOT / "agents" / name for name in ("chance.py", "idv.py", "model.py", "thin.py", "voi.py")
    ]
    for path in [*(ROOT / "agents" / "core").glob("*.py"), *pure]:
        text = path.read_text(encoding="utf-8")
        for banned in ("import asyncio", "import time", "import os", "import random", " open("):
            assert banned not in text, f"{path.name}: {banned}"

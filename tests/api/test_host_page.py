"""One host's page: how full, what it still waits for, and how it is just now."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.domain.errors import EngineError
from broker.domain.inspection import Condition, PageSharing, Pressure
from broker.domain.model import Desktop, DesktopState, Host, HostState, Resources
from broker.domain.placement import HostLoad
from broker.domain.settings import HostSettings
from broker.domain.storage import StorageClass
from broker.web.console.host_page import rooms, what_waits
from tests.support.app import App
from tests.support.builders import make_desktop, make_host
from tests.support.cli import run
from tests.support.prompt_engine import PromptEngine

KNOWN = Condition(
    pressure={"cpu": Pressure(some=(0.98, 0.5, 0.1), full=(0.0, 0.02, 0.0))},
    page_sharing=PageSharing(on=True, kept=2**20, saved=5 * 2**30),
    memory_mib=65536,
    memory_free_mib=1024,
    disk_total=2**40,
    disk_free=2**30,
    storage=(
        StorageClass(
            name="fast",
            cost=2.5,
            place="ssd",
            kind="netfs",
            capacity=2**40,
            available=2**39,
            shared="netfs nas:/d",
        ),
        StorageClass(name="bulk", cost=1, place="disks", refuses="it is not <there>"),
    ),
    unknown={},
)
UNKNOWN = Condition(unknown={"pressure": "libvirt does not tell it of <others>"})


class Watching(PromptEngine):
    def __init__(self, found: Condition | None) -> None:
        super().__init__()
        self.found = found

    async def condition(self, host: Host) -> Condition:
        if self.found is None:
            raise EngineError(f"{host.name} did not answer in time")
        return self.found


def watch(app: App, monkeypatch: pytest.MonkeyPatch, found: Condition | None) -> None:
    engines = {"simulated": Watching(found)}.__getitem__
    monkeypatch.setattr(app.services.host_checks, "_engines", engines)


async def page(app: App, path: str, part: str = "") -> str:
    headers = {"HX-Request": "true", "HX-Target": part} if part else {}
    reply = await app.call("GET", path, app.people["alice"], base="", headers=headers)
    assert reply.status == 200, reply.body
    return " ".join(reply.body.decode().split())


async def host_id(app: App) -> str:
    [load, *_] = await app.services.kit.store.directory.host_loads()
    return load.host.id


async def test_a_hosts_page_shows_how_full_it_is_and_leads_on(app: App) -> None:
    ref = await host_id(app)
    text = await page(app, f"/hosts/{ref}")
    assert "Virtual CPUs" in text
    assert f'href="/desktops?host_id={ref}"' in text
    assert f'hx-get="/hosts/{ref}/condition"' in text
    assert "What it still waits for" not in text
    hosts = await page(app, "/hosts")
    assert f'href="/hosts/{ref}"' in hosts
    reply = await app.call("GET", "/hosts/hst_nowhere", app.people["alice"], base="")
    assert reply.status == 404


async def test_a_host_that_is_emptied_says_what_it_waits_for(app: App) -> None:
    ref = await host_id(app)
    asked = await app.call(
        "PATCH", f"/hosts/{ref}", app.people["alice"], body={"state": "maintenance"}
    )
    assert asked.status == 200, asked.body
    text = await page(app, f"/hosts/{ref}", "standing")
    assert "What it still waits for" in text
    assert "idle: moves, or goes, at one of the next looks" in text


async def test_how_a_host_is_just_now_is_shown_with_what_is_not_known(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/hosts/{await host_id(app)}/condition"
    assert "does not tell how its hosts are" in await page(app, path, "condition")
    watch(app, monkeypatch, KNOWN)
    text = await page(app, path, "condition")
    assert "98 % of the last 10 s, 50 % of a minute" in text
    assert "all at once 2 % of a minute" in text
    shown = "fast</dt><dd>550 GB of 1.1 TB free; ssd (netfs), cost 2.5, shared</dd>"
    assert f"Storage class {shown}" in text
    assert "bulk</dt><dd>disks, cost 1; it is not &lt;there&gt;</dd>" in text
    assert "Page sharing (KSM)</dt><dd>on; saves 5.4 GB (1.0 MB kept once)</dd>" in text
    watch(app, monkeypatch, UNKNOWN)
    text = await page(app, path, "condition")
    assert "not known: libvirt does not tell it of &lt;others&gt;" in text
    assert "Waiting for" not in text
    watch(app, monkeypatch, None)
    assert "did not answer in time" in await page(app, path, "condition")


async def test_how_a_host_is_just_now_is_told_over_http(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/hosts/{await host_id(app)}/condition"
    reply = await app.call("GET", path, app.people["audrey"])
    assert (reply.status, reply.code) == (409, "engine.unsupported")
    watch(app, monkeypatch, KNOWN)
    found = (await app.call("GET", path, app.people["audrey"])).json
    assert found["pressure"] == [
        {"resource": "cpu", "some": [0.98, 0.5, 0.1], "full": [0.0, 0.02, 0.0]}
    ]
    assert found["storage"][0] == {
        "name": "fast", "place": "ssd", "kind": "netfs", "cost": 2.5, "capacity": 2**40,
        "available": 2**39, "shared": True, "refuses": "",
    }  # fmt: skip
    assert (found["storage"][1]["available"], found["storage"][1]["refuses"]) == (
        None, "it is not <there>",
    )  # fmt: skip
    assert found["page_sharing"] == {"on": True, "kept": 2**20, "saved": 5 * 2**30}
    watch(app, monkeypatch, UNKNOWN)
    found = (await app.call("GET", path, app.people["audrey"])).json
    assert (found["pressure"], found["memory_mib"], list(found["unknown"])) == (
        None, None, ["pressure"],
    )  # fmt: skip
    watch(app, monkeypatch, None)
    assert (await app.call("GET", path, app.people["audrey"])).status == 502


def test_every_resource_is_held_against_what_may_be_promised() -> None:
    host = make_host(
        capacity=Resources(cpus=8, memory_mib=1000, disk_iops=100),
        overcommit_cpu=4.0,
        settings=HostSettings(overcommit_memory=1.5, overcommit_disk=2.0),
    )
    load = HostLoad(host=host, used=Resources(cpus=3, memory_mib=500), starting=0)
    found = {room.words: (room.used, room.limit) for room in rooms(load) if room.capacity}
    assert found == {
        "Virtual CPUs": (3, 32.0),
        "Memory": (500, 1500.0),
        "Disk operations a second": (0, 200.0),
    }


def test_what_an_emptied_host_waits_for_is_counted_by_reason() -> None:
    host = make_host(state=HostState.MAINTENANCE)

    def here(state: DesktopState, **changes: object) -> Desktop:
        return make_desktop(state=state, **changes)

    rows = (
        here(DesktopState.ASSIGNED),
        here(DesktopState.ASSIGNED),
        here(DesktopState.ASSIGNED, moving_to="hst_2"),
        here(DesktopState.READY),
        here(DesktopState.READY, owner_id="usr_1"),
        here(DesktopState.STARTING),
        here(DesktopState.PARKED),
    )
    assert dict(what_waits(host, rows)) == {
        "in use: moves where the engine can, else leaves at log-off": 2,
        "on its way to another host": 1,
        "idle: moves, or goes, at one of the next looks": 1,
        "its owner's: moves where the engine can": 1,
        "on its way: moves, or goes, once it is ready": 1,
        "suspended with its session, which its person may still take up": 1,
    }
    assert what_waits(replace(host, state=HostState.UP), rows) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            KNOWN,
            (
                "98%, 50%, 10%",
                "1,024 of 65,536 MiB",
                "on; saves 5,120 MiB",
                "ssd (netfs), cost 2.5, 524,288 of 1,048,576 MiB free",
                "disks (not known), cost 1; it is not <there>",
            ),
        ),
        (UNKNOWN, ("not known",)),
    ],
)
async def test_how_a_host_is_just_now_is_told_by_command(
    app: App, monkeypatch: pytest.MonkeyPatch, found: Condition, said: tuple[str, ...]
) -> None:
    watch(app, monkeypatch, found)
    env = {"TRIVIUM_URL": app.url, "TRIVIUM_TOKEN": app.people["audrey"].token}
    ref = await host_id(app)
    ran = await asyncio.to_thread(run, "host", "condition", ref, env=env)
    assert ran.code == 0, ran.err
    for words in said:
        assert words in ran.out
    as_json = await asyncio.to_thread(run, "host", "condition", ref, "--json", env=env)
    assert as_json.document["host"]["id"] == ref

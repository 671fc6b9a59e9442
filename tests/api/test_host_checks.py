"""What hosts can do, and looking at one before it is added, over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.domain.errors import EngineError
from broker.domain.inspection import Abilities, Step, Verdict
from broker.domain.model import Host
from broker.limits import PROBES_MAX
from broker.ports import RosterChange
from broker.services.host_checks import HostChecks
from broker.web.api.host_checks import LINES
from tests.support.app import App
from tests.support.builders import make_host

GOOD = {"name": "server-9", "engine": "simulated", "profile": "hosted?migrate=0"}


async def test_a_host_says_what_it_can_and_cannot_do_and_why(app: App) -> None:
    created = await app.call(
        "POST", "/hosts", app.people["alice"], body=GOOD | {"cpus": 8, "memory_mib": 16_000}
    )
    by_name, by_id = [
        (await app.call("GET", f"/hosts/{ref}/capabilities", app.people["audrey"])).json
        for ref in ("server-9", created.json["id"])
    ]
    told = by_name
    assert told == by_id
    assert told["host"]["name"] == "server-9"
    can = {one["name"] for one in told["can"]}
    cannot = {one["name"]: one["says"] for one in told["cannot"]}
    assert {"desktops", "suspend", "host_power"} <= can
    assert {"migrate", "resize"} <= cannot.keys()
    assert {"name": "memory", "is": "16,000 MiB"} in told["facts"]
    missing = await app.call("GET", "/hosts/nowhere/capabilities", app.people["audrey"])
    assert missing.code == "resource.not_found"


async def test_a_check_tells_each_step_and_adds_nothing(app: App) -> None:
    before = (await app.call("GET", "/hosts", app.people["alice"])).json
    reply = await app.call("POST", "/hosts/check", app.people["alice"], body=GOOD)
    assert reply.status == 200
    assert reply.json["fits"] is True
    assert [step["verdict"] for step in reply.json["steps"]] == ["ok", "ok"]
    assert (await app.call("GET", "/hosts", app.people["alice"])).json == before


@pytest.mark.parametrize("profile", ["hal9000", "hosted?speed=warp", "hosted?boot_fail=7"])
async def test_a_profile_that_nobody_knows_does_not_fit_and_says_what_to_do(
    app: App, profile: str
) -> None:
    body = GOOD | {"profile": profile}
    reply = await app.call("POST", "/hosts/check", app.people["alice"], body=body)
    assert (reply.status, reply.json["fits"]) == (200, False)
    first, *others = reply.json["steps"]
    assert first["verdict"] == "missing"
    assert first["advice"]
    assert {one["verdict"] for one in others} == {"unknown"}


async def test_steps_come_a_line_each_for_whoever_wants_to_see_them_as_they_are_done(
    app: App,
) -> None:
    reply = await app.call(
        "POST", "/hosts/check", app.people["alice"], body=GOOD, headers={"Accept": LINES}
    )
    assert reply.headers["Content-Type"] == LINES
    *steps, last = [json.loads(line) for line in reply.body.splitlines()]
    assert [step["name"] for step in steps] == ["profile", "hypervisor"]
    assert last == {"fits": True}


async def test_only_administrators_look_at_hosts_that_are_to_be_added(app: App) -> None:
    for username in ("ann", "oliver", "audrey"):
        reply = await app.call("POST", "/hosts/check", app.people[username], body=GOOD)
        assert reply.code == "auth.forbidden"


async def test_an_engine_that_is_not_here_is_named(app: App) -> None:
    body = GOOD | {"engine": "hal9000"}
    reply = await app.call("POST", "/hosts/check", app.people["alice"], body=body)
    assert reply.code == "resource.not_found"
    assert "hal9000" in reply.json["detail"]


class Slow:
    """An engine that looks, and never comes to an end by itself."""

    async def abilities(self, host: Host) -> Abilities:
        raise EngineError(f"{host.name} did not answer")

    async def probe(self, host: Host) -> AsyncIterator[Step]:
        for number in range(1_000_000):
            yield Step(name=f"{host.name} {number}", verdict=Verdict.UNKNOWN, says="?")


async def test_only_so_many_hosts_are_looked_at_at_once(app: App) -> None:
    engines: Any = {"slow": Slow()}
    checks = HostChecks(app.services.kit, engines.__getitem__)
    app_checks = app.services.host_checks
    looking = [checks.check("a", "slow", "x") for _ in range(PROBES_MAX)]
    for one in looking:
        assert (await anext(one)).name == "a 0"
    with pytest.raises(Exception, match="too many"):
        checks.check("a", "slow", "x")
    await looking[0].aclose()
    again = checks.check("a", "slow", "x")
    assert (await anext(again)).name == "a 0"
    for one in (*looking, again):
        await one.aclose()
    assert app_checks is not checks


@pytest.mark.parametrize("profile", ["hal9000", "hosted?speed=warp", "hosted?boot_fail=7"])
async def test_a_host_whose_profile_nobody_understands_is_not_added(app: App, profile: str) -> None:
    body = GOOD | {"profile": profile, "cpus": 8, "memory_mib": 16_000}
    reply = await app.call("POST", "/hosts", app.people["alice"], body=body)
    assert (reply.status, reply.json["field"]) == (400, "profile")
    wrong = {"hal9000": "hal9000", "hosted?speed=warp": "speed", "hosted?boot_fail=7": "boot_fail"}
    assert wrong[profile] in reply.json["detail"]
    roster = f"name,profile,cpus,memory_mib\nserver-9,{profile},8,16000\n"
    files = {"files": {"hosts.csv": roster}, "check_only": True}
    refused = await app.call("POST", "/imports", app.people["alice"], body=files)
    assert refused.code == "roster.invalid"
    assert [one["field"] for one in refused.json["problems"]] == ["profile"]


async def test_a_host_whose_profile_nobody_understands_any_more_says_so(app: App) -> None:
    host = make_host(id="hst_9", name="server-9", profile="hosted?speed=warp")
    await app.services.kit.store.directory.apply_roster(RosterChange(hosts=(host,)))
    reply = await app.call("GET", "/hosts/server-9/capabilities", app.people["alice"])
    assert (reply.status, reply.code) == (409, "engine.profile")
    assert "speed" in reply.json["detail"]
    assert "host check" in reply.json["advice"]

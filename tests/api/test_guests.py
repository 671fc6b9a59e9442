"""The agents in desktops, as people and staff meet them: over HTTP, in the console."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from broker.domain.model import Desktop, Role
from broker.engines.simulated import SimulatedEngine
from broker.engines.simulated.guest import SimulatedGuest
from tests.support.app import App, Person, running_app

ROSTER = {
    "groups.csv": "name,title\npupils,Pupils\n",
    "users.csv": "username,display_name,role,groups\npia,Pia,user,pupils\n",
    "images.csv": "name,version,size_gib,boot_mib\nschool,1,1,100\n",
    "hosts.csv": "name,engine,profile,cpus,memory_mib,overcommit_cpu,start_limit\n"
    "talking,simulated,bare-metal?guest=1,16,65536,,4\n",
    "pools.csv": "name,title,architecture,kind,image,cpus,memory_mib,spares,max,log_off,"
    "disconnect_grace_s,lease_s\n"
    "own,Own,vdi,dedicated,school@1,1,1024,1,1,keep,600,\n",
    "entitlements.csv": "pool,group\nown,pupils\n",
}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with running_app(tmp_path, env={"TRIVIUM_SPEED": "1000"}, reconcile=True) as app:
        boss = await app.person("boss", Role.ADMINISTRATOR)
        await app.person("olga", Role.OPERATOR)
        await app.person("audrey", Role.AUDITOR)
        body = {"files": ROSTER, "check_only": False}
        reply = await app.call("POST", "/imports", boss, body=body)
        assert reply.status == 200, reply.body
        yield app


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(60):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    return found


class Case:
    """pia's session in her own desktop, in front of her."""

    def __init__(self, app: App, pia: Person, session: dict[str, Any]) -> None:
        self.app, self.pia, self.session = app, pia, session
        self.path = f"/sessions/{session['id']}"

    @property
    def boss(self) -> Person:
        return self.app.people["boss"]

    @property
    def inside(self) -> SimulatedGuest:
        engine = cast("SimulatedEngine", self.app.broker.engines["simulated"])
        return engine.plant.machines[self.session["desktop"]["id"]].guest

    async def now(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.app.call("GET", self.path, self.boss)).json
        return found

    async def in_state(self, state: str) -> None:
        async def there() -> bool:
            return bool((await self.now())["state"] == state)

        await until(there)


@pytest.fixture
async def case(app: App) -> Case:
    user = await app.services.kit.store.directory.user_by_name("pia")
    assert user is not None
    pia = await app.signed_in(user)

    async def given() -> dict[str, Any] | None:
        reply = await app.call("POST", "/sessions", pia, body={"pool": "own"})
        found: dict[str, Any] = reply.json
        return found["session"] if found["ticket"] else None

    session = await until(given)
    desktop = await app.services.kit.store.desktops.desktop(session["desktop"]["id"])
    assert isinstance(desktop, Desktop)
    await app.broker.engines["simulated"].console(desktop, session["id"])
    await app.services.sessions.live(session["id"], None, session["generation"])
    case = Case(app, pia, session)
    await case.in_state("active")
    return case


async def test_who_is_logged_on_is_told_with_session_and_desktop(case: Case) -> None:
    async def heard() -> dict[str, Any] | None:
        guest: dict[str, Any] | None = (await case.now())["guest"]
        return guest if guest and guest["policy"] else None

    guest = await until(heard)
    assert (guest["user"], guest["policy"], guest["policy_why"]) == ("person", "laid", "")
    assert guest["idle_s"] >= 0
    path = f"/desktops/{case.session['desktop']['id']}"
    desktop = (await case.app.call("GET", path, case.boss)).json
    assert desktop["guest"]["user"] == "person"
    for page in (case.path, path):
        shown = (await case.app.call("GET", page, case.boss, base="")).body.decode()
        assert "Logged on" in shown
        assert "laid down in the desktop" in shown


async def test_a_message_and_a_lock_of_the_staff_reach_the_desktops_screen(case: Case) -> None:
    olga = case.app.people["olga"]
    reply = await case.app.call("POST", f"{case.path}/message", olga, body={"text": "Save now."})
    assert reply.status == 200, reply.body

    async def shown() -> bool:
        return case.inside.messages == ["Save now."]

    await until(shown)
    assert [case.inside.locked] == [False]
    reply = await case.app.call("POST", f"{case.path}/lock", olga)
    assert (reply.status, reply.json["id"]) == (200, case.session["id"])
    assert case.inside.locked
    for who, status in ((case.pia, 403), (case.app.people["audrey"], 403)):
        assert (await case.app.call("POST", f"{case.path}/lock", who)).status == status
    page = (await case.app.call("GET", case.path, olga, base="")).body.decode()
    assert f"/api/v1/sessions/{case.session['id']}/lock" in page
    assert (await case.app.call("POST", "/sessions/ses_none/lock", olga)).status == 404


async def test_the_pools_channels_are_laid_down_and_changed_under_a_live_session(
    case: Case,
) -> None:
    async def laid(**settings: str) -> None:
        async def now() -> bool:
            return settings.items() <= case.inside.policy.items()

        await until(now)

    await laid(clipboard="off", usb="off", watermark="off", person="pia")
    settings = {"channels": {"clipboard": "out", "watermark": True}, "lock_on_disconnect": False}
    reply = await case.app.call("PATCH", "/pools/own", case.boss, body={"settings": settings})
    assert reply.status == 200, reply.body
    channels = reply.json["settings"]["channels"]
    assert channels == {
        "clipboard": "out", "usb": False, "drives": False, "printing": False, "watermark": True,
    }  # fmt: skip
    await laid(clipboard="out", usb="off", watermark="on")
    wrong = {"settings": {"channels": {"clipboard": "sideways"}}}
    assert (await case.app.call("PATCH", "/pools/own", case.boss, body=wrong)).status == 400


async def test_a_disconnect_locks_and_a_log_off_leaves_nobody_in_the_kept_desktop(
    case: Case,
) -> None:
    reply = await case.app.call("POST", f"{case.path}/disconnect", case.pia)
    assert reply.status == 200, reply.body

    async def locked() -> bool:
        return case.inside.locked

    await until(locked)
    assert case.inside.user == "person"
    reply = await case.app.call("DELETE", case.path, case.pia)
    assert (reply.status, reply.json["state"]) == (202, "ending")
    await case.in_state("ended")
    assert case.inside.user == ""
    path = f"/desktops/{case.session['desktop']['id']}"
    desktop = (await case.app.call("GET", path, case.boss)).json
    assert (desktop["state"], desktop["owner"]["username"]) == ("ready", "pia")
    why = (await case.app.call("GET", f"{case.path}/why", case.boss)).json
    told = [one["action"] for one in why["items"]]
    assert {"guest.policy", "guest.lock", "guest.log_off"} <= set(told)
    counted = (await case.app.call("GET", "/metrics")).body.decode()
    assert 'trivium_guest_asks_total{result="done",what="lock"} 1.0' in counted


async def test_a_desktop_without_an_agent_is_not_asked(case: Case) -> None:
    store = case.app.services.kit.store
    [load] = await store.directory.host_loads()
    silent = replace(load.host, profile="bare-metal?guest=0")
    await store.directory.save_host(silent, new=False)

    async def refused() -> bool:
        reply = await case.app.call("POST", f"{case.path}/lock", case.boss)
        return (reply.status, reply.code) == (409, "engine.unsupported")

    await until(refused)

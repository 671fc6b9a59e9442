"""A desktop that an engine made, in a container, used by a real RDP client through the broker; its
agent, which has no port, links up with the broker over the network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from broker.domain.model import Role
from broker.ports import GuestAgents, GuestAsk, GuestVerb
from tests.real.test_viewers import PICTURE_BYTES, running, screen
from tests.support.app import PASSWORD, App, Person, running_app
from tests.support.container_desktops import (
    BROKER,
    IMAGE,
    NETWORK,
    ContainerDesktops,
    container_desktops,
)
from tests.support.libvirt_containers import end_containers
from tests.support.libvirt_lab import LibvirtLab
from tests.support.viewers import until
from tools.container import build

GENEROUS_S = 180
pytestmark = [
    pytest.mark.timeout(3 * GENEROUS_S),
    pytest.mark.allow_hosts(["127.0.0.1", "::1", "localhost", NETWORK]),
]
MARK = "home/person/logged-on"
"""the desktop's session makes it in the person's home"""


@pytest.fixture
def desktops(libvirt_lab: LibvirtLab) -> Iterator[ContainerDesktops]:
    with container_desktops(libvirt_lab) as found:
        try:
            yield found
        finally:
            end_containers(found.host)


def roster(profile: str) -> dict[str, str]:
    return {
        "groups.csv": "name,title\nclerks,Clerks\n",
        "users.csv": "username,display_name,role,groups\nann,Ann,user,clerks\n",
        "images.csv": f"name,version,size_gib,boot_mib\n{IMAGE},1,1,1\n",
        "hosts.csv": "name,engine,profile,cpus,memory_mib,overcommit_cpu,start_limit\n"
        f"box,libvirt,{profile},4,2048,,2\n",
        "pools.csv": "name,title,architecture,kind,image,cpus,memory_mib,spares,max,log_off,"
        "disconnect_grace_s,lease_s\n"
        f"office,Office,vdi,floating,{IMAGE}@1,1,512,1,1,reset,600,\n",
        "entitlements.csv": "pool,group\noffice,clerks\n",
    }


async def furnished(app: App, desktops: ContainerDesktops) -> Person:
    """A pool of one container, and the person who may use it."""
    boss = await app.person("boss", Role.ADMINISTRATOR)
    files = {"files": roster(desktops.profile), "check_only": False}
    answer = await app.call("POST", "/imports", boss, body=files)
    assert answer.status == 200, answer.body
    known = {"passwords": {"ann": PASSWORD}}
    assert (await app.call("POST", "/users/passwords", boss, body=known)).status == 200
    body = {"username": "ann", "password": PASSWORD}
    answer = await app.call("POST", "/auth/login", body=body)
    return Person(answer.json["user"]["id"], "ann", answer.json["token"])


async def session_of(app: App, ann: Person) -> tuple[str, str]:
    """Her session's id and her desktop's, once she has one."""
    async with asyncio.timeout(GENEROUS_S):
        while True:
            answer = await app.call("POST", "/sessions", ann, body={"pool": "office"})
            assert answer.status < 300, answer.body
            if answer.json["ticket"]:
                session = answer.json["session"]
                return session["id"], session["desktop"]["id"]
            await asyncio.sleep(0.2)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def agents_of(app: App) -> GuestAgents:
    engine = app.broker.engines["libvirt"]
    assert isinstance(engine, GuestAgents)
    return engine


def logged_on(app: App, desktop_id: str, user: str) -> Callable[[], Awaitable[bool]]:
    """Whether its agent says so."""

    async def look() -> bool:
        told = agents_of(app).guest(desktop_id)
        return told is not None and told.user == user

    return look


async def log_off_by_agent(app: App, desktop_id: str) -> None:
    desktop = await app.services.kit.store.desktops.desktop(desktop_id)
    assert desktop is not None
    ask = GuestAsk(id="a1", what=GuestVerb.LOG_OFF)
    await agents_of(app).ask_guest(desktop, ask, deadline_s=GENEROUS_S)


async def test_xfreerdp_logs_on_at_a_container_that_the_engine_made(
    desktops: ContainerDesktops, tmp_path: Path
) -> None:
    env = {
        "TRIVIUM_LISTEN": f"{BROKER}:{free_port()}",
        "TRIVIUM_RDP_LISTEN": "127.0.0.1:0",
        "TRIVIUM_VIEWER_HOST": "127.0.0.1",
        "TRIVIUM_DATABASE_URL": f"sqlite:///{tmp_path / 'trivium.db'}",
    }
    async with screen() as display, running_app(tmp_path, env=env, reconcile=True) as app:
        ann = await furnished(app, desktops)
        session_id, desktop_id = await session_of(app, ann)
        file = tmp_path / "office.rdp"
        mark = desktops.root(desktop_id) / MARK

        async def painted() -> bool:
            await app.broker.displays.flush()
            answer = await app.call("GET", f"/sessions/{session_id}", ann)
            return bool(answer.json["traffic"]["display"] > PICTURE_BYTES)

        # ready is the agent's word that people can come, not that the container runs
        assert await asyncio.to_thread(desktops.listens, desktop_id)
        path = f"/sessions/{session_id}/connection"
        answer = await app.call("POST", path, ann, body={"kind": "rdp"})
        assert answer.status == 200, answer.body
        file.write_bytes(answer.body)
        command = (
            *("xfreerdp", str(file), "/cert:ignore"),
            *(f"/u:{build.PERSON}", f"/p:{build.PASSWORD}"),
        )
        async with running(*command, DISPLAY=display, HOME=str(tmp_path)) as client:
            await until(lambda: asyncio.to_thread(mark.exists), within_s=GENEROUS_S)
            await until(painted, within_s=GENEROUS_S)
            answer = await app.call("GET", f"/sessions/{session_id}", ann)
            assert answer.json["state"] == "active"
            await until(logged_on(app, desktop_id, build.PERSON), within_s=GENEROUS_S)
            await log_off_by_agent(app, desktop_id)
            await until(logged_on(app, desktop_id, ""), within_s=GENEROUS_S)
            await asyncio.wait_for(client.wait(), GENEROUS_S)
            assert (await app.call("DELETE", f"/sessions/{session_id}", ann)).status == 202
            _, again = await session_of(app, ann)
        assert again == desktop_id
        assert not (desktops.root(desktop_id) / MARK).exists()

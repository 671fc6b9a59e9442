"""What befalls real machines while people work on them, and what the broker makes of it."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import limits
from broker.domain import settings_check
from tests.support.guest_machine import Screen
from tests.support.libvirt_lab import LibvirtLab, connected, remove
from tests.support.real_school import GENEROUS_S, TINY, RealSchool, real_school
from tests.support.rfb import Display, DisplayClosedError, display_of

pytestmark = pytest.mark.timeout(2 * GENEROUS_S)
MANY = 20


@pytest.fixture(autouse=True)
def comparing_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STRAYS_S", 1.0)


@pytest.fixture
def lab(libvirt_lab: LibvirtLab) -> Iterator[LibvirtLab]:
    """Both daemons are up again afterwards."""
    yield libvirt_lab
    libvirt_lab.clear()


async def test_a_daemon_is_restarted_while_somebody_works_and_nobody_notices(
    lab: LibvirtLab, tmp_path: Path
) -> None:
    async with real_school(lab, tmp_path, image=TINY) as school:
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        session_id = given["session"]["id"]
        async with display_of(school.app, ann, given) as display:
            before = await display.look()
            lab.first.stop()
            await asyncio.sleep(5 * limits.STRAYS_S)
            await display.look()
            lab.first.start()
            await asyncio.sleep(5 * limits.STRAYS_S)
            after = await display.look()
            assert (before.width, before.height) == (after.width, after.height)
            assert (await school.session(session_id))["state"] == "active"
            await school.ok("DELETE", f"/sessions/{session_id}", ann)
        [desktop] = await school.desktops(ready=1)
        assert desktop["generation"] == 2


async def test_a_daemon_that_is_away_while_a_desktop_is_reset_costs_only_time(
    lab: LibvirtLab, tmp_path: Path
) -> None:
    async with real_school(lab, tmp_path, image=TINY) as school:
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        async with display_of(school.app, ann, given):
            lab.first.stop(signal.SIGKILL)
            await school.ok("DELETE", f"/sessions/{given['session']['id']}", ann)
        await asyncio.sleep(2)
        lab.first.start()
        [desktop] = await school.desktops(ready=1)
        assert desktop["generation"] == 2
        assert await school.connect(await school.sign_in("bob"))


async def test_machines_that_nobody_knows_are_removed_and_ones_that_vanished_made_anew(
    lab: LibvirtLab, tmp_path: Path
) -> None:
    data, old = tmp_path / "data", tmp_path / "old"
    async with real_school(lab, data, image=TINY, size=2, spares=0) as school:
        assert await school.desktops() == []
    shutil.copytree(data, old)
    async with real_school(lab, data, image=TINY, size=2) as school:
        await school.desktops(ready=2)
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        with connected(lab.first) as connection:
            remove(connection.lookupByName(f"trivium-{given['session']['desktop']['id']}"))
        ended = await school.in_state(given["session"]["id"], "failed")
        assert ended["why"]
        ready = {desktop["id"] for desktop in await school.desktops(ready=2)}
        assert given["session"]["desktop"]["id"] not in ready
    async with real_school(lab, old, image=TINY, size=2, spares=0) as school:

        async def gone() -> bool:
            return not school.guests.names()

        await school.until(gone, "empty host")
        assert school.guests.volumes() == {}


async def test_a_host_dies_under_its_people_and_they_go_on_at_another(
    lab: LibvirtLab, tmp_path: Path
) -> None:
    hosts = (lab.first, lab.second)
    async with real_school(lab, tmp_path, image=TINY, size=2, hosts=hosts) as school:
        await school.desktops(ready=2)
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        dying = given["session"]["desktop"]
        where = (await school.desktop(dying["id"]))["host"]["name"]
        [host] = [one for one in hosts if one.name == where]
        async with display_of(school.app, ann, given) as display:
            await display.look()
            host.stop(signal.SIGKILL)
            host.kill_machines()
            assert await display.ended() == "display.desktop_closed"
        await school.ok("PATCH", f"/hosts/{where}", body={"state": "down"})
        await school.in_state(given["session"]["id"], "failed")
        again = await school.connect(ann)
        assert again["session"]["desktop"]["id"] != dying["id"]
        async with display_of(school.app, ann, again) as display:
            await display.look()
            host.start()
            await school.ok("PATCH", f"/hosts/{where}", body={"state": "up"})
            await school.desktops(assigned=1, ready=1)

            async def gone() -> bool:
                return f"trivium-{dying['id']}" not in school.guests.names()

            await school.until(gone, "removal of what lay on the host")


async def test_a_desktop_moves_to_another_host_while_its_person_looks_at_it(
    desktop_lab: LibvirtLab, tmp_path: Path
) -> None:
    hosts = (desktop_lab.first, desktop_lab.second)
    async with real_school(desktop_lab, tmp_path, hosts=hosts) as school:
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        session_id, desktop_id = given["session"]["id"], given["session"]["desktop"]["id"]
        before = (await school.desktop(desktop_id))["host"]["name"]
        async with display_of(school.app, ann, given) as display:
            assert await school.answer(display, desktop_id, "echo here >/tmp/a; id -un") == "person"
            await school.ok("PATCH", f"/hosts/{before}", body={"state": "maintenance"})
            assert await display.ended() == "display.desktop_closed"

        async def moved() -> bool:
            return bool((await school.desktop(desktop_id))["host"]["name"] != before)

        await school.until(moved, "move")
        back = await school.connect(ann)
        assert back["session"]["id"] == session_id
        async with display_of(school.app, ann, back) as display:
            assert await school.answer(display, desktop_id, "cat /tmp/a") == "here"
        assert (await school.desktop(desktop_id))["generation"] == 1


async def test_a_host_dies_under_twenty_people_and_only_its_own_lose_their_desktop(
    lab: LibvirtLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker gives the host up by itself."""
    monkeypatch.setattr(limits, "HOST_SILENT_S", 5.0)
    monkeypatch.setattr(settings_check, "LOST_AFTER_S_MIN", 5)
    hosts = (lab.first, lab.second)
    async with real_school(
        lab, tmp_path, image=TINY, size=MANY, people=MANY, hosts=hosts
    ) as school:
        await school.ok("PATCH", "/site", body={"lost_after_s": 10})
        room = Room(school)
        async with asyncio.TaskGroup() as tasks:
            people = [tasks.create_task(room.work(name)) for name in school.people]
            await room.full.wait()
            assert set(room.hosts.values()) == {host.name for host in hosts}
            lab.second.stop(signal.SIGKILL)
            lab.second.kill_machines()
            room.died.set()
        seen = [one.result() for one in people]
        assert len({desktop_id for desktop_id, _ in seen}) == MANY
        assert len({pixels for _, pixels in seen}) == MANY
        told = {one["name"]: one["state"] for one in (await school.ok("GET", "/hosts"))["items"]}
        assert told == {lab.first.name: "up", lab.second.name: "down"}


class Room:
    """Twenty people who work at once. `full`: everybody has seen a desktop; `died`: the host did;
    `hosts`: where each of them was then."""

    def __init__(self, school: RealSchool) -> None:
        self.full = asyncio.Event()
        self.died = asyncio.Event()
        self.hosts: dict[str, str] = {}
        self._school = school
        self._again: set[str] = set()

    async def work(self, name: str) -> tuple[str, bytes]:
        """The desktop that this person has in the end, and what it shows."""
        who = await self._school.sign_in(name)
        given = await self._school.connect(who)
        session, desktop_id = given["session"], given["session"]["desktop"]["id"]
        host = (await self._school.desktop(desktop_id))["host"]["name"]
        async with display_of(self._school.app, who, given) as display:
            await display.look()
            self.hosts[name] = host
            if len(self.hosts) == MANY:
                self.full.set()
            if host == self._school.lab.first.name:
                picture = await self._watch(display, name)
                assert (await self._school.session(session["id"]))["state"] == "active"
                return desktop_id, picture.pixels
            with pytest.raises(DisplayClosedError, match=r"display\.desktop_closed"):
                await self._watch(display)
        await self._school.in_state(session["id"], "failed")
        given = await self._school.connect(who)
        async with display_of(self._school.app, who, given) as display:
            picture = await self._watch(display, name)
        return given["session"]["desktop"]["id"], picture.pixels

    async def _watch(self, display: Display, name: str = "") -> Screen:
        """Until the host died and everybody has a desktop again; `name`: who has one now. One who
        does not look counts as gone."""
        while True:
            picture = await display.look()
            if self.died.is_set() and name:
                self._again.add(name)
            if len(self._again) == MANY:
                return picture
            await asyncio.sleep(1)

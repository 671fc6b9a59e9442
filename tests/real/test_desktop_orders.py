"""What the staff does with one real machine while somebody works in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.libvirt_lab import LibvirtLab
from tests.support.real_school import GENEROUS_S, real_school
from tests.support.rfb import display_of

pytestmark = pytest.mark.timeout(2 * GENEROUS_S)
BOOT = "cat /proc/sys/kernel/random/boot_id"
"""another one for each boot of the guest"""


async def test_a_restart_keeps_the_disk_and_the_session_and_the_agent_is_heard_anew(
    desktop_lab: LibvirtLab, tmp_path: Path
) -> None:
    async with real_school(desktop_lab, tmp_path) as school:
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        session_id, desktop_id = given["session"]["id"], given["session"]["desktop"]["id"]
        async with display_of(school.app, ann, given) as display:
            written = "echo kept >note; sync; cat note"
            assert await school.answer(display, desktop_id, written) == "kept"
            boot = await school.answer(display, desktop_id, BOOT)
            await school.ok("POST", f"/desktops/{desktop_id}/restart")
            assert await display.ended() == "display.desktop_closed"

        async def back() -> bool:
            return bool((await school.desktop(desktop_id))["state"] == "assigned")

        await school.until(back, "desktop that is back")
        again = await school.connect(ann)
        assert again["session"]["id"] == session_id
        async with display_of(school.app, ann, again) as display:
            await display.look()
            assert await school.answer(display, desktop_id, "cat note") == "kept"
            assert await school.answer(display, desktop_id, BOOT) != boot

            async def laid() -> bool:
                told = (await school.session(session_id))["guest"]
                return bool(told and told["policy"] == "laid" and told["user"] == "person")

            await school.until(laid, "agent that is heard, with its policy")
        desktop = await school.desktop(desktop_id)
        assert (desktop["generation"], desktop["state"]) == (1, "assigned")
        jobs = (await school.ok("GET", "/jobs?limit=100"))["items"]
        assert sorted(one["verb"] for one in jobs) == ["create", "resume"]


async def test_a_named_desktop_moves_to_a_named_host_while_its_person_looks_at_it(
    desktop_lab: LibvirtLab, tmp_path: Path
) -> None:
    hosts = (desktop_lab.first, desktop_lab.second)
    async with real_school(desktop_lab, tmp_path, hosts=hosts) as school:
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        session_id, desktop_id = given["session"]["id"], given["session"]["desktop"]["id"]
        before = (await school.desktop(desktop_id))["host"]["name"]
        [to] = [one.name for one in hosts if one.name != before]
        async with display_of(school.app, ann, given) as display:
            await display.look()
            begun = await school.ok("POST", f"/desktops/{desktop_id}/move", body={"host": to})
            assert begun["moving_to"]["name"] == to
            assert await display.ended() == "display.desktop_closed"

        async def moved() -> bool:
            now = await school.desktop(desktop_id)
            return now["host"]["name"] == to and now["moving_to"] is None

        await school.until(moved, "move")
        back = await school.connect(ann)
        assert back["session"]["id"] == session_id
        async with display_of(school.app, ann, back) as display:
            await display.look()
        assert (await school.desktop(desktop_id))["generation"] == 1
        jobs = (await school.ok("GET", "/jobs?limit=100"))["items"]
        assert sorted(one["verb"] for one in jobs) == ["create", "migrate"]

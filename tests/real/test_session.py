"""A person's way through the whole broker to a real machine and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.libvirt_lab import LibvirtLab
from tests.support.real_guests import difference
from tests.support.real_school import GENEROUS_S, real_school
from tests.support.rfb import display_of

pytestmark = pytest.mark.timeout(2 * GENEROUS_S)
SECRET = "the-secret-of-ann"
SAME = 0.02
"""a clock ticks between two pictures"""


async def test_a_person_works_on_a_clone_comes_back_and_leaves_nothing_to_the_next(
    desktop_lab: LibvirtLab, tmp_path: Path
) -> None:
    async with real_school(desktop_lab, tmp_path) as school:
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        session_id, desktop_id = given["session"]["id"], given["session"]["desktop"]["id"]
        async with display_of(school.app, ann, given) as display:
            seen = await display.look()
            assert difference(seen, school.guests.screenshot(desktop_id)) < SAME
            live = await school.session(session_id)
            assert live["state"] == "active"
            written = f"echo {SECRET} >note; sync; cat note"
            assert await school.answer(display, desktop_id, written) == SECRET
            assert difference(await display.look(), seen) > 0
        away = await school.in_state(session_id, "disconnected")
        assert away["desktop"]["id"] == desktop_id

        again = await school.sign_in("ann")
        back = await school.connect(again)
        assert back["session"]["id"] == session_id
        async with display_of(school.app, again, back) as display:
            assert await school.answer(display, desktop_id, "cat note") == SECRET
            [before] = await school.desktops(assigned=1)
            disks = school.guests.volumes()
            await school.ok("DELETE", f"/sessions/{session_id}", again)
            assert await display.ended() == "display.killed"
        [after] = await school.desktops(ready=1)
        assert (after["id"], after["generation"]) == (desktop_id, before["generation"] + 1)
        assert school.guests.volumes().keys().isdisjoint(disks)

        bob = await school.sign_in("bob")
        given = await school.connect(bob)
        assert given["session"]["desktop"]["id"] == desktop_id
        async with display_of(school.app, bob, given) as display:
            assert "No such file" in await school.answer(display, desktop_id, "cat note")
        for disk in school.guests.volumes().values():
            assert SECRET.encode() not in disk.read_bytes()

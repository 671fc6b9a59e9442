"""A real VNC client, outside the browser, at a real machine: through the broker's relay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncvnc
import pytest

from tests.support.guest_machine import Screen
from tests.support.libvirt_lab import LibvirtLab
from tests.support.real_guests import difference
from tests.support.real_school import GENEROUS_S, RealSchool, real_school
from tests.support.rfb import SHIFTED
from tests.support.viewers import until, values_of

pytestmark = [
    pytest.mark.timeout(2 * GENEROUS_S),
    pytest.mark.filterwarnings("ignore:TripleDES has been moved", "ignore:Single-key TripleDES"),
]
SAME = 0.02
"""a clock ticks between two pictures"""
KEY_S = 0.08
"""between two keys: an emulated keyboard holds few"""
NAMES = {"\n": "Return", " ": "space"}


class Hands:
    """A person's, at the viewer's keyboard."""

    def __init__(self, client: asyncvnc.Client) -> None:
        self._client = client

    async def type(self, text: str) -> None:
        for letter in text:
            shift = ["Shift"] if letter.isupper() or letter in SHIFTED else []
            self._client.keyboard.press(*shift, NAMES.get(letter, letter))
            await self._client.drain()
            await asyncio.sleep(KEY_S)


async def picture(client: asyncvnc.Client) -> Screen:
    seen = await client.screenshot()
    height, width, _ = seen.shape
    return Screen(width=width, height=height, pixels=seen[:, :, :3].tobytes())


async def test_a_vnc_client_sees_a_real_desktop_and_types_into_it(
    desktop_lab: LibvirtLab, tmp_path: Path
) -> None:
    env = {"TRIVIUM_VNC_LISTEN": "127.0.0.1:0"}
    async with real_school(desktop_lab, tmp_path, env=env) as school:
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        session_id, desktop_id = given["session"]["id"], given["session"]["desktop"]["id"]
        path = f"/sessions/{session_id}/connection"
        file = values_of(await school.app.call("POST", path, ann, body={"kind": "vnc"}))
        port, password = int(file["port"]), file["password"]
        async with (
            asyncio.timeout(GENEROUS_S),
            asyncvnc.connect("127.0.0.1", port, password=password) as client,
        ):
            seen = await picture(client)
            assert difference(seen, school.guests.screenshot(desktop_id)) < SAME
            answer = await school.answer(Hands(client), desktop_id, "echo Seen by VNC")
            assert answer == "Seen by VNC"
            assert difference(await picture(client), seen) > 0
            await school.ok("DELETE", f"/sessions/{session_id}", ann)
            await until(lambda: hung_up(client))
        await traffic_counted(school, session_id)


async def hung_up(client: asyncvnc.Client) -> bool:
    """Whether the stream was ended by the other side; what it carried before is passed over."""
    return not await client.reader.read(1 << 16)


async def traffic_counted(school: RealSchool, session_id: str) -> None:
    async def counted() -> bool:
        return bool((await school.session(session_id))["traffic"]["display"] > 10_000)

    await school.until(counted, "count of what was carried")

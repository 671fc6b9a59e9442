"""What the broker asks of the agent in a real desktop, and what comes of it on its screen."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from broker.engines import guest_book
from tests.support.guest_machine import Screen, window
from tests.support.libvirt_lab import LibvirtLab, connected
from tests.support.real_school import GENEROUS_S, RealSchool, real_school
from tests.support.rfb import display_of

pytestmark = pytest.mark.timeout(3 * GENEROUS_S)
NOTICES = (1025, 260, 250, 400)
"""where messages appear on the whole desktop's screen, below the clock"""


async def settled(school: RealSchool, desktop_id: str, area: tuple[int, int, int, int]) -> Screen:
    """What the machine draws, once that part of it has come to rest."""
    before = await asyncio.to_thread(school.guests.screenshot, desktop_id)
    while True:
        await asyncio.sleep(1)
        now = await asyncio.to_thread(school.guests.screenshot, desktop_id)
        if now.area(*area) == before.area(*area):
            return now
        before = now


async def guest(school: RealSchool, session_id: str, **wanted: Any) -> dict[str, Any]:
    """What the API tells of the desktop's agent, once it is that."""

    async def there() -> dict[str, Any] | None:
        told: dict[str, Any] | None = (await school.session(session_id))["guest"]
        return told if told and wanted.items() <= told.items() else None

    found: dict[str, Any] = await school.until(there, f"agent that tells {wanted}")
    return found


STOOD_S = 20


async def test_a_desktop_that_stood_still_has_the_right_time_again(
    desktop_lab: LibvirtLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it is not the time that is told regularly
    monkeypatch.setattr(guest_book, "GUEST_CLOCK_S", 1e9)
    async with real_school(desktop_lab, tmp_path) as school:
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        desktop_id = given["session"]["desktop"]["id"]
        async with display_of(school.app, ann, given) as display:
            await display.look()
            await guest(school, given["session"]["id"], user="person")

            async def right() -> bool:
                asked = time.time()
                told = await school.answer(display, desktop_id, "date +%s")
                return asked - int(told) < STOOD_S / 2

            await school.until(right, "right time")
            await asyncio.to_thread(stand_still, desktop_lab, desktop_id)
            await school.until(right, "right time again")


def stand_still(lab: LibvirtLab, desktop_id: str) -> None:
    """Somebody holds the machine for a while at its host, and lets it go on."""
    with connected(lab.first) as connection:
        domain = connection.lookupByName(f"trivium-{desktop_id}")
        domain.suspend()
        time.sleep(STOOD_S)
        domain.resume()


async def test_the_agent_in_a_real_desktop_does_what_its_session_owes_it(
    desktop_lab: LibvirtLab, tmp_path: Path
) -> None:
    async with real_school(desktop_lab, tmp_path, kept=True, locked=True) as school:
        channels = {"clipboard": "in", "watermark": True}
        await school.ok("PATCH", "/pools/desk", body={"settings": {"channels": channels}})
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        session_id, desktop_id = given["session"]["id"], given["session"]["desktop"]["id"]
        async with display_of(school.app, ann, given) as display:
            await display.look()
            told = await guest(school, session_id, user="person", policy="laid")
            assert told["idle_s"] >= 0
            laid = json.loads(
                await school.answer(display, desktop_id, "cat /run/trivium/policy.json")
            )
            assert laid == {
                "clipboard": "in", "usb": "off", "drives": "off", "printing": "off",
                "watermark": "on", "person": "ann",
            }  # fmt: skip

            before = await settled(school, desktop_id, NOTICES)
            body = {"text": "Please save: we restart at noon."}
            await school.ok("POST", f"/sessions/{session_id}/message", body=body)

            async def shown() -> bool:
                now = await asyncio.to_thread(school.guests.screenshot, desktop_id)
                return now.area(*NOTICES) != before.area(*NOTICES)

            await school.until(shown, "message on the screen")
            unlocked = await settled(school, desktop_id, NOTICES)
        await school.in_state(session_id, "disconnected")

        async def locked() -> bool:
            now = await asyncio.to_thread(school.guests.screenshot, desktop_id)
            return window(now) != window(unlocked)

        await school.until(locked, "lock over the screen")

        async def idle() -> bool:
            told = await guest(school, session_id, user="person")
            return bool((told["idle_s"] or 0) > 0)

        await school.until(idle, "idle time")
        await school.ok("DELETE", f"/sessions/{session_id}", ann)
        await school.in_state(session_id, "ended")
        [desktop] = await school.desktops(ready=1)
        assert (desktop["id"], desktop["owner"]["username"]) == (desktop_id, "ann")

        async def nobody() -> bool:
            told = (await school.desktop(desktop_id))["guest"]
            return told is not None and told["user"] == ""

        await school.until(nobody, "desktop with nobody logged on")
        jobs = await school.ok("GET", "/jobs?limit=100")
        assert [one["verb"] for one in jobs["items"]] == ["create"]
        why = await school.ok("GET", f"/sessions/{session_id}/why")
        happened = {one["action"]: one["outcome"] for one in why["items"]}
        for what in ("policy", "message", "lock", "log_off"):
            assert happened[f"guest.{what}"] == "done", why

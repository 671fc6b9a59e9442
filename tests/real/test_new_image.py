"""A pool of real machines gets another version of its image while somebody works in one."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.libvirt_lab import LibvirtLab
from tests.support.real_school import GENEROUS_S, TINY, RealSchool, real_school
from tests.support.rfb import display_of

pytestmark = pytest.mark.timeout(2 * GENEROUS_S)


async def disk_of(school: RealSchool, desktop: dict[str, Any]) -> str:
    """What qemu-img says of the desktop's disk and of all that lie beneath it."""
    name = f"{desktop['id']}-g{desktop['generation']}.qcow2"
    words = ("qemu-img", "info", "-U", "--backing-chain", str(school.guests.volumes()[name]))
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=True)
    return done.stdout.decode()


async def test_spares_are_made_from_the_new_version_and_the_person_works_on(
    libvirt_lab: LibvirtLab, tmp_path: Path
) -> None:
    async with real_school(libvirt_lab, tmp_path, image=TINY, size=3, spares=1) as school:
        await school.desktops(ready=1)
        ann = await school.sign_in("ann")
        given = await school.connect(ann)
        mine = given["session"]["desktop"]["id"]
        async with display_of(school.app, ann, given) as display:
            await display.look()
            files = {"images.csv": f"name,version,size_gib,boot_mib\n{TINY},2,1,100\n"}
            await school.ok("POST", "/imports", body={"files": files, "check_only": False})
            await school.desktops(assigned=1, ready=1)
            changed = await school.ok("PATCH", "/pools/desk", body={"image": f"{TINY}@2"})
            assert changed["image"]["version"] == 2

            async def renewed() -> list[dict[str, Any]]:
                page = await school.ok("GET", "/desktops?limit=100")
                others = [one for one in page["items"] if one["id"] != mine]
                done = all(one["state"] == "ready" and one["image_due"] is None for one in others)
                return others if others and done else []

            others = await school.until(renewed, "spares of the new version")
            for one in others:
                assert one["image"]["version"] == 2
                assert f"{TINY}-v2" in await disk_of(school, one)
            assert max(one["generation"] for one in others) == 2
            hers = await school.desktop(mine)
            assert (hers["state"], hers["generation"]) == ("assigned", 1)
            assert (hers["image"]["version"], hers["image_due"]["version"]) == (1, 2)
            assert f"{TINY}-v1" in await disk_of(school, hers)
            assert (await school.session(given["session"]["id"]))["state"] == "active"
            await display.look()
        await school.ok("DELETE", f"/sessions/{given['session']['id']}", ann)

        async def hers_too() -> dict[str, Any] | None:
            hers = await school.desktop(mine)
            return hers if hers["state"] == "ready" else None

        hers = await school.until(hers_too, "reset of her desktop")
        assert (hers["image"]["version"], hers["image_due"]) == (2, None)
        assert f"{TINY}-v2" in await disk_of(school, hers)

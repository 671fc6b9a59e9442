"""A drill on a broker of its own: backed up while it serves, restored, and what it gave out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from tests.support.process import broker_process, small_roster

PASSWORD = "a password for drills"


async def trivium(data: Path, *words: str) -> tuple[int, str]:
    """Run a command to its end; its exit code, and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "broker",
        *words,
        "--data",
        str(data),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_a_drill(tmp_path: Path) -> None:
    data, path = tmp_path / "data", tmp_path / "site.backup"
    async with broker_process(data, TRIVIUM_SPEED="50") as broker:
        async with broker.http() as admin:
            await admin.ok("POST", "/imports", {"files": small_roster(3, 2), "check_only": False})
            passwords = {"passwords": {"pupil0000": PASSWORD}}
            await admin.ok("POST", "/users/passwords", passwords)
            pupil = await admin.ok(
                "POST", "/auth/login", {"username": "pupil0000", "password": PASSWORD}
            )
        async with broker.http(pupil["token"]) as mine:
            asked = await mine.ok("POST", "/sessions", {"pool": "library"})
            before = await waited(mine, asked["session"]["id"])
        code, said = await trivium(data, "backup", "create", str(path))
        assert code == 0, said
        async with broker.http() as admin:
            await admin.ok("POST", "/users", new_user("afterwards"))
        code, said = await trivium(data, "backup", "restore", str(path), "--replace")
        assert code == 1
        assert "uses the data directory" in said

    code, said = await trivium(data, "backup", "restore", str(path), "--replace")
    assert code == 0, said

    async with broker_process(data, TRIVIUM_SPEED="50") as broker:
        async with broker.http(pupil["token"]) as mine:
            status, _ = await mine.call("GET", "/auth/me")
            assert status == 401
        async with broker.http() as admin:
            names = {user["username"] for user in await admin.all("/users")}
            assert "pupil0002" in names
            assert "afterwards" not in names
            over = await admin.ok("GET", f"/sessions/{before['id']}")
            assert over["state"] == "failed"
            pupil = await admin.ok(
                "POST", "/auth/login", {"username": "pupil0000", "password": PASSWORD}
            )
        async with broker.http(pupil["token"]) as mine:
            again = await mine.ok("POST", "/sessions", {"pool": "library"})
            assert again["session"]["id"] != before["id"]
            live = await waited(mine, again["session"]["id"])
            assert live["desktop"]["id"] != before["desktop"]["id"]


def new_user(name: str) -> dict[str, Any]:
    return {"username": name, "display_name": name, "role": "user", "groups": []}


async def waited(api: Any, session_id: str) -> Any:
    """The session once it has a desktop: the machines of before are cleared and made anew."""
    seen = 0
    async with asyncio.timeout(60):
        while True:
            found = await api.ok("GET", f"/sessions/{session_id}?seen={seen}&wait_s=10")
            if found["desktop"] is not None:
                return found
            seen = found["revision"]

"""A broker as a process of its own, for tests that kill it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

START_S = 60
"""generous: machines are shared"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BrokerProcess:
    """`trivium serve` on a data directory, with its local token."""

    def __init__(self, data: Path, port: int, env: Mapping[str, str]) -> None:
        self.data = data
        self.url = f"http://127.0.0.1:{port}"
        self._env = dict(os.environ) | {
            "TRIVIUM_LISTEN": f"127.0.0.1:{port}",
            "TRIVIUM_DATA": str(data),
            **env,
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def token(self) -> str:
        return (self.data / "local.token").read_text().strip()

    async def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.data / "local.token").unlink()
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / "serve.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "broker", "serve", env=self._env, stdout=log, stderr=log
            )
        async with asyncio.timeout(START_S), aiohttp.ClientSession() as http:
            while True:
                assert self._process.returncode is None, (self.data / "serve.log").read_text()
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(self.url + "/readyz") as answer:
                        if answer.status == 200 and (self.data / "local.token").exists():
                            return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """As if the machine's power went, but for the disk's cache."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> int:
        """Ask it to stop, as Ctrl-C does; answers its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
            try:
                async with asyncio.timeout(START_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
                raise
        return int(self._process.returncode or 0)

    @contextlib.asynccontextmanager
    async def http(self, token: str | None = None) -> AsyncIterator[Api]:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            yield Api(session, self.url + "/api/v1")


class Api:
    """JSON calls with the status checked."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        async with self._session.request(
            method, self._base + path, json=body, headers=headers
        ) as answer:
            text = await answer.text()
            return answer.status, (await answer.json(content_type=None)) if text else None

    async def ok(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        status, answer = await self.call(method, path, body, **headers)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    async def all(self, path: str) -> list[Any]:
        """Every item of a list, page by page."""
        items: list[Any] = []
        after = ""
        while True:
            join = "&" if "?" in path else "?"
            page = await self.ok("GET", f"{path}{join}limit=500{after}")
            items += page["items"]
            if not page["next"]:
                return items
            after = f"&after={page['next']}"


@contextlib.asynccontextmanager
async def broker_process(data: Path, **env: str) -> AsyncIterator[BrokerProcess]:
    """Started, and stopped at the end."""
    broker = BrokerProcess(data, free_port(), env)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


def small_roster(people: int, desktops: int) -> dict[str, str]:
    """One VDI pool with all of its desktops kept warm, and people entitled to it."""
    users = "username,display_name,role,groups\n" + "".join(
        f"pupil{n:04d},Pupil {n},user,pupils\n" for n in range(people)
    )
    return {
        "groups.csv": "name,title\npupils,Pupils\n",
        "users.csv": users,
        "images.csv": "name,version,size_gib,boot_mib\nwin,1,40,200\n",
        "hosts.csv": "name,engine,profile,cpus,memory_mib,overcommit_cpu,start_limit\n"
        "server-1,simulated,bare-metal,2000,4000000,4,500\n",
        "pools.csv": "name,title,architecture,kind,image,cpus,memory_mib,spares,max,log_off,"
        "disconnect_grace_s,lease_s\n"
        f"library,Library,vdi,floating,win@1,1,1024,{desktops},{desktops},reset,600,\n",
        "entitlements.csv": "pool,group\nlibrary,pupils\n",
    }

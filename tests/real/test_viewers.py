"""Real viewers outside the browser against real servers, through the relays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.eventually import eventually
from tests.support.process import free_port
from tests.support.viewers import School, school, until, values_of, vnc_school

NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86", "xrdp": "xrdp", "Xvnc": "tigervnc-standalone-server",
    "xterm": "xterm", "xfreerdp": "freerdp2-x11", "Xvfb": "xvfb", "remote-viewer": "virt-viewer",
    "xtigervncviewer": "tigervnc-viewer",
}  # fmt: skip
"""program -> the Debian package that has it"""
GENEROUS_S = 120
PICTURE_BYTES = 5_000
"""of a desktop on the wire: far more than any handshake"""
USER, PASSWORD = "trivium-rdp", "a pass phrase 42"
"""made for the test, and removed after it"""


@pytest.fixture(autouse=True)
def installed() -> None:
    lacks = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    assert not lacks, f"not installed: {', '.join(lacks)}"


@asynccontextmanager
async def running(*command: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **env},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@asynccontextmanager
async def screen() -> AsyncIterator[str]:
    """An X server that nobody sees; its DISPLAY."""
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        "Xvfb", "-displayfd", str(writing), "-screen", "0", "1024x768x24", "-nolisten", "tcp",
        pass_fds=(writing,), stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            number = await asyncio.to_thread(told.readline)
        yield f":{number.strip()}"
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def somebody() -> AsyncIterator[Path]:
    """An account of this machine whose desktop says that it was started; its home."""
    await finished("useradd", "--create-home", "--shell", "/bin/sh", USER)
    try:
        await finished("chpasswd", said=f"{USER}:{PASSWORD}\n")
        home = Path("/home", USER)
        start = home / "startwm.sh"
        start.write_text("#!/bin/sh\ntouch logged-on\nexec xterm -fullscreen\n", encoding="utf-8")
        start.chmod(0o755)
        yield home
    finally:
        await finished("userdel", "--remove", "--force", USER)


async def finished(*command: str, said: str = "") -> None:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=quiet, stderr=quiet
    )
    await process.communicate(said.encode())


def changed(source: str, target: Path, **values: object) -> str:
    """A configuration with some values of its first section changed, as a new file."""
    text = Path(source).read_text(encoding="utf-8")
    for key, value in values.items():
        head, found, rest = text.partition(f"\n{key}=")
        assert found, key
        text = f"{head}\n{key}={value}\n{rest.partition(chr(10))[2]}"
    target.write_text(text, encoding="utf-8")
    return str(target)


@asynccontextmanager
async def xrdp(folder: Path) -> AsyncIterator[int]:
    """A real RDP server with its own certificate and a port of 127.0.0.1, and what makes its
    sessions."""
    Authority().vouch(folder, "desktop", server=True)
    port = free_port()
    config = changed(
        "/etc/xrdp/xrdp.ini",
        folder / "xrdp.ini",
        port=f"tcp://127.0.0.1:{port}",
        certificate=folder / "servercert.pem",
        key_file=folder / "serverkey.pem",
        autorun="Xvnc",
        LogFile=folder / "xrdp.log",
    )
    sessions = changed("/etc/xrdp/sesman.ini", folder / "sesman.ini", LogFile=folder / "sesman.log")
    async with (
        running("xrdp-sesman", "--nodaemon", "--config", sessions),
        running("xrdp", "--nodaemon", "--config", config),
    ):
        yield port


async def traffic(one: School, username: str = "ann") -> int:
    """Bytes of that person's display so far."""
    await one.app.broker.displays.flush()
    path = f"/sessions/{one.sessions[username]}"
    reply = await one.app.call("GET", path, one.app.people[username])
    return int(reply.json["traffic"]["display"])


async def test_xfreerdp_logs_on_at_xrdp_and_sees_its_desktop(tmp_path: Path) -> None:
    async with (
        screen() as display,
        somebody() as home,
        xrdp(tmp_path / "xrdp") as port,
        school(tmp_path / "data", {"rdp": port}) as one,
    ):
        await one.connected()
        file = tmp_path / "library.rdp"
        file.write_bytes((await one.file("rdp")).body)
        command = ("xfreerdp", str(file), "/cert:ignore", f"/u:{USER}", f"/p:{PASSWORD}")
        async with running(*command, DISPLAY=display, HOME=str(tmp_path)):
            await eventually((home / "logged-on").exists, within_s=GENEROUS_S)

            async def painted() -> bool:
                return await traffic(one) > PICTURE_BYTES

            await until(painted, within_s=GENEROUS_S)
            assert await one.state() == "active"
            assert one.app.broker.displays.kill(one.sessions["ann"])
            await eventually(lambda: one.app.broker.displays.open_count == 0)


async def test_remote_viewer_reaches_qemus_spice_with_all_its_channels(tmp_path: Path) -> None:
    port = free_port()
    qemu = (
        "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "64", "-nodefaults",
        "-vga", "std", "-device", "qemu-xhci", "-device", "usb-tablet",
        "-spice", f"port={port},addr=127.0.0.1,disable-ticketing=on",
    )  # fmt: skip
    async with (
        screen() as display,
        running(*qemu),
        school(tmp_path / "data", {"spice": port}) as one,
    ):
        await one.connected()
        file = tmp_path / "library.vv"
        file.write_bytes((await one.file("spice")).body)
        command = ("remote-viewer", str(file))
        async with running(*command, DISPLAY=display, HOME=str(tmp_path), GDK_BACKEND="x11"):
            await eventually(lambda: len(one.engine.consoles) >= 4, within_s=GENEROUS_S)
            await until(lambda: _drawn(one), within_s=GENEROUS_S)
            assert one.app.broker.displays.open_count == 1
            assert one.app.broker.displays.kill(one.sessions["ann"])
            await eventually(
                lambda: all(console.closed for console in one.engine.consoles),
                within_s=GENEROUS_S,
            )


async def test_remote_viewer_opens_the_file_as_it_is(tmp_path: Path) -> None:
    async with screen() as display, vnc_school(tmp_path / "data") as (one, rfb):
        await one.connected()
        file = tmp_path / "library.vv"
        file.write_bytes((await one.file("vnc")).body)
        command = ("remote-viewer", str(file))
        async with running(*command, DISPLAY=display, HOME=str(tmp_path), GDK_BACKEND="x11"):
            await eventually(lambda: rfb.shared is not None, within_s=GENEROUS_S)
            await until(lambda: _drawn(one), within_s=GENEROUS_S)
            assert not file.exists(), "the viewer deletes a file that works once"


async def _drawn(one: School) -> bool:
    return await traffic(one) > 320 * 200


async def test_tigervnc_comes_in_through_tls_with_name_and_password(tmp_path: Path) -> None:
    Authority().vouch(tmp_path, "localhost", server=True)
    env = {
        "TRIVIUM_VIEWER_CERT": str(tmp_path / "servercert.pem"),
        "TRIVIUM_VIEWER_KEY": str(tmp_path / "serverkey.pem"),
    }
    async with screen() as display, vnc_school(tmp_path / "data", env) as (one, rfb):
        await one.connected()
        values = values_of(await one.file("vnc"))
        command = (
            "xtigervncviewer", "-SecurityTypes", "X509Plain",
            "-X509CA", str(tmp_path / "cacert.pem"), f"localhost::{values['port']}",
        )  # fmt: skip
        said = {"VNC_USERNAME": values["username"], "VNC_PASSWORD": values["password"]}
        async with running(*command, DISPLAY=display, HOME=str(tmp_path), **said):
            await eventually(lambda: rfb.shared is not None, within_s=GENEROUS_S)
            await until(lambda: _drawn(one), within_s=GENEROUS_S)

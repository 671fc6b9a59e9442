"""What a host does for the broker over SSH, and the packet that wakes one."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.domain.errors import EngineError, HostUnreachableError
from broker.engines.reach.commands import KSM_FILES, PRESSURE_FILES, Command, Said
from broker.engines.reach.ssh import DOOR, SshTunnel, broker_key, public_line
from broker.engines.reach.wake import EVERYBODY, Wake, parse_wake, send
from broker.limits import HOST_SAID_BYTES_MAX
from tests.support.host_door import documented, door
from tests.support.ssh_hosts import FarHost, echoing, far_host

MAC = "52:54:00:12:34:56"


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory of a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="tvd-") as folder:
        yield Path(folder)


@asynccontextmanager
async def reached(data: Path, folder: Path) -> AsyncIterator[tuple[FarHost, SshTunnel]]:
    async with far_host(folder) as host, echoing(data / "far.sock") as target:
        key = broker_key(data)
        host.let_in(public_line(key))
        tunnel = SshTunnel(host.to_reach(), key, data=data, target=str(target))
        await tunnel.open()
        try:
            yield host, tunnel
        finally:
            await tunnel.close()


async def test_a_host_tells_what_its_kernel_counts_through_its_door(
    data: Path, tmp_path: Path
) -> None:
    async with reached(data, tmp_path) as (host, tunnel):
        host.obeys = door(tmp_path)
        said = await tunnel.run(Command.LOOK)
        assert host.told == [Command.LOOK.value]
    told = {line.partition(":")[0] for line in said.text.splitlines()}
    there = {path for path in (*PRESSURE_FILES, *KSM_FILES) if readable(path)}
    assert told == there


def readable(path: str) -> bool:
    try:
        return bool(Path(path).read_text())
    except OSError:
        return False


async def test_a_host_is_shut_down_by_the_one_command_that_its_door_lets_through(
    data: Path, tmp_path: Path
) -> None:
    stand_ins = {"sudo": f'echo "$*" >> {tmp_path}/done', "systemctl": "exit 7", "rm": "exit 8"}
    async with reached(data, tmp_path) as (host, tunnel):
        host.obeys = door(tmp_path, stand_ins)
        assert await tunnel.run(Command.SUDO_POWEROFF) == Said(status=0, text="")
    assert (tmp_path / "done").read_text() == "-n systemctl poweroff\n"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "sh",
        "systemctl reboot",
        "sudo -n systemctl poweroff; touch there",
        "sudo -n systemctl poweroff\ntouch there",
        "grep -s . /etc/shadow",
        Command.LOOK.value + " /etc/shadow",
    ],
)
async def test_nothing_else_goes_through_the_door(tmp_path: Path, command: str) -> None:
    stand_ins = dict.fromkeys(("sudo", "systemctl", "grep", "sh", "touch"), f"> {tmp_path}/there")
    assert await door(tmp_path, stand_ins)(command) == (1, b"")
    assert not (tmp_path / "there").exists()


def test_the_page_and_the_line_for_the_host_name_the_same_program(data: Path) -> None:
    assert documented().splitlines()[1].startswith(f"# {DOOR}:")
    assert f'command="{DOOR}"' in public_line(broker_key(data))


async def test_a_host_without_a_door_says_so_by_its_status(data: Path, tmp_path: Path) -> None:
    async with reached(data, tmp_path) as (_, tunnel):
        assert await tunnel.run(Command.LOOK) == Said(status=127, text="")


async def test_what_a_host_says_without_end_is_cut_off(data: Path, tmp_path: Path) -> None:
    async def talk(_: str) -> tuple[int, bytes]:
        return 0, b"x" * (HOST_SAID_BYTES_MAX + 1)

    async with reached(data, tmp_path) as (host, tunnel):
        host.obeys = talk
        with pytest.raises(EngineError, match="more than is taken"):
            await tunnel.run(Command.LOOK)


async def test_a_host_that_hangs_up_on_its_way_down_has_no_status(
    data: Path, tmp_path: Path
) -> None:
    async with reached(data, tmp_path) as (host, tunnel):

        async def go(_: str) -> tuple[int, bytes]:
            for connection in host.connections:
                connection.abort()
            return 0, b""

        host.obeys = go
        assert (await tunnel.run(Command.POWEROFF)).status is None
        with pytest.raises(HostUnreachableError):
            await tunnel.run(Command.POWEROFF)


def test_a_cards_address_is_taken_in_the_usual_ways_and_nothing_else_is() -> None:
    assert parse_wake("52-54-00-AB-34-56") == Wake(mac="52-54-00-ab-34-56")
    assert parse_wake(MAC) == Wake(mac=MAC, address=EVERYBODY, port=9)
    assert parse_wake(f"{MAC}@10.1.0.255:7") == Wake(mac=MAC, address="10.1.0.255", port=7)
    wrong = ("", "52:54:00:12:34", f"{MAC}@", f"{MAC}@300.1.1.1", f"{MAC}@host", f"{MAC}@1.2.3.4:0")
    for text in wrong:
        with pytest.raises(EngineError):
            parse_wake(text)


async def test_the_packet_is_six_bytes_of_ones_and_the_address_sixteen_times() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as card:
        card.bind(("127.0.0.1", 0))
        card.setblocking(False)
        await send(parse_wake(f"{MAC}@127.0.0.1:{card.getsockname()[1]}"))
        async with asyncio.timeout(30):
            packet = await asyncio.get_running_loop().sock_recv(card, 2000)
    assert packet == b"\xff" * 6 + bytes.fromhex("525400123456") * 16
    assert len(packet) == 102

"""A running machine moves between two hosts that have nothing but a cable and their storage."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest

from broker.domain.errors import EngineError
from broker.guest_wire import FromGuest, Hello
from broker.ports import Console, Machine
from tests.support.certificates import Authority
from tests.support.eventually import eventually
from tests.support.libvirt_bench import on_bench
from tests.support.libvirt_host import LibvirtHost, wait_for
from tests.support.libvirt_lab import ADDRESSES, LibvirtLab, running_lab, two_networks

GREETING = b"RFB 003.008\n"


@pytest.fixture(scope="module")
def apart() -> Iterator[LibvirtLab]:
    with two_networks() as networks, running_lab(networks) as lab:
        yield lab


async def greeting(console: Console) -> bytes:
    heard = b""
    while len(heard) < len(GREETING) and (more := await console.receive()):
        heard += more
    return heard


async def test_a_desktop_in_use_moves_and_its_display_is_opened_again_where_it_is(
    apart: LibvirtLab,
) -> None:
    async with on_bench(apart) as bench:
        boots: set[str] = set()

        def listen(_guest: object, said: FromGuest) -> None:
            if isinstance(said, Hello):
                boots.add(said.boot_id)

        bench.engine.guests.on_said = listen
        desktop = await bench.made()
        await bench.tell(desktop, "before-the-move")
        before = await bench.engine.console(desktop, "ses_1")
        assert await greeting(before) == GREETING
        await bench.engine.migrate(bench.case.operation("job_2", desktop), bench.case.other)
        assert await bench.engine.machines() == (
            Machine(
                desktop_id="dsk_1", generation=1, running=True, host_id="hst_2", users=("ses_1",)
            ),
        )
        assert await before.receive() == b""
        after = await bench.engine.console(desktop, "ses_1")
        assert await greeting(after) == GREETING
        await eventually(lambda: bench.kept(desktop) == "before-the-move")
        assert len(boots) == 1
        assert bench.heard == []
        await after.close()
        await bench.engine.migrate(bench.case.operation("job_3", desktop), bench.case.host)
        assert [one.host_id for one in await bench.engine.machines()] == ["hst_1"]


MARK = "words-of-a-persons-own-memory"
LISTENER = """
import socket, sys
ears = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
ears.setsockopt(socket.SOL_SOCKET, 33, 1 << 29)
ears.bind((sys.argv[1], 0))
print("listening", flush=True)
heard = 0
while True:
    part = ears.recv(1 << 16)
    if part[12:14] == b"\\x08\\x00" and len(part) > 66:
        heard += len(part)
        if sys.argv[2].encode() in part:
            print("seen", flush=True)
        if heard > 1 << 23:
            heard = 0
            print("much", flush=True)
"""


@contextlib.contextmanager
def overhearing(lab: LibvirtLab) -> Iterator[Callable[[], list[str]]]:
    """Somebody on the cable between the hosts: a line for each packet with MARK in it, and one for
    every 8 MiB."""
    netns = lab.first.netns
    command = ["nsenter", f"--net=/run/netns/{netns}", sys.executable, "-c", LISTENER,
               f"{netns}0", MARK]  # fmt: skip
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said)

        def lines() -> list[str]:
            said.seek(0)
            return said.read().split()

        try:
            wait_for(lambda: "listening" in lines(), 30, "nobody listens")
            yield lines
        finally:
            process.kill()
            process.wait()


async def moved_there_and_back(lab: LibvirtLab, heard: Callable[[], list[str]], tls: str) -> None:
    async with on_bench(lab, moves_tls=tls) as bench:
        desktop = await bench.made()
        await bench.tell(desktop, MARK)
        assert "much" not in heard()
        await bench.engine.migrate(bench.case.operation("job_2", desktop), bench.case.other)
        await eventually(lambda: "much" in heard())
        await eventually(lambda: bench.kept(desktop) == MARK)
        await bench.engine.migrate(bench.case.operation("job_3", desktop), bench.case.host)
        await bench.engine.destroy(bench.case.operation("job_4", desktop))


async def refused(lab: LibvirtLab, tls: str) -> None:
    """The machine stays where it is, and nothing of its memory crosses."""
    with overhearing(lab) as heard:
        with pytest.raises(ExceptionGroup) as raised:
            await moved_there_and_back(lab, heard, tls)
        assert raised.group_contains(EngineError, match="could not move")
        assert not {"seen", "much"} & set(heard())


async def test_memory_moves_in_the_clear_only_until_both_hosts_have_certificates(
    apart: LibvirtLab,
) -> None:
    apart.clear()
    with overhearing(apart) as heard:
        await moved_there_and_back(apart, heard, "auto")
        await eventually(lambda: "seen" in heard())
    await refused(apart, "yes")

    with as_before(apart.first), as_before(apart.second):
        authority = Authority()
        for host, address in ((apart.first, ADDRESSES[0]), (apart.second, ADDRESSES[1])):
            certified(host, authority, address)
        apart.clear()
        with overhearing(apart) as heard:
            await moved_there_and_back(apart, heard, "auto")
            assert "seen" not in heard()

        # another authority's word is not taken, and nothing goes in the clear for it
        certified(apart.second, Authority(), ADDRESSES[1])
        apart.clear()
        await refused(apart, "auto")


@contextlib.contextmanager
def as_before(host: LibvirtHost) -> Iterator[None]:
    """Its QEMU's settings after the block are those before it."""
    settings = host.root / "etc/libvirt/qemu.conf"
    before = settings.read_text()
    try:
        yield
    finally:
        settings.write_text(before)
        host.stop()
        host.start()


def certified(host: LibvirtHost, authority: Authority, address: str) -> None:
    """The host's QEMU gets certificates, for both of its roles."""
    folder = host.root / "pki"
    for server in (True, False):
        authority.vouch(folder, host.name, server=server, address=address)
    for name, kept in (("cacert", "ca-cert"), ("servercert", "server-cert"),
                       ("serverkey", "server-key"), ("clientcert", "client-cert"),
                       ("clientkey", "client-key")):  # fmt: skip
        (folder / f"{name}.pem").replace(folder / f"{kept}.pem")
    settings = host.root / "etc/libvirt/qemu.conf"
    line = f'migrate_tls_x509_cert_dir = "{folder}"\nmigrate_tls_x509_verify = 1\n'
    if line not in settings.read_text():
        settings.write_text(settings.read_text() + line)
    host.stop()
    host.start()


async def test_another_broker_tells_nothing_of_what_one_suspends_and_moves(
    apart: LibvirtLab,
) -> None:
    apart.clear()
    async with on_bench(apart) as bench, on_bench(apart) as other:
        desktop = await bench.made()
        other.engine.features(other.case.other)
        await other.engine.adopt(desktop, other.case.host)

        def listens_at() -> str:
            guest = other.engine.guests.get(desktop.id)
            return guest.host_id if guest is not None else ""

        assert listens_at() == "hst_1"
        await bench.engine.migrate(bench.case.operation("job_2", desktop), bench.case.other)
        await eventually(lambda: listens_at() == "hst_2")
        await bench.engine.suspend(bench.case.operation("job_3", desktop))
        await eventually(lambda: listens_at() == "")
        await bench.engine.resume(bench.case.operation("job_4", desktop))
        await eventually(lambda: listens_at() == "hst_2")
        assert [one for one in other.heard if not one.ready] == []
        await bench.engine.destroy(bench.case.operation("job_5", desktop))

"""Displays of machines on a host that is reached over TLS: QEMU's own VNC, with certificates both
ways, at a port of the host's."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.domain.errors import EngineError
from broker.domain.inspection import Verdict
from broker.domain.model import Host
from broker.engines.reach.tls import ssl_context
from broker.engines.reach.vencrypt import VERSION, open_display
from tests.real.test_host_reach import first_wrong, knobs, looked, seen, tls_host
from tests.support.builders import make_desktop, make_host
from tests.support.certificates import Authority
from tests.support.engines import listening, said
from tests.support.eventually import eventually
from tests.support.libvirt_bench import SMALL
from tests.support.libvirt_cases import libvirt_engine, libvirt_qemu_case
from tests.support.libvirt_lab import APPEND, LibvirtLab, connected
from tests.support.real_guests import RealGuests

AT = "127.0.0.1"
ASKS = "vnc_tls = 1\nvnc_tls_x509_verify = 1\n"


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory of a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="tvd-") as folder:
        yield Path(folder)


def for_qemu(lab: LibvirtLab, authority: Authority, asks: str = ASKS) -> str:
    """QEMU's certificate at the hosts, and the lines of their qemu.conf that name it."""
    folder = lab.first.root / "vnc"
    authority.vouch(folder, "localhost", server=True)
    for ours, theirs in (
        ("cacert.pem", "ca-cert.pem"),
        ("servercert.pem", "server-cert.pem"),
        ("serverkey.pem", "server-key.pem"),
    ):
        (folder / theirs).write_bytes((folder / ours).read_bytes())
    return f'{asks}vnc_tls_x509_cert_dir = "{folder}"\n'


def over_tls(uri: str, **changes: str) -> Host:
    given = {"uri": uri, "append": APPEND, "vnc": AT} | changes
    return make_host(engine="libvirt", profile=knobs(**given))


async def test_the_picture_of_a_machine_comes_over_tls_to_whoever_has_a_certificate_and_nobody_else(
    libvirt_lab: LibvirtLab, data: Path, tmp_path: Path
) -> None:
    authority, stranger = Authority(), Authority("a stranger")
    pki = data / "pki" / AT
    authority.vouch(pki, "broker", server=False)
    engine, guests = libvirt_engine(data), RealGuests(libvirt_lab)
    with tls_host(libvirt_lab, authority, qemu=for_qemu(libvirt_lab, authority)) as (_, uri):
        host = over_tls(uri)
        steps = await looked(engine, host)
        assert {one.name for one in steps.values() if one.verdict is not Verdict.OK} == set()
        assert engine.displays(host) == {"vnc"}
        case = replace(libvirt_qemu_case(libvirt_lab), host=host)
        desktop = make_desktop(resources=SMALL)
        async with listening(engine) as heard:
            await engine.create(case.operation("job_1", desktop))
            await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
            await seen(engine, guests, desktop)
            port = display_port(libvirt_lab)
            # the broker does not believe whoever answers at that port
            good = (pki / "cacert.pem").read_bytes()
            (pki / "cacert.pem").write_bytes(stranger.certificate())
            with pytest.raises(EngineError, match=r"certificate of the display at .* is not taken"):
                await engine.console(desktop, "ses_1")
            (pki / "cacert.pem").write_bytes(good)
            # the machine's server believes nobody but who has a certificate of that authority
            stranger.vouch(tmp_path / "other", "broker", server=False)
            (tmp_path / "other/cacert.pem").write_bytes(good)
            with pytest.raises(EngineError, match="does not take the broker's certificate"):
                await open_display(
                    AT, port, context=ssl_context(tmp_path / "other"), name=AT, host="server-1"
                )
            assert await offered_plainly(port) == {19}
            await seen(engine, guests, desktop)
            # the port is another one after it slept
            await engine.suspend(case.operation("job_2", desktop))
            heard.clear()
            await engine.resume(case.operation("job_3", desktop))
            await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
            await seen(engine, guests, desktop)
            last = await engine.console(desktop, "ses_1")
            await engine.destroy(case.operation("job_4", desktop))
            while await last.receive():
                pass


async def test_a_machine_moves_to_a_host_whose_displays_are_at_another_address_and_is_seen_there(
    libvirt_lab: LibvirtLab, data: Path
) -> None:
    authority = Authority()
    authority.vouch(data / "pki", "broker", server=False)
    engine, guests = libvirt_engine(data), RealGuests(libvirt_lab)
    lines = for_qemu(libvirt_lab, authority)
    shared = {"storage": "shared", "moves": "tcp://127.0.0.1"}
    with (
        tls_host(libvirt_lab, authority, qemu=lines) as (_, uri),
        tls_host(libvirt_lab, authority, qemu=lines, second=True) as (_, uri_2),
    ):
        there = over_tls(uri_2, **shared, vnc="::1")
        case = replace(
            libvirt_qemu_case(libvirt_lab),
            host=over_tls(uri, **shared),
            other=replace(there, id="hst_2", name="server-2"),
        )
        desktop = make_desktop(resources=SMALL)
        async with listening(engine) as heard:
            await engine.create(case.operation("job_1", desktop))
            await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
            await seen(engine, guests, desktop)
            await engine.migrate(case.operation("job_2", desktop), case.other)
            assert [one.host_id for one in await engine.machines()] == ["hst_2"]
            await seen(engine, guests, desktop)
            await engine.destroy(case.operation("job_3", desktop))


def display_port(lab: LibvirtLab) -> int:
    with connected(lab.first) as connection:
        [domain] = connection.listAllDomains(0)
        described: str = domain.XMLDesc(0)
    return int(described.partition("<graphics type='vnc' port='")[2].partition("'")[0])


async def offered_plainly(port: int) -> set[int]:
    """Security types that whoever comes without TLS may choose from."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(AT, port)
        await reader.readexactly(len(VERSION))
        writer.write(VERSION)
        types = await reader.readexactly((await reader.readexactly(1))[0])
        writer.transport.abort()
    return set(types)


@pytest.mark.parametrize(
    ("asks", "says"),
    [
        ("", "vnc_tls = 1"),
        ("vnc_tls = 1\n", "vnc_tls_x509_verify = 1"),
        (f'{ASKS}vnc_password = "secret"\n', "unset vnc_password"),
    ],
)
async def test_a_host_whose_displays_would_be_open_is_refused_before_anything_is_made_there(
    libvirt_lab: LibvirtLab, data: Path, asks: str, says: str
) -> None:
    authority = Authority()
    authority.vouch(data / "pki" / AT, "broker", server=False)
    engine = libvirt_engine(data)
    with tls_host(libvirt_lab, authority, qemu=for_qemu(libvirt_lab, authority, asks)) as (_, uri):
        host = over_tls(uri)
        wrong = first_wrong(await looked(engine, host))
        assert (wrong.name, says in wrong.says) == ("hypervisor", True)
        case = replace(libvirt_qemu_case(libvirt_lab), host=host)
        async with listening(engine):
            with pytest.raises(EngineError, match="makes no desktops"):
                await engine.create(case.operation("job_1", make_desktop(resources=SMALL)))
    with connected(libvirt_lab.first) as connection:
        assert connection.listAllDomains(0) == []

"""A display of a host that is reached over SSH: it ends with its way, or when it is given up."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

from broker.domain.errors import EngineError
from broker.engines.libvirt import xml
from broker.engines.libvirt.abilities import no_display
from broker.engines.libvirt.capabilities import Capabilities
from broker.engines.libvirt.certified import port_of, refusal_of
from broker.engines.libvirt.display import StreamConsole
from broker.engines.libvirt.knobs import parse_profile
from broker.engines.reach.ssh import SshTunnel, broker_key, public_line
from tests.contract.test_libvirt_kinds import valid
from tests.contract.test_libvirt_profiles import spec
from tests.support.ssh_hosts import echoing, far_host


async def test_a_console_over_ssh_ends_with_its_way_and_says_so_once(tmp_path: Path) -> None:
    # a socket's path is short: not below pytest's directories
    with tempfile.TemporaryDirectory(prefix="tvd-") as folder:
        data = Path(folder)
        async with far_host(tmp_path) as host, echoing(data / "far.sock") as target:
            key = broker_key(data)
            host.let_in(public_line(key))
            tunnel = SshTunnel(host.to_reach(), key, data=data, target=str(target))
            await tunnel.open()
            ended: list[StreamConsole] = []
            lost = StreamConsole.through(await tunnel.stream(str(target)), ended.append)
            left = StreamConsole.through(await tunnel.stream(str(target)), ended.append, "spice")
            assert (lost.protocol, left.protocol) == ("vnc", "spice")
            await lost.send(b"key")
            async with asyncio.timeout(30):
                assert await lost.receive() == b"key"
                await left.close()
                assert (await left.receive(), ended) == (b"", [left])
                await host.stop()
                assert await lost.receive() == b""
            assert ended == [left, lost]
            await lost.send(b"into the void")
            await lost.close()
            assert ended == [left, lost]
            await tunnel.close()


class Vanished:
    """A network whose far end is not there any more."""

    async def read(self, most: int, /) -> bytes:
        raise OSError(errno.EHOSTUNREACH, str(most))

    def write(self, data: bytes, /) -> None:
        return

    async def drain(self) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "")

    async def wait_closed(self) -> None:
        raise OSError(errno.EHOSTUNREACH, "")


async def test_a_console_whose_host_vanishes_has_ended_and_raises_nothing() -> None:
    ended: list[StreamConsole] = []
    reads, writes = (
        StreamConsole(Vanished(), Vanished(), ended.append, abort=lambda: None) for _ in range(2)
    )
    assert (await reads.receive(), ended) == (b"", [reads])
    await writes.send(b"key")
    assert ended == [reads, writes]
    for one in (reads, writes):
        await one.close()


@pytest.mark.parametrize(
    ("uri", "listens", "says"),
    [
        ("qemu:///system", "none", ""),
        ("qemu+ssh://trivium@server-1/system", "socket", ""),
        ("qemu+tls://server-1/system", "none", "not over tls"),
    ],
)
def test_displays_listen_where_the_broker_reaches_them_and_nowhere_else(
    uri: str, listens: str, says: str
) -> None:
    profile = f"qemu?uri={quote(uri, safe='')}&spice=yes"
    text = xml.domain(spec(profile))
    assert valid(text, "domain.rng") == ""
    kinds = [one.get("type") for one in xml.parse(text).iterfind("devices/graphics/listen")]
    assert kinds == [listens, listens]
    place = parse_profile(profile)
    assert says in no_display(place, Capabilities(hypervisor="QEMU"))
    assert (no_display(place, Capabilities(hypervisor="QEMU")) == "") is (not says)


CREDENTIALS = """\\
-object '{"qom-type":"tls-creds-x509","dir":"/d","endpoint":"server","verify-peer":%s}' \\
-vnc 10.0.0.1:0,tls-creds=vnc-tls-creds0%s \\
"""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (CREDENTIALS % ("true", ""), ""),
        (CREDENTIALS % ("false", ""), "vnc_tls_x509_verify"),
        (CREDENTIALS % ("true", ",password=on"), "unset vnc_password"),
        (CREDENTIALS % ("true", ",sasl=on"), "unset vnc_password"),
        ("-vnc 10.0.0.1:0 \\\n", "open to everybody"),
        ("-display none \\\n", "no VNC"),
    ],
)
def test_a_display_at_a_port_is_shown_only_where_qemu_asks_for_certificates(
    command: str, says: str
) -> None:
    assert says in refusal_of(command)
    assert (refusal_of(command) == "") is (not says)


def test_a_machine_listens_at_the_hosts_address_only_where_the_profile_says_so() -> None:
    uri = quote("qemu+tls://server-1/system", safe="")
    text = xml.domain(spec(f"qemu?uri={uri}&vnc=10.1.0.5&spice=yes"))
    assert valid(text, "domain.rng") == ""
    shown = {
        one.get("type"): (one.get("autoport"), dict(one[0].attrib))
        for one in xml.parse(text).iterfind("devices/graphics")
    }
    assert shown == {
        "vnc": ("yes", {"type": "address", "address": "10.1.0.5"}),
        "spice": (None, {"type": "none"}),
    }


@pytest.mark.parametrize(
    "knobs",
    [
        "vnc=10.1.0.5",
        "uri=qemu%2Bssh://a@server-1/system&vnc=10.1.0.5",
        "uri=qemu%2Btls://server-1/system&vnc=0.0.0.0",
        "uri=qemu%2Btls://server-1/system&vnc=::",
        "uri=qemu%2Btls://server-1/system&vnc=224.0.0.1",
        "uri=qemu%2Btls://server-1/system&vnc=server-1",
    ],
)
def test_no_other_display_is_at_an_address(knobs: str) -> None:
    with pytest.raises(EngineError, match="knob vnc"):
        parse_profile(f"qemu?{knobs}")


def test_a_machine_that_has_no_port_says_when_it_has_one() -> None:
    place = parse_profile("qemu?uri=qemu%2Btls://server-1/system&vnc=10.1.0.5")
    described = "<domain><devices><graphics type='vnc' {}</graphics></devices></domain>"
    there = described.format("port='5907'><listen type='address' address='10.1.0.5'/>")
    assert port_of(there, place, "library-1") == 5907
    for text in (
        described.format("><listen type='none'/>"),
        described.format("port='-1'><listen type='address' address='10.1.0.5'/>"),
        described.format("port='5907'><listen type='address' address='10.9.0.9'/>"),
    ):
        with pytest.raises(EngineError, match="when it is made fresh"):
            port_of(text, place, "library-1")

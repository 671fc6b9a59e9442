"""A display of a host that is reached over SSH: it ends with its way, or when it is given up."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

from broker.engines.libvirt import xml
from broker.engines.libvirt.abilities import no_display
from broker.engines.libvirt.capabilities import Capabilities
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

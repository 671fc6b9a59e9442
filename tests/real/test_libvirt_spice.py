"""A machine with a SPICE server beside that for VNC, handed over by its daemon without a port."""

from __future__ import annotations

import struct

import pytest

from broker.domain.errors import UnsupportedError
from broker.limits import CONSOLES_PER_MACHINE_MAX, SPICE_CHANNELS_MAX
from broker.ports import Console
from tests.support.libvirt_bench import on_bench
from tests.support.libvirt_lab import LibvirtLab

LINK = b"REDQ" + struct.pack("<IIIIBBIII", 2, 2, 18, 0, 1, 0, 0, 0, 18)
"""the first message of a viewer's main channel"""


async def answer(console: Console, said: bytes) -> bytes:
    await console.send(said)
    return (await console.receive())[:4]


async def test_every_channel_of_a_spice_viewer_is_a_connection_of_its_own(
    libvirt_lab: LibvirtLab,
) -> None:
    async with on_bench(libvirt_lab, spice="yes") as bench:
        assert bench.engine.displays(bench.case.host) == {"vnc", "spice"}
        desktop = await bench.made()
        consoles = [await bench.engine.console(desktop, "ses_1", "spice") for _ in range(6)]
        assert CONSOLES_PER_MACHINE_MAX < 6
        assert SPICE_CHANNELS_MAX >= 6
        for console in consoles:
            assert console.protocol == "spice"
            assert await answer(console, LINK) == b"REDQ"
        vnc = await bench.engine.console(desktop, "ses_1")
        assert (await vnc.receive()).startswith(b"RFB 003.008\n")
        with pytest.raises(UnsupportedError):
            await bench.engine.console(desktop, "ses_1", "rdp")
        await bench.engine.destroy(bench.case.operation("job_2", desktop))
        assert [await console.receive() for console in (*consoles, vnc)][-1] == b""


async def test_a_machine_has_no_spice_unless_its_host_is_told_so(libvirt_lab: LibvirtLab) -> None:
    async with on_bench(libvirt_lab) as bench:
        assert bench.engine.displays(bench.case.host) == {"vnc"}
        desktop = await bench.made()
        with pytest.raises(UnsupportedError):
            await bench.engine.console(desktop, "ses_1", "spice")

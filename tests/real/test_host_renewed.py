"""A host over SSH gets another profile while the broker runs: a renewed key, an added knob."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import asyncssh

from broker.domain.inspection import Verdict
from broker.engines.reach.ssh import broker_key, public_line
from tests.real.test_host_reach import data, far, first_wrong, looked, over_ssh, seen
from tests.support.builders import make_desktop
from tests.support.engines import listening, said
from tests.support.eventually import eventually
from tests.support.libvirt_bench import SMALL
from tests.support.libvirt_cases import libvirt_engine, libvirt_qemu_case
from tests.support.libvirt_lab import LibvirtLab
from tests.support.real_guests import RealGuests
from tests.support.ssh_hosts import FarHost

__all__ = ["data", "far"]


async def test_a_host_with_a_new_key_is_reached_once_that_is_confirmed_and_its_desktop_lives(
    libvirt_lab: LibvirtLab,
    far: FarHost,
    data: Path,
) -> None:
    far.let_in(public_line(broker_key(data)))
    engine = libvirt_engine(data)
    case = replace(libvirt_qemu_case(libvirt_lab), host=over_ssh(far, libvirt_lab))
    desktop = make_desktop(resources=SMALL)
    async with listening(engine) as heard:
        await engine.create(case.operation("job_1", desktop))
        await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
        guest = engine.guests.get("dsk_1")
        assert guest is not None
        await far.stop()
        far.key = asyncssh.generate_private_key("ssh-ed25519")
        await far.start()
        await eventually(lambda: guest.state is None)
        wrong = first_wrong(await looked(engine, case.host))
        assert (wrong.name, wrong.verdict) == ("key", Verdict.MISSING)
        assert wrong.found["host_key"] == far.fingerprint
        silence = engine.silence(case.host)
        assert silence is not None
        renewed = replace(over_ssh(far, libvirt_lab), revision=2)
        engine.features(renewed)
        await eventually(lambda: guest.state is not None, within_s=60)
        assert engine.silence(renewed) is None
        await seen(engine, RealGuests(libvirt_lab), desktop)
        fresh = make_desktop(resources=SMALL, generation=2)
        await engine.reset(replace(case, host=renewed).operation("job_2", fresh))
        await eventually(lambda: said(heard)[-1] == ("dsk_1", 2, True), within_s=100)
        # one that was taken before the change goes by what is stored now
        await engine.destroy(case.operation("job_3", fresh))
        assert await engine.machines() == ()
    assert list((data / "reach").iterdir()) == []


async def test_a_knob_added_while_a_desktop_comes_up_keeps_it_waited_for(
    libvirt_lab: LibvirtLab,
    far: FarHost,
    data: Path,
) -> None:
    far.let_in(public_line(broker_key(data)))
    engine = libvirt_engine(data)
    case = replace(libvirt_qemu_case(libvirt_lab), host=over_ssh(far, libvirt_lab))
    desktop = make_desktop(resources=SMALL)
    async with listening(engine) as heard:
        await engine.create(case.operation("job_1", desktop))
        assert not heard
        assert engine.displays(case.host) == {"vnc"}
        added = replace(over_ssh(far, libvirt_lab, spice="yes"), revision=2)
        assert "spice" in engine.displays(added)
        await eventually(lambda: bool(said(heard)), within_s=100)
        assert (said(heard), heard[0].operation_id) == ([("dsk_1", 1, True)], "job_1")
        # its port at the host is free for the new connection, and not held by the one that went
        guest = engine.guests.get("dsk_1")
        assert guest is not None
        for revision in (3, 4, 5):
            knob = {"rdp": "10.0.0.0/16"} if revision % 2 else {"spice": "yes"}
            before = guest.channel
            engine.features(replace(over_ssh(far, libvirt_lab, **knob), revision=revision))
            await eventually(lambda: guest.channel not in {None, before}, within_s=60)  # noqa: B023
            await eventually(lambda: guest.state is not None, within_s=60)
        await engine.destroy(replace(case, host=added).operation("job_2", desktop))

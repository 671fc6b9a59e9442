"""Hosts over SSH and TLS: a real daemon behind each, looked at step by step, and used."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.inspection import Step, Verdict
from broker.domain.model import Desktop, Host
from broker.engines.libvirt import LibvirtEngine
from broker.engines.reach.ssh import broker_key, public_line
from broker.limits import CONSOLES_PER_MACHINE_MAX
from tests.real.test_libvirt_spice import LINK, answer
from tests.support.builders import make_desktop, make_host
from tests.support.certificates import Authority
from tests.support.engines import listening, said
from tests.support.eventually import eventually
from tests.support.libvirt_bench import SMALL
from tests.support.libvirt_cases import libvirt_engine, libvirt_qemu_case
from tests.support.libvirt_host import LibvirtHost, wait_for
from tests.support.libvirt_lab import APPEND, LibvirtLab
from tests.support.real_guests import RealGuests, difference
from tests.support.rfb import GENEROUS_S, display_at
from tests.support.ssh_hosts import FarHost, far_host

WRONG_KEY = "SHA256:" + "a" * 43
SAME = 0.02
"""a cursor blinks between two pictures"""


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory of a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="tvd-") as folder:
        yield Path(folder)


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[FarHost]:
    async with far_host(tmp_path) as host:
        yield host


def knobs(**given: str) -> str:
    return "qemu?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in given.items())


def over_ssh(far: FarHost, lab: LibvirtLab, **changes: str) -> Host:
    far.root = lab.first.root
    uri = f"qemu+ssh://trivium@127.0.0.1:{far.port}/system?socket={lab.first.socket}"
    given = {"uri": uri, "host_key": far.fingerprint, "append": APPEND} | changes
    return make_host(engine="libvirt", profile=knobs(**given))


async def looked(engine: LibvirtEngine, host: Host) -> dict[str, Step]:
    return {step.name: step async for step in engine.probe(host)}


def first_wrong(steps: dict[str, Step]) -> Step:
    return next(step for step in steps.values() if step.verdict is not Verdict.OK)


async def test_a_desktop_on_a_host_over_ssh_lives_through_the_loss_of_the_way_there(
    libvirt_lab: LibvirtLab, far: FarHost, data: Path
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
        assert guest.state is not None
        await far.stop()
        await eventually(lambda: guest.state is None)
        await far.start()
        await eventually(lambda: guest.state is not None, within_s=60)
        assert said(heard) == [("dsk_1", 1, True)]
        fresh = make_desktop(resources=SMALL, generation=2)
        await engine.reset(case.operation("job_2", fresh))
        await eventually(lambda: said(heard)[-1] == ("dsk_1", 2, True), within_s=100)
        await engine.destroy(case.operation("job_3", fresh))
    assert set(far.asked_for) == {str(libvirt_lab.first.socket)}
    assert list((data / "reach").iterdir()) == []


async def seen(engine: LibvirtEngine, guests: RealGuests, desktop: Desktop) -> None:
    """Its picture arrives, and is what the machine draws."""
    async with display_at(engine, desktop) as display, asyncio.timeout(GENEROUS_S):
        while True:
            picture, drawn = await display.look(), guests.screenshot(desktop.id)
            alike = (picture.width, picture.height) == (drawn.width, drawn.height)
            if alike and any(picture.pixels) and difference(picture, drawn) < SAME:
                return


async def test_the_picture_of_a_machine_comes_over_the_same_way_as_its_host(
    libvirt_lab: LibvirtLab, far: FarHost, data: Path
) -> None:
    far.let_in(public_line(broker_key(data)))
    engine, guests = libvirt_engine(data), RealGuests(libvirt_lab)
    case = replace(libvirt_qemu_case(libvirt_lab), host=over_ssh(far, libvirt_lab, spice="yes"))
    assert engine.displays(case.host) == {"vnc", "spice"}
    desktop = make_desktop(resources=SMALL)
    async with listening(engine) as heard:
        await engine.create(case.operation("job_1", desktop))
        await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
        await seen(engine, guests, desktop)
        [machine] = await engine.machines()
        assert machine.users == ()
        consoles = [await engine.console(desktop, "ses_1") for _ in range(CONSOLES_PER_MACHINE_MAX)]
        spice = await engine.console(desktop, "ses_1", "spice")
        assert await answer(spice, LINK) == b"REDQ"
        # one too many: the oldest goes
        consoles.append(await engine.console(desktop, "ses_1"))
        assert await consoles[0].receive() == b""
        assert (await consoles[-1].receive()).startswith(b"RFB 003.008\n")
        assert len(far.connections) == 1
        # the way is lost, and the displays with it; both are there again
        await far.stop()
        for console in (*consoles[1:], spice):
            while await console.receive():
                pass
            await console.send(b"into the void")
            await console.close()
        guest = engine.guests.get("dsk_1")
        assert guest is not None
        await eventually(lambda: guest.state is None, within_s=60)
        await far.start()
        await eventually(lambda: guest.state is not None, within_s=60)
        await seen(engine, guests, desktop)
        last = await engine.console(desktop, "ses_1")
        await engine.destroy(case.operation("job_2", desktop))
        while await last.receive():
            pass


async def test_a_machine_moves_between_hosts_over_ssh_and_is_seen_at_the_other(
    libvirt_lab: LibvirtLab, far: FarHost, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with far_host(tmp_path_factory.mktemp("other")) as other:
        for one in (far, other):
            one.let_in(public_line(broker_key(data)))
        await moved_and_seen(libvirt_lab, far, other, data)


async def moved_and_seen(lab: LibvirtLab, far: FarHost, other: FarHost, data: Path) -> None:
    engine, guests = libvirt_engine(data), RealGuests(lab)
    shared = {"storage": "shared", "moves": "tcp://127.0.0.1"}
    uri = f"qemu+ssh://trivium@127.0.0.1:{other.port}/system?socket={lab.second.socket}"
    there = over_ssh(other, lab, uri=uri, **shared)
    other.root = lab.second.root
    case = replace(
        libvirt_qemu_case(lab),
        host=over_ssh(far, lab, **shared),
        other=replace(there, id="hst_2", name="server-2"),
    )
    desktop = make_desktop(resources=SMALL)
    async with listening(engine) as heard:
        await engine.create(case.operation("job_1", desktop))
        await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
        await engine.migrate(case.operation("job_2", desktop), case.other)
        assert [one.host_id for one in await engine.machines()] == ["hst_2"]
        await seen(engine, guests, desktop)
        await engine.destroy(case.operation("job_3", desktop))


async def test_a_machine_over_ssh_is_seen_after_it_slept_and_after_it_was_brought_back(
    libvirt_lab: LibvirtLab, far: FarHost, data: Path
) -> None:
    """Its server's socket lies in a folder that each start of the machine has anew."""
    far.let_in(public_line(broker_key(data)))
    engine, guests = libvirt_engine(data), RealGuests(libvirt_lab)
    case = replace(libvirt_qemu_case(libvirt_lab), host=over_ssh(far, libvirt_lab))
    desktop = make_desktop(resources=SMALL)
    async with listening(engine) as heard:
        await engine.create(case.operation("job_1", desktop))
        await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
        await engine.snapshot(case.operation("job_2", desktop), "snp_1")
        await seen(engine, guests, desktop)
        await engine.suspend(case.operation("job_3", desktop))
        heard.clear()
        await engine.resume(case.operation("job_4", desktop))
        await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
        await seen(engine, guests, desktop)
        heard.clear()
        back = make_desktop(resources=SMALL, generation=2)
        await engine.revert(case.operation("job_5", back), "snp_1")
        await eventually(lambda: said(heard) == [("dsk_1", 2, True)], within_s=100)
        await seen(engine, guests, back)
        await engine.destroy(case.operation("job_6", back))


async def test_an_instant_clone_at_a_host_over_ssh_is_seen(
    libvirt_lab: LibvirtLab, far: FarHost, data: Path
) -> None:
    far.let_in(public_line(broker_key(data)))
    engine, guests = libvirt_engine(data), RealGuests(libvirt_lab)
    host = over_ssh(far, libvirt_lab, clone="instant")
    case = replace(libvirt_qemu_case(libvirt_lab), host=host)
    async with listening(engine) as heard:
        for number in (1, 2):
            desktop = make_desktop(id=f"dsk_{number}", resources=SMALL)
            await engine.create(case.operation(f"job_{number}", desktop))
            await eventually(lambda: (desktop.id, 1, True) in said(heard), within_s=100)  # noqa: B023
        for number in (1, 2):
            desktop = make_desktop(id=f"dsk_{number}", resources=SMALL)
            await seen(engine, guests, desktop)
            await engine.destroy(case.operation(f"job_9{number}", desktop))


async def test_a_machine_that_was_made_for_a_display_of_this_machine_says_so(
    libvirt_lab: LibvirtLab, far: FarHost, data: Path
) -> None:
    """Its host was reached by its socket until now."""
    far.let_in(public_line(broker_key(data)))
    desktop = make_desktop(resources=SMALL)
    here = libvirt_qemu_case(libvirt_lab)
    async with listening(before := libvirt_engine(data)) as heard:
        await before.create(here.operation("job_1", desktop))
        await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
    engine = libvirt_engine(data)
    far_case = replace(here, host=over_ssh(far, libvirt_lab))
    async with listening(engine):
        await engine.adopt(desktop, far_case.host)
        with pytest.raises(EngineError, match="when it is made fresh"):
            await engine.console(desktop, "ses_1")
        await engine.destroy(far_case.operation("job_2", desktop))


async def test_every_step_of_a_host_over_ssh_that_would_do_is_found_so(
    libvirt_lab: LibvirtLab, far: FarHost, data: Path
) -> None:
    far.let_in(public_line(broker_key(data)))
    files = sorted(libvirt_lab.first.guests.iterdir())
    steps = await looked(libvirt_engine(data), over_ssh(far, libvirt_lab))
    assert {step.name for step in steps.values() if step.verdict is not Verdict.OK} == set()
    assert steps["libvirt"].found["cpus"].isdecimal()
    assert sorted(libvirt_lab.first.guests.iterdir()) == files


async def test_what_is_missing_on_the_way_over_ssh_is_named_step_by_step(
    libvirt_lab: LibvirtLab, far: FarHost, data: Path
) -> None:
    engine = libvirt_engine(data)
    unconfirmed = first_wrong(await looked(engine, over_ssh(far, libvirt_lab, host_key="")))
    assert (unconfirmed.name, unconfirmed.verdict) == ("key", Verdict.UNKNOWN)
    assert unconfirmed.found == {"host_key": far.fingerprint}
    changed = first_wrong(await looked(engine, over_ssh(far, libvirt_lab, host_key=WRONG_KEY)))
    assert (changed.name, changed.verdict) == ("key", Verdict.MISSING)
    unknown = first_wrong(await looked(engine, over_ssh(far, libvirt_lab)))
    assert unknown.name == "sign_in"
    far.let_in(unknown.found["public_key"])
    elsewhere = f"qemu+ssh://trivium@127.0.0.1:{far.port}/system?socket=/nowhere/sock"
    no_socket = first_wrong(await looked(engine, over_ssh(far, libvirt_lab, uri=elsewhere)))
    assert no_socket.name == "sign_in"
    assert "/nowhere/sock" in no_socket.advice
    no_pool = await looked(engine, over_ssh(far, libvirt_lab, pool="fast", network="lan"))
    missing = {one.name for one in no_pool.values() if one.verdict is Verdict.MISSING}
    assert missing == {"storage", "network"}
    far_name = f"qemu+ssh://trivium@no-such-host.invalid:{far.port}/system"
    no_name = first_wrong(await looked(engine, over_ssh(far, libvirt_lab, uri=far_name)))
    assert no_name.name == "name"
    await far.stop()
    no_port = first_wrong(await looked(engine, over_ssh(far, libvirt_lab)))
    assert no_port.name == "port"
    assert all(one.advice for one in (unconfirmed, changed, unknown, no_socket, no_name, no_port))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def tls_host(
    lab: LibvirtLab, authority: Authority, *, qemu: str = "", second: bool = False
) -> Iterator[tuple[LibvirtHost, str]]:
    """The lab's first or second host, restarted with a door for TLS; and its address. `qemu`:
    lines about its machines."""
    host, port = lab.second if second else lab.first, free_port()
    folder = host.root / "tls"
    authority.vouch(folder, "localhost", server=True)
    host.stop()
    host.doors = (
        f'listen_tls = 1\nlisten_tcp = 0\nlisten_addr = "127.0.0.1"\ntls_port = "{port}"\n'
        f'ca_file = "{folder}/cacert.pem"\ncert_file = "{folder}/servercert.pem"\n'
        f'key_file = "{folder}/serverkey.pem"\n'
    )
    host.qemu = qemu
    host.prepare()
    host.start()
    wait_for(lambda: answers(port), 30, "the door for TLS")
    try:
        yield host, f"qemu+tls://127.0.0.1:{port}/system"
    finally:
        host.stop()
        host.doors = host.qemu = ""
        host.prepare()
        host.start()


async def test_a_host_over_tls_is_used_with_the_certificates_of_the_data_directory(
    libvirt_lab: LibvirtLab, data: Path
) -> None:
    authority = Authority()
    engine = libvirt_engine(data)
    with tls_host(libvirt_lab, authority) as (_, uri):
        host = make_host(engine="libvirt", profile=knobs(uri=uri, append=APPEND))
        without = first_wrong(await looked(engine, host))
        assert (without.name, "cacert.pem" in without.says) == ("key", True)
        Authority("a stranger").vouch(data / "pki/127.0.0.1", "broker", server=False)
        strange = first_wrong(await looked(engine, host))
        assert strange.name == "key"
        assert "certificate is not taken" in strange.says
        # the host is vouched for, the broker is not
        (data / "pki/127.0.0.1/cacert.pem").write_bytes(authority.certificate())
        refused = first_wrong(await looked(engine, host))
        assert refused.name == "sign_in"
        for path in (data / "pki/127.0.0.1").iterdir():
            path.unlink()
        authority.vouch(data / "pki/127.0.0.1", "broker", server=False)
        display = first_wrong(await looked(engine, host))
        assert (display.name, "not over tls" in display.says) == ("display", True)
        assert engine.displays(host) == frozenset()
        case = replace(libvirt_qemu_case(libvirt_lab), host=host)
        desktop = make_desktop(resources=SMALL)
        async with listening(engine) as heard:
            await engine.create(case.operation("job_1", desktop))
            await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
            with pytest.raises(UnsupportedError):
                await engine.console(desktop, "ses_1")
            await engine.destroy(case.operation("job_2", desktop))

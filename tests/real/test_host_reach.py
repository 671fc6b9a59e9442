"""Hosts over SSH and TLS: a real daemon behind each, looked at step by step, and used."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from broker.domain.inspection import Step, Verdict
from broker.domain.model import Host
from broker.engines.libvirt import LibvirtEngine
from broker.engines.reach.ssh import broker_key, public_line
from tests.support.builders import make_desktop, make_host
from tests.support.certificates import Authority
from tests.support.engines import listening, said
from tests.support.eventually import eventually
from tests.support.libvirt_bench import SMALL
from tests.support.libvirt_cases import libvirt_engine, libvirt_qemu_case
from tests.support.libvirt_host import LibvirtHost, wait_for
from tests.support.libvirt_lab import APPEND, LibvirtLab
from tests.support.ssh_hosts import FarHost, far_host

WRONG_KEY = "SHA256:" + "a" * 43


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


async def test_every_step_of_a_host_over_ssh_that_would_do_is_found_so(
    libvirt_lab: LibvirtLab, far: FarHost, data: Path
) -> None:
    far.let_in(public_line(broker_key(data)))
    files = sorted(libvirt_lab.first.guests.iterdir())
    steps = await looked(libvirt_engine(data), over_ssh(far, libvirt_lab))
    # its displays cannot be handed over from another machine
    assert first_wrong(steps).name == "display"
    assert {step.name for step in steps.values() if step.verdict is not Verdict.OK} == {"display"}
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
def tls_host(lab: LibvirtLab, authority: Authority) -> Iterator[tuple[LibvirtHost, str]]:
    """The lab's first host, restarted with a door for TLS; and its address."""
    host, port = lab.first, free_port()
    folder = host.root / "tls"
    authority.vouch(folder, "localhost", server=True)
    host.stop()
    host.doors = (
        f'listen_tls = 1\nlisten_tcp = 0\nlisten_addr = "127.0.0.1"\ntls_port = "{port}"\n'
        f'ca_file = "{folder}/cacert.pem"\ncert_file = "{folder}/servercert.pem"\n'
        f'key_file = "{folder}/serverkey.pem"\n'
    )
    host.prepare()
    host.start()
    wait_for(lambda: answers(port), 30, "the door for TLS")
    try:
        yield host, f"qemu+tls://127.0.0.1:{port}/system"
    finally:
        host.stop()
        host.doors = ""
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
        assert first_wrong(await looked(engine, host)).name == "display"
        case = replace(libvirt_qemu_case(libvirt_lab), host=host)
        desktop = make_desktop(resources=SMALL)
        async with listening(engine) as heard:
            await engine.create(case.operation("job_1", desktop))
            await eventually(lambda: said(heard) == [("dsk_1", 1, True)], within_s=100)
            await engine.destroy(case.operation("job_2", desktop))

"""Each kind of hypervisor: what its machines look like to libvirt's own schemas, what a host that
was asked has and lacks, and what is refused before anything is tried."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from broker.domain.errors import EngineError, NotHereError
from broker.domain.features import Feature
from broker.domain.inspection import Verdict
from broker.domain.model import Resources
from broker.domain.settings import Share
from broker.engines.libvirt import describe, xml
from broker.engines.libvirt.abilities import abilities
from broker.engines.libvirt.capabilities import (
    Capabilities,
    PoolRoom,
    domain_facts,
    guest_of,
    migration_of,
)
from broker.engines.libvirt.kinds import KINDS
from broker.engines.libvirt.knobs import parse_profile
from broker.engines.libvirt.looks import LOOKS, clock
from broker.engines.libvirt.machines import Machines
from broker.limits import HOST_CLOCK_OFF_S_MAX, PROBE_ROOM_BYTES_MIN
from broker.ports import GuestAttendance, GuestLinks, Operation
from tests.contract.test_libvirt_profiles import spec
from tests.support.builders import make_desktop, make_host
from tests.support.engines import IMAGE
from tests.support.libvirt_cases import libvirt_engine

SCHEMAS = Path("/usr/share/libvirt/schemas")
MADE = ("qemu", "lxc", "xen", "test")
"""kinds on which desktops are made"""
OF_THE_HOST = """<capabilities><host><migration_features><live/><uri_transports>
<uri_transport>tcp</uri_transport></uri_transports></migration_features></host>
<guest><os_type>hvm</os_type><arch name='i686'><domain type='kvm'/></arch></guest>
<guest><os_type>hvm</os_type><arch name='x86_64'><machine maxCpus='288'>pc-q35-7.2</machine>
<domain type='qemu'/></arch></guest>
<guest><os_type>exe</os_type><arch name='x86_64'><domain type='lxc'/></arch></guest>
</capabilities>"""
OF_ITS_MACHINES = """<domainCapabilities><vcpu max='255'/><cpu>
<mode name='custom' supported='yes'><model usable='yes'>qemu64</model>
<model usable='no'>EPYC</model></mode></cpu><devices>
<graphics supported='yes'><enum name='type'><value>vnc</value></enum></graphics>
<channel supported='yes'><enum name='type'><value>unix</value></enum></channel>
<tpm supported='no'/></devices></domainCapabilities>"""


def valid(text: str, schema: str) -> str:
    """What xmllint has against it; empty: nothing."""
    done = subprocess.run(
        ["xmllint", "--noout", "--relaxng", str(SCHEMAS / schema), "-"],
        input=text, text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("hypervisor", MADE)
@pytest.mark.parametrize("kernel", ["", "/pool/school-v1.kernel"])
def test_each_kinds_machine_is_one_by_libvirts_own_schema(hypervisor: str, kernel: str) -> None:
    machine = spec(
        f"{hypervisor}?network=lan",
        disk=xml.Disk(pool="trivium", volume="d", path="/pool/d", kernel=kernel, initrd=kernel),
        resources=Resources(cpus=1.5, memory_mib=512),
        guarantee=Share(memory=0.5),
    )
    assert valid(describe.domain(machine), "domain.rng") == ""


def test_a_container_finds_its_ticket_in_the_variables_of_its_first_process() -> None:
    given = {"TRIVIUM_TICKET": "dsk_1.3.seal", "TRIVIUM_BROKER": "https://desk"}
    disk = xml.Disk(pool="trivium", volume="d", path="/pool/d")
    text = describe.domain(spec("lxc", given=given, disk=disk))
    assert valid(text, "domain.rng") == ""
    found = {one.get("name"): one.text for one in xml.parse(text).iter("initenv")}
    assert found == given


class OneTicket:
    """Links that nobody uses."""

    def given(self, desktop_id: str, generation: int) -> Mapping[str, str]:
        return {"TRIVIUM_TICKET": f"{desktop_id}.{generation}"}

    def attend(self, *_: object) -> GuestAttendance:
        raise NotImplementedError


def test_each_generation_is_given_a_ticket_of_its_own_where_agents_use_one() -> None:
    host, disk = make_host(), xml.Disk(pool="trivium", volume="d", path="/pool/d")
    desktop = make_desktop(generation=7)
    operation = Operation(id="job_1", desktop=desktop, host=host, image=IMAGE, deadline_s=10)

    def machines(profile: str, links: GuestLinks | None) -> Machines:
        return Machines(None, "box", parse_profile(profile), "ins_1", guest_links=links)

    made = machines("lxc", OneTicket()).spec(operation, disk)
    assert made.given == {"TRIVIUM_TICKET": "dsk_1.7"}
    assert machines("lxc?agent=none", OneTicket()).spec(operation, disk).given == {}
    assert machines("qemu", OneTicket()).spec(operation, disk).given == {}
    with pytest.raises(EngineError, match="no links"):
        machines("lxc", None).spec(operation, disk)


def test_the_schema_refuses_what_is_no_machine() -> None:
    assert "wheels" in valid("<domain type='lxc'><name>a</name><wheels/></domain>", "domain.rng")


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_disks_are_volumes_by_libvirts_own_schema(form: str) -> None:
    assert valid(xml.volume("d", 1 << 20, "/pool/golden", form), "storagevol.rng") == ""


@pytest.mark.parametrize("hypervisor", sorted(KINDS.keys() - set(MADE)))
async def test_a_kind_that_keeps_no_tags_is_refused_before_anything_is_tried(
    hypervisor: str,
) -> None:
    driver = KINDS[hypervisor].drivers[0]
    host = make_host(engine="libvirt", profile=f"{hypervisor}?uri={driver}://host-7/")
    engine = libvirt_engine()
    assert engine.features(host) == frozenset()
    told = await engine.abilities(host)
    assert told.can == ()
    assert "metadata" in {one.name: one.says for one in told.cannot}["desktops"]
    operation = Operation(id="job_1", desktop=make_desktop(), host=host, image=IMAGE, deadline_s=10)
    with pytest.raises(NotHereError, match="metadata"):
        await engine.create(operation)
    steps = [step async for step in engine.probe(host)]
    assert steps[0].verdict is Verdict.MISSING
    assert {step.verdict for step in steps[1:]} == {Verdict.UNKNOWN}


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ("lxc?accel=kvm", "accel"),
        ("lxc?clone=linked", "clone"),
        ("lxc?agent=channel", "agent"),
        ("qemu?agent=websocket", "agent"),
        ("xen?agent=websocket", "agent"),
        ("xen?clone=instant", "instant"),
        ("esx", "uri"),
        ("lxc?uri=qemu:///system", "uri"),
        ("qemu?uri=qemu%2Blibssh2://h/system", "reached"),
        ("qemu?uri=qemu%2Btcp://10.0.0.7/system%26plain", "uri"),
        ("qemu?uri=qemu%2Btcp://10.0.0.7/system&plain=yes", "secrecy"),
        ("qemu?uri=qemu%2Btcp://127.0.0.1/system", "secrecy"),
        ("qemu?uri=qemu%2Btls://h/system%3Fpkipath%3D/etc", "pkipath"),
        ("qemu?uri=qemu%2Btls://h/system%3Fsocket%3D/x", "socket"),
        ("qemu?uri=qemu%2Bssh://-oProxyCommand@h/system", "user name"),
        ("qemu?uri=qemu%2Bssh://h/system%3Fsocket%3D../x", "socket"),
        ("qemu?uri=qemu%2Bunix://h/system", "unix"),
        ("qemu?host_key=md5:aa", "host_key"),
        ("test?uri=test:///etc/machines.xml", "path"),
        ("qemu?uri=qemu:///embed", "path"),
    ],
)
def test_what_a_kind_or_a_way_does_not_have_is_named(profile: str, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        parse_profile(profile)


def test_plain_tcp_is_taken_for_this_machine_alone() -> None:
    place = parse_profile("qemu?uri=qemu%2Btcp://127.0.0.1/system&plain=yes")
    assert (place.address.port, place.is_local) == (16509, False)


# ------------------------------------------------------------------- what a host says


def found(**changes: object) -> Capabilities:
    own = xml.parse(OF_THE_HOST)
    types, machines = guest_of(own, KINDS["qemu"])
    values = {
        "hypervisor": "QEMU", "domain_types": types, "machine_types": machines,
        "migration": migration_of(own), **domain_facts(xml.parse(OF_ITS_MACHINES)),
        "pools": (PoolRoom(
            name="trivium", kind="dir", running=True, capacity=9 << 30, available=8 << 30,
        ),),
        "networks": (("lan", True), ("old", False)),
    }  # fmt: skip
    return Capabilities(**(values | changes))


def test_what_is_read_is_of_the_architecture_and_sort_that_desktops_are() -> None:
    seen = found()
    assert seen.domain_types == ("qemu",)
    assert seen.machine_types == ("pc-q35-7.2",)
    assert (seen.cpu_models, seen.vcpus_max) == (("qemu64",), 255)
    assert (seen.graphics, seen.channels, seen.migration) == (("vnc",), ("unix",), ("tcp",))
    assert seen.devices == ("graphics", "channel")
    assert guest_of(xml.parse(OF_THE_HOST), KINDS["lxc"])[0] == ("lxc",)


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ("qemu?accel=kvm", "kvm"),
        ("qemu?machine=microvm", "microvm"),
        ("qemu?cpu=EPYC", "EPYC"),
        ("qemu?machine=pc-q35-7.2&cpu=qemu64", ""),
    ],
)
def test_a_host_that_lacks_what_its_profile_wants_says_what(profile: str, says: str) -> None:
    refused = found().refuses(parse_profile(profile))
    assert (says in refused) if says else refused == ""


def test_every_ability_is_told_once_with_its_reason() -> None:
    shared = parse_profile("qemu?storage=shared")
    told = abilities(shared, found())
    names = [one.name for one in (*told.can, *told.cannot)]
    assert len(names) == len(set(names))
    assert all(one.says for one in (*told.can, *told.cannot))
    assert {one.name for one in told.cannot} >= {Feature.HOST_POWER}
    assert "migrate" in {one.name for one in told.can}
    for place, seen, why in (
        (parse_profile("qemu"), found(), "storage=shared"),
        (shared, found(migration=()), "no way to send"),
    ):
        cannot = {one.name: one.says for one in abilities(place, seen).cannot}
        assert why in cannot["migrate"]
    cannot = {one.name: one.says for one in abilities(parse_profile("lxc"), found()).cannot}
    assert "lxc" in cannot["desktops"]


@pytest.mark.parametrize(
    ("profile", "changes", "spice", "rdp"),
    [
        ("qemu", {}, "spice=yes", "rdp=NETWORK"),
        ("qemu?spice=yes&rdp=10.20.0.0/16", {}, "", ""),
        ("qemu?spice=yes", {"graphics": ("vnc",)}, "no SPICE", "rdp=NETWORK"),
        ("qemu?spice=yes&uri=qemu%2Btls://desk/system", {}, "not over tls", "rdp=NETWORK"),
        ("lxc?rdp=10.20.0.0/16", {"domain_types": ("lxc",)}, "hands over no display", ""),
    ],
)
def test_which_viewers_a_hosts_desktops_have_is_told_with_what_is_missing(
    profile: str, changes: dict[str, Any], spice: str, rdp: str
) -> None:
    told = abilities(parse_profile(profile), found(**({"graphics": ("spice", "vnc")} | changes)))
    can = {one.name: one.says for one in told.can}
    cannot = {one.name: one.says for one in told.cannot}
    for name, why in (("display_spice", spice), ("display_rdp", rdp)):
        assert (name in can) == (not why)
        assert why in cannot.get(name, "")
    assert rdp or "10.20.0.0/16" in can["display_rdp"]


def test_what_was_refused_since_is_told_too() -> None:
    told = abilities(parse_profile("qemu"), found(), {Feature.RESIZE: "no control groups"})
    assert {one.name: one.says for one in told.cannot}["resize"] == "no control groups"


SMALL = PoolRoom(
    name="trivium", kind="dir", running=True, capacity=9 << 30, available=PROBE_ROOM_BYTES_MIN - 1
)
STOPPED = PoolRoom(name="trivium", kind="dir", running=False, capacity=0, available=0)


@pytest.mark.parametrize(
    ("step", "profile", "changes", "verdict"),
    [
        ("storage", "qemu", {}, Verdict.OK),
        ("storage", "qemu?pool=fast", {}, Verdict.MISSING),
        ("storage", "qemu", {"pools": (SMALL,)}, Verdict.MISSING),
        ("storage", "qemu", {"pools": (STOPPED,)}, Verdict.MISSING),
        ("network", "qemu", {}, Verdict.OK),
        ("network", "qemu?network=lan", {}, Verdict.OK),
        ("network", "qemu?network=old", {}, Verdict.MISSING),
        ("network", "qemu?network=wan", {}, Verdict.MISSING),
        ("acceleration", "qemu", {}, Verdict.OK),
        ("acceleration", "qemu?accel=kvm", {}, Verdict.MISSING),
        ("acceleration", "qemu?accel=kvm", {"domain_types": ("kvm",)}, Verdict.UNKNOWN),
        ("hypervisor", "qemu", {}, Verdict.OK),
        ("hypervisor", "qemu", {"domain_types": ()}, Verdict.MISSING),
        ("display", "qemu", {}, Verdict.OK),
        ("display", "qemu", {"graphics": ("spice",)}, Verdict.UNKNOWN),
        ("agent", "qemu", {}, Verdict.OK),
        ("agent", "qemu?agent=none", {}, Verdict.UNKNOWN),
        ("agent", "lxc", {}, Verdict.OK),
        ("agent", "lxc?agent=none", {}, Verdict.UNKNOWN),
        ("agent", "xen", {}, Verdict.UNKNOWN),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(
    step: str, profile: str, changes: dict[str, object], verdict: Verdict
) -> None:
    told = LOOKS[step](parse_profile(profile), found(**changes))
    assert (told.name, told.verdict) == (step, verdict)
    assert bool(told.advice) is (verdict is not Verdict.OK)


@pytest.mark.parametrize(
    ("off_s", "verdict"),
    [
        (0, Verdict.OK),
        (-HOST_CLOCK_OFF_S_MAX, Verdict.OK),
        (HOST_CLOCK_OFF_S_MAX + 1, Verdict.MISSING),
        (-HOST_CLOCK_OFF_S_MAX - 1, Verdict.MISSING),
    ],
)
def test_a_clock_that_is_off_is_told(off_s: float, verdict: Verdict) -> None:
    assert clock(round(off_s * 1000)).verdict is verdict
    assert clock(None).verdict is Verdict.UNKNOWN

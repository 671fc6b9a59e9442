"""A libvirt host's profile: the kind of hypervisor, and knobs after a question mark.

    qemu?uri=qemu%2Bunix%3A%2F%2F%2Fsystem&pool=desktops&accel=kvm

Values are percent-encoded, as in an address. Nobody but an administrator writes them, and even
so nothing in them names a program or a file of the broker's machine beyond a daemon's socket.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from broker.domain.errors import EngineError
from broker.domain.features import Feature
from broker.domain.storage import CLASS_NAME, OWN
from broker.engines.libvirt.address import HOST_KEY, Address, Transport, parse_address
from broker.engines.libvirt.kinds import KINDS, Agent, Clone, Kind
from broker.engines.reach.commands import Command
from broker.engines.reach.wake import Wake, parse_wake
from broker.limits import STORAGE_CLASSES_MAX


class Accel(StrEnum):
    """How the guest's instructions run. That a host has /dev/kvm proves nothing: whoever wants
    KVM says so."""

    TCG = "tcg"
    KVM = "kvm"


class YesNo(StrEnum):
    YES = "yes"
    NO = "no"


class Off(StrEnum):
    """How a host is shut down in an orderly way: by a user who may, or by one who may by sudo."""

    SYSTEMCTL = "systemctl"
    SUDO = "sudo"

    @property
    def command(self) -> Command:
        return Command.POWEROFF if self is Off.SYSTEMCTL else Command.SUDO_POWEROFF


class MovesTls(StrEnum):
    """Whether memory on its way to another host is encrypted: where both hosts have QEMU's
    certificates (auto), always or the machine stays (yes), or never (no)."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class Storage(StrEnum):
    """Whether the pool's volumes are the same files at every host that machines move between."""

    LOCAL = "local"
    SHARED = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassKnob:
    """A class of storage: one of the host's storage pools, by its name. cost: None: by its kind.
    shared: the pool of that name is the same at every host that says so."""

    name: str
    pool: str
    cost: float | None = None
    shared: bool = False


class Shows(StrEnum):
    """How displays come to the broker: the daemon, on the broker's machine, hands a connection
    over; or through a socket of QEMU's at the host, reached over SSH; or at a port of the host's,
    with certificates both ways."""

    NONE = "none"
    HANDED = "handed"
    SOCKET = "socket"
    CERTIFIED = "certified"


_ChoiceT = TypeVar("_ChoiceT", bound=StrEnum)
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CLASS: Final = re.compile(
    rf"(?P<name>{CLASS_NAME.pattern}):(?P<pool>{_WORD.pattern})"
    r"(:(?P<cost>[0-9]{1,6}(\.[0-9]{1,3})?))?(?P<shared>:shared)?"
)
_MIGRATION: Final = re.compile(r"tcp://[A-Za-z0-9.:\[\]-]{1,255}")
_APPEND: Final = re.compile(r"[\x20-\x7e]{0,512}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a host's profile says.

    uri: the daemon's libvirt address; `address` is what it says.
    host_key: of a host that is reached over SSH: the fingerprint that an administrator confirmed.
    pool: the storage pool of golden images and desktops.
    network: the libvirt network of the desktops; empty: they have none.
    accel, cpu, machine: as libvirt names them; an empty `machine` is the hypervisor's own choice,
        an empty `cpu` is qemu64 under TCG and the host's own under KVM.
    clone: how a desktop's disk is made of its golden image.
    agent: where the guest's agent is heard.
    storage: shared where machines that move find their disks at the other host.
    classes: of storage, beside `pool`, that pools may name.
    moves: where other hosts send machines that move here, as in tcp://10.0.0.2; empty: the
        host's own name.
    moves_tls: whether the memory of machines that move from and to here is encrypted on its way.
    append: the kernel's command line, for images with a kernel beside them.
    rdp: the network (10.0.0.0/16) that the broker reaches the desktops in; their RDP servers are
        shown then. An address outside it, whatever a guest says of itself, is not gone to.
    spice: machines have a SPICE server beside that for VNC.
    vnc: of a host over TLS: its address at which machines show their displays with certificates.
    off, wake: how the host is switched off over SSH, and on by its network card; both or neither.
    """

    kind: Kind
    uri: str
    address: Address
    host_key: str = ""
    pool: str = "trivium"
    network: str = ""
    accel: Accel = Accel.TCG
    cpu: str = ""
    machine: str = ""
    clone: Clone = Clone.LINKED
    agent: Agent
    storage: Storage = Storage.LOCAL
    classes: tuple[ClassKnob, ...] = ()
    moves: str = ""
    moves_tls: MovesTls = MovesTls.AUTO
    append: str = "root=/dev/vda1 quiet"
    rdp: IPv4Network | IPv6Network | None = None
    spice: bool = False
    vnc: IPv4Address | IPv6Address | None = None
    off: Off | None = None
    wake: Wake | None = None

    @property
    def features(self) -> frozenset[Feature]:
        """The kind's, and what the profile adds to them."""
        power = {Feature.HOST_POWER} if self.off is not None and self.wake is not None else set()
        return self.kind.features | power

    @property
    def home(self) -> dict[str, str]:
        """See broker.ports.ProfileReader. A machine's agent is heard as it was when it was made,
        and its disk lies where it was made."""
        found = {
            "kind": self.kind.name,
            "uri": self.address.place,
            "pool": self.pool,
            "agent": self.agent.value,
        }
        return found | {f"class {one.name}": one.pool for one in self.classes}

    def address_of(self, told: Iterable[str]) -> str:
        """The first of the addresses that a guest tells where the broker may look for its RDP
        server. Raises EngineError where there is none."""
        for text in told:
            with contextlib.suppress(ValueError):
                address = ipaddress.ip_address(text.partition("/")[0])
                if self.rdp is not None and address in self.rdp:
                    return str(address)
        raise EngineError("the desktop has told no address in the desktops' network")

    def at(self, storage: str) -> Place:
        """Whose `pool` is that of the class. Raises EngineError where the host has none."""
        if storage == OWN:
            return self
        found = next((one.pool for one in self.classes if one.name == storage), None)
        if found is None:
            raise EngineError(f"the host has no storage class {storage}")
        return replace(self, pool=found)

    @property
    def pools(self) -> tuple[str, ...]:
        """Every storage pool that desktops' disks may be in, once each."""
        return tuple(dict.fromkeys((self.pool, *(one.pool for one in self.classes))))

    @property
    def is_local(self) -> bool:
        """Whether the daemon is on the broker's own machine, so that files can be handed over."""
        return self.address.transport is Transport.UNIX

    @property
    def shows(self) -> Shows:
        """How displays come from its machines to the broker."""
        if not self.kind.displays:
            return Shows.NONE
        ways = {Transport.UNIX: Shows.HANDED, Transport.SSH: Shows.SOCKET}
        if self.vnc is not None:
            ways[Transport.TLS] = Shows.CERTIFIED
        return ways.get(self.address.transport, Shows.NONE)

    @property
    def domain_type(self) -> str:
        """As libvirt names the kind of machine."""
        types = self.kind.domain_types or (self.kind.name,)
        return types[-1] if self.accel is Accel.KVM else types[0]


KNOBS: Final = (
    "uri", "host_key", "plain", "pool", "network", "accel", "cpu", "machine", "clone", "agent",
    "storage", "classes", "moves", "moves_tls", "append", "rdp", "spice", "vnc", "off", "wake",
)  # fmt: skip


def parse_profile(text: str) -> Place:
    """What a host's profile says.

    Raises:
        EngineError: an unknown kind, an unknown knob, or a value that it does not take.
    """
    name, _, query = text.partition("?")
    kind = KINDS.get(name)
    if kind is None:
        raise EngineError(f"no libvirt profile is called {name!r}; known: {', '.join(KINDS)}")
    given: dict[str, str] = {}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=len(KNOBS)
        )
    except ValueError:
        raise EngineError("the knobs after the question mark are not key=value pairs") from None
    for key, value in pairs:
        if key not in KNOBS:
            raise EngineError(f"no knob is called {key!r}; known: {', '.join(KNOBS)}")
        if key in given:
            raise EngineError(f"knob {key} is given twice")
        given[key] = value
    if given.get("clone") == Clone.INSTANT and given.get("agent", kind.agent) == Agent.NONE:
        raise EngineError("knob clone: instant clones need a guest agent that tells them apart")
    accel = _choice("accel", given.get("accel", Accel.TCG), Accel)
    if accel is Accel.KVM and "kvm" not in kind.domain_types:
        raise EngineError(f"knob accel: {kind.name} has no KVM")
    address = _address(given, kind)
    _check_power(given, address)
    return Place(
        kind=kind,
        uri=address.uri,
        address=address,
        host_key=_matching("host_key", given.get("host_key", ""), HOST_KEY, empty=True),
        pool=_word("pool", given.get("pool", "trivium")),
        network=_word("network", given.get("network", ""), empty=True),
        accel=accel,
        cpu=_word("cpu", given.get("cpu", ""), empty=True),
        machine=_word("machine", given.get("machine", ""), empty=True),
        clone=_one_of("clone", given.get("clone", kind.clones[0]), kind, kind.clones),
        agent=_one_of("agent", given.get("agent", kind.agent), kind, kind.agents),
        storage=_choice("storage", given.get("storage", Storage.LOCAL), Storage),
        classes=_classes("classes", given.get("classes", "")),
        moves=_matching("moves", given.get("moves", ""), _MIGRATION, empty=True),
        moves_tls=_choice("moves_tls", given.get("moves_tls", MovesTls.AUTO), MovesTls),
        append=_matching("append", given.get("append", "root=/dev/vda1 quiet"), _APPEND),
        rdp=_network("rdp", given.get("rdp", "")),
        spice=_choice("spice", given.get("spice", YesNo.NO), YesNo) is YesNo.YES,
        vnc=_at("vnc", given["vnc"], kind, address) if "vnc" in given else None,
        off=_choice("off", given["off"], Off) if "off" in given else None,
        wake=_wake("wake", given["wake"]) if "wake" in given else None,
    )


def _check_power(given: dict[str, str], address: Address) -> None:
    """A host that is switched off for good would be no use, nor one that is only switched on."""
    if ("off" in given) != ("wake" in given):
        raise EngineError("knobs off and wake: a host has both or neither")
    if "off" in given and address.transport is not Transport.SSH:
        raise EngineError("knob off: only a host that is reached over SSH is told to go off")


def _wake(key: str, value: str) -> Wake:
    try:
        return parse_wake(value)
    except EngineError as error:
        raise EngineError(f"knob {key}: {error.detail}") from None


def _address(given: dict[str, str], kind: Kind) -> Address:
    uri = given.get("uri", kind.uri)
    if not uri:
        raise EngineError(f"knob uri: {kind.name} is always elsewhere: give its address")
    if " " in uri:
        # a plus in a value that is not encoded
        raise EngineError("knob uri: there is a blank in it; write + as %2B")
    plain = _choice("plain", given.get("plain", YesNo.NO), YesNo) is YesNo.YES
    return parse_address(uri, kind, plain=plain)


def _network(key: str, value: str) -> IPv4Network | IPv6Network | None:
    if not value:
        return None
    try:
        found = ipaddress.ip_network(value)
    except ValueError:
        raise EngineError(f"knob {key}: {value!r} is not a network like 10.0.0.0/16") from None
    if found.is_loopback or found.is_multicast or found.is_link_local or not found.prefixlen:
        raise EngineError(f"knob {key}: {value!r} is no network that desktops are in")
    return found


def _at(key: str, value: str, kind: Kind, address: Address) -> IPv4Address | IPv6Address:
    if address.transport is not Transport.TLS or not kind.displays:
        raise EngineError(f"knob {key}: only displays of hosts over TLS are at an address")
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        raise EngineError(f"knob {key}: {value!r} is not an address of the host's") from None
    if found.is_unspecified or found.is_multicast:
        raise EngineError(f"knob {key}: {value!r} is not one address of the host's")
    return found


def _classes(key: str, value: str) -> tuple[ClassKnob, ...]:
    """As in fast:ssd:4,bulk:nas:1:shared."""
    found: dict[str, ClassKnob] = {}
    for text in value.split(",") if value else ():
        one = _CLASS.fullmatch(text)
        if one is None:
            raise EngineError(f"knob {key}: {text!r} is not NAME:POOL, NAME:POOL:COST or …:shared")
        name, cost = one["name"], one["cost"]
        if name in found:
            raise EngineError(f"knob {key}: {name} is given twice")
        found[name] = ClassKnob(
            name=name,
            pool=one["pool"],
            cost=float(cost) if cost is not None else None,
            shared=one["shared"] is not None,
        )
    if len(found) > STORAGE_CLASSES_MAX:
        raise EngineError(f"knob {key}: more than {STORAGE_CLASSES_MAX} classes")
    return tuple(found.values())


def _word(key: str, value: str, *, empty: bool = False) -> str:
    return _matching(key, value, _WORD, empty=empty)


def _matching(key: str, value: str, form: re.Pattern[str], *, empty: bool = False) -> str:
    if (empty and not value) or form.fullmatch(value):
        return value
    raise EngineError(f"knob {key}: {value!r} is not taken")


def _one_of(key: str, value: str, kind: Kind, known: tuple[_ChoiceT, ...]) -> _ChoiceT:
    """One of what this kind of hypervisor has."""
    found = next((one for one in known if one == value), None)
    if found is None:
        has = ", ".join(known)
        raise EngineError(f"knob {key}: {value!r} is not what {kind.name} has: {has}")
    return found


def _choice(key: str, value: str, kinds: type[_ChoiceT]) -> _ChoiceT:
    try:
        return kinds(value)
    except ValueError:
        known = ", ".join(kinds)
        raise EngineError(f"knob {key}: {value!r} is none of {known}") from None

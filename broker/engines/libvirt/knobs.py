"""A libvirt host's profile: the kind of hypervisor, and knobs after a question mark.

    qemu?uri=qemu%2Bunix%3A%2F%2F%2Fsystem&pool=desktops&accel=kvm

Values are percent-encoded, as in an address. Nobody but an administrator writes them, and even
so nothing in them names a program or a file of the broker's machine beyond a daemon's socket.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

from broker.domain.errors import EngineError
from broker.domain.features import Feature


class Accel(StrEnum):
    """How the guest's instructions run. That a host has /dev/kvm proves nothing: whoever wants
    KVM says so."""

    TCG = "tcg"
    KVM = "kvm"


class Clone(StrEnum):
    """Linked: an overlay on the golden image. Full: a copy of it. Instant: linked, and resumed
    from the memory of a golden desktop that was booted once (instant.py)."""

    LINKED = "linked"
    FULL = "full"
    INSTANT = "instant"


class Agent(StrEnum):
    """Where the guest's agent is heard. None: a machine that runs counts as ready."""

    CHANNEL = "channel"
    NONE = "none"


class Storage(StrEnum):
    """Whether the pool's volumes are the same files at every host that machines move between."""

    LOCAL = "local"
    SHARED = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of hypervisor: what libvirt's driver for it can do, as far as this engine goes."""

    name: str
    uri: str
    features: frozenset[Feature]
    displays: bool
    agent: Agent


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            name="qemu", uri="qemu:///system", displays=True, agent=Agent.CHANNEL,
            features=frozenset({Feature.SUSPEND, Feature.MIGRATE, Feature.RESIZE}),
        ),
        Kind(
            name="test", uri="test:///default", displays=False, agent=Agent.NONE,
            features=frozenset({Feature.SUSPEND, Feature.RESIZE}),
        ),
    )
}  # fmt: skip
"""by name; a host's profile begins with it"""

_TRANSPORTS: Final = frozenset({"", "unix", "ssh", "libssh", "libssh2", "tls", "tcp"})
_URI_OPTIONS: Final = frozenset({"socket", "mode", "no_tty"})
"""of a libvirt address; the others name programs or files, or turn checks off"""
_ChoiceT = TypeVar("_ChoiceT", bound=StrEnum)
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MIGRATION: Final = re.compile(r"tcp://[A-Za-z0-9.:\[\]-]{1,255}")
_APPEND: Final = re.compile(r"[\x20-\x7e]{0,512}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a host's profile says.

    uri: the daemon's libvirt address.
    pool: the storage pool of golden images and desktops.
    network: the libvirt network of the desktops; empty: they have none.
    accel, cpu, machine: as libvirt names them; an empty `machine` is the hypervisor's own choice,
        an empty `cpu` is qemu64 under TCG and the host's own under KVM.
    clone: how a desktop's disk is made of its golden image.
    agent: where the guest's agent is heard.
    storage: shared where machines that move find their disks at the other host.
    moves: where other hosts send machines that move here, as in tcp://10.0.0.2; empty: the
        host's own name.
    append: the kernel's command line, for images with a kernel beside them.
    """

    kind: Kind
    uri: str
    pool: str = "trivium"
    network: str = ""
    accel: Accel = Accel.TCG
    cpu: str = ""
    machine: str = ""
    clone: Clone = Clone.LINKED
    agent: Agent
    storage: Storage = Storage.LOCAL
    moves: str = ""
    append: str = "root=/dev/vda1 quiet"

    @property
    def is_local(self) -> bool:
        """Whether the daemon is on the broker's own machine, so that files can be handed over."""
        parts = urlsplit(self.uri)
        return not parts.netloc and parts.scheme.partition("+")[2] in {"", "unix"}


KNOBS: Final = (
    "uri", "pool", "network", "accel", "cpu", "machine", "clone", "agent", "storage", "moves",
    "append",
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
    return Place(
        kind=kind,
        uri=_uri(given.get("uri", kind.uri), kind),
        pool=_word("pool", given.get("pool", "trivium")),
        network=_word("network", given.get("network", ""), empty=True),
        accel=_choice("accel", given.get("accel", Accel.TCG), Accel),
        cpu=_word("cpu", given.get("cpu", ""), empty=True),
        machine=_word("machine", given.get("machine", ""), empty=True),
        clone=_choice("clone", given.get("clone", Clone.LINKED), Clone),
        agent=_choice("agent", given.get("agent", kind.agent), Agent),
        storage=_choice("storage", given.get("storage", Storage.LOCAL), Storage),
        moves=_matching("moves", given.get("moves", ""), _MIGRATION, empty=True),
        append=_matching("append", given.get("append", "root=/dev/vda1 quiet"), _APPEND),
    )


def _uri(text: str, kind: Kind) -> str:
    try:
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise EngineError("knob uri: not an address") from None
    driver, _, transport = parts.scheme.partition("+")
    if driver != kind.name or transport not in _TRANSPORTS or parts.password is not None:
        raise EngineError(f"knob uri: not a libvirt address of {kind.name}")
    unknown = options.keys() - _URI_OPTIONS
    if unknown:
        raise EngineError(f"knob uri: {', '.join(sorted(unknown))} is not taken in an address")
    return text


def _word(key: str, value: str, *, empty: bool = False) -> str:
    return _matching(key, value, _WORD, empty=empty)


def _matching(key: str, value: str, form: re.Pattern[str], *, empty: bool = False) -> str:
    if (empty and not value) or form.fullmatch(value):
        return value
    raise EngineError(f"knob {key}: {value!r} is not taken")


def _choice(key: str, value: str, kinds: type[_ChoiceT]) -> _ChoiceT:
    try:
        return kinds(value)
    except ValueError:
        known = ", ".join(kinds)
        raise EngineError(f"knob {key}: {value!r} is none of {known}") from None

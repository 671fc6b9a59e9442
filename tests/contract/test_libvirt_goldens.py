"""Which golden desktop clones are made of, and when another one is booted."""

from __future__ import annotations

import struct
from typing import Any, cast

import libvirt
import pytest

from broker.domain.errors import EngineError
from broker.engines.libvirt.instant import Boot, Golden, GoldenDesktops, InstantClones
from broker.engines.libvirt.machines import Machines
from broker.limits import GOLDEN_BOOT_S
from broker.system import SystemClock, SystemIds
from tests.support.clock import ManualClock

NAME = "school-v1-golden-0123456789ab"
ROOM = 100


class Volume:
    """A file of the pool. `data`: None where the host cannot read it."""

    def __init__(self, data: bytes | None) -> None:
        self._data = data

    def download(self, stream: Stream, offset: int, length: int, _flags: int) -> None:
        if self._data is None:
            raise libvirt.libvirtError("Input/output error")
        stream.rest = self._data[offset : offset + length]


class Stream:
    rest = b""

    def recv(self, length: int) -> bytes:
        got, self.rest = self.rest[:length], self.rest[length:]
        return got

    def finish(self) -> None:
        pass


class Host:
    """A connection, its machines and their one pool. `unseen`: what a look anew shows, too."""

    def __init__(self, files: dict[str, bytes | None], unseen: dict[str, bytes | None]) -> None:
        self.connection, self.host = self, "host-a"
        self._files = files
        self._unseen = unseen

    def volumes(self, _storage: str) -> Host:
        return self

    def newStream(self, _flags: int) -> Stream:  # noqa: N802 - libvirt's
        return Stream()

    def names(self) -> list[str]:
        return list(self._files)

    def find(self, name: str) -> Volume | None:
        return Volume(self._files[name]) if name in self._files else None

    def refresh(self) -> None:
        self._files |= self._unseen


def clones(unseen: dict[str, bytes | None] | None = None, /, **files: bytes | None) -> Any:
    """Of a host with these files of golden desktops: `a_save` is the one marked a, its memory."""
    named = {f"{NAME}-{one.replace('_', '.')}": data for one, data in files.items()}
    return InstantClones(cast("Machines", Host(named, unseen or {})), "")


def memory(
    text: bytes = b"<domain/>", magic: bytes = b"LibvirtQemudSave", version: int = 2
) -> bytes:
    return struct.pack("<16s5I56x", magic, version, ROOM, 1, 0, 0) + text.ljust(ROOM, b"\0")


def test_the_golden_desktop_that_was_saved_last_is_taken() -> None:
    both = clones(a_qcow2=b"", a_save=memory(), b_qcow2=b"", b_save=memory())
    assert both.latest(NAME) == Golden(disk=f"{NAME}-b.qcow2")
    again = clones(
        a_qcow2=b"", a_save=memory(), b_qcow2=b"", b_save=memory(magic=b"LibvirtQemudPart")
    )
    assert again.latest(NAME) == Golden(disk=f"{NAME}-a.qcow2")


def test_one_of_a_version_before_is_taken_until_there_is_another() -> None:
    before: dict[str, bytes | None] = {f"{NAME}.qcow2": b"", f"{NAME}.save": memory()}
    found = clones(before).latest(NAME, fresh=True)
    assert found == Golden(disk=f"{NAME}.qcow2")
    assert found.memory == f"{NAME}.save"
    both = clones(before, a_qcow2=b"", a_save=memory())
    assert both.latest(NAME, fresh=True) == Golden(disk=f"{NAME}-a.qcow2")


@pytest.mark.parametrize(
    "files",
    [
        {"a_save": memory()},
        {"a_qcow2": b""},
        {"a_qcow2": b"", "a_save": b""},
        {"a_qcow2": b"", "a_save": memory()[:40]},
        {"a_qcow2": b"", "a_save": memory(magic=b"LibvirtQemudPart")},
        {"a_qcow2": b"", "a_save": memory(b"<domain><na</domain>")},
        {"a_qcow2": b"", "a_save": memory(b"<domain>\xc3</domain>")},
    ],
)
def test_one_that_is_not_all_there_is_not_taken(files: dict[str, bytes | None]) -> None:
    assert clones(**files).latest(NAME, fresh=True) is None


@pytest.mark.parametrize("data", [None, memory(version=3)])
def test_where_it_cannot_be_told_whether_one_is_there_none_is_made(data: bytes | None) -> None:
    with pytest.raises(EngineError):
        GoldenDesktops(clock=SystemClock(), ids=SystemIds(), installation_id="ins_1").known(
            cast("InstantClones", Booting(clones(a_qcow2=b"", a_save=data))), NAME
        )


class Booting:
    """Clones of golden desktops, one of which may boot."""

    def __init__(self, clones: Any, boot: Boot | None = None) -> None:
        self.latest = clones.latest
        self.boot = boot
        self.ended: list[Boot] = []

    def booting(self, _name: str) -> Boot | None:
        return self.boot

    def end(self, boot: Boot) -> None:
        self.ended.append(boot)


async def test_one_that_another_broker_boots_is_waited_for_from_when_it_was_seen() -> None:
    clock = ManualClock()
    goldens = GoldenDesktops(clock=clock, ids=SystemIds(), installation_id="ins_1")
    host = Booting(clones(), Boot(uuid="1", golden=Golden(disk=f"{NAME}-a.qcow2")))

    def known() -> object:
        return goldens.known(cast("InstantClones", host), NAME)

    assert known() == host.boot
    await clock.advance(GOLDEN_BOOT_S - 1)
    assert known() == host.boot
    assert host.ended == []
    # another boot has its own time
    first, host.boot = host.boot, Boot(uuid="1", golden=Golden(disk=f"{NAME}-b.qcow2"))
    assert first != host.boot
    await clock.advance(GOLDEN_BOOT_S - 1)
    assert known() == host.boot
    await clock.advance(GOLDEN_BOOT_S)
    assert known() is None
    assert host.ended == [host.boot]

"""What the broker writes on a machine: the libvirt metadata that says whose it is.

A machine without this installation's tag is nobody's business: it is neither listed nor touched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5
from xml.etree import ElementTree as ET

from broker.domain.errors import EngineError
from broker.domain.model import Image

NAMESPACE: Final = "urn:trivium:desktop:1"
PREFIX: Final = "trivium"
OPERATIONS_KEPT: Final = 8
"""latest operation ids on a machine"""
USERS_KEPT: Final = 64
"""latest sessions on a machine"""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VOLUME: Final = re.compile(r"(?P<desktop>[A-Za-z0-9_-]+)-g(?P<generation>[0-9]+)\.(?:qcow2|raw)")

ET.register_namespace(PREFIX, NAMESPACE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """`operations`: the latest that were carried out, oldest first. `disk`: the generation that
    its disk was made under, where that is not its own (it was reverted since); 0: it is. `groups`:
    the version of control groups that its weight is meant for; empty: it has none."""

    installation_id: str
    desktop_id: str
    generation: int
    name: str = ""
    operations: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    disk: int = 0
    groups: str = ""

    @property
    def on_disk(self) -> int:
        """The generation that its disk was made under."""
        return self.disk or self.generation

    def after(self, operation_id: str) -> Tags:
        """With that operation done."""
        others = [one for one in self.operations if one != operation_id]
        return replace(self, operations=(*others, operation_id)[-OPERATIONS_KEPT:])

    def used_by(self, session_id: str) -> Tags:
        if session_id in self.users:
            return self
        return replace(self, users=(*self.users, session_id)[-USERS_KEPT:])

    def element(self, *, bare: bool = False) -> ET.Element:
        """`bare`: without its namespace, which libvirt itself puts on what it is given alone."""
        space = "" if bare else f"{{{NAMESPACE}}}"
        found = ET.Element(
            f"{space}desktop",
            {
                "installation": self.installation_id,
                "id": self.desktop_id,
                "generation": str(self.generation),
                "name": printable(self.name),
                **({"disk": str(self.disk)} if self.disk else {}),
                **({"groups": self.groups} if self.groups else {}),
            },
        )
        for kind, ids in (("operation", self.operations), ("session", self.users)):
            for one in ids:
                ET.SubElement(found, f"{space}{kind}", {"id": printable(one)})
        return found


def read_tags(element: ET.Element) -> Tags | None:
    """The tags of a `desktop` element; None for one that this version did not write."""
    generation = element.get("generation", "")
    if element.tag not in {f"{{{NAMESPACE}}}desktop", "desktop"} or not generation.isdecimal():
        return None
    return Tags(
        installation_id=element.get("installation", ""),
        desktop_id=element.get("id", ""),
        generation=int(generation),
        name=element.get("name", ""),
        disk=int(disk) if (disk := element.get("disk", "")).isdecimal() else 0,
        groups=element.get("groups", ""),
        operations=tuple(_ids(element, "operation")),
        users=tuple(_ids(element, "session")),
    )


def groups_of(machine: ET.Element) -> str:
    """What any broker wrote on a machine of the control groups that its weight is meant for."""
    found = machine.find(f"metadata/{{{NAMESPACE}}}desktop")
    return found.get("groups", "") if found is not None else ""


def _ids(element: ET.Element, kind: str) -> Iterable[str]:
    return [
        one.get("id", "")
        for one in element
        if one.tag in {f"{{{NAMESPACE}}}{kind}", kind} and one.get("id")
    ]


def printable(text: str) -> str:
    """Without what XML, or a terminal, does not take."""
    return "".join(one for one in text if one.isprintable())[:120]


def checked_id(desktop_id: str) -> str:
    """The id, where it can be part of a machine's or a file's name; EngineError where not."""
    if not _ID.fullmatch(desktop_id):
        raise EngineError("the desktop's id cannot name a machine")
    return desktop_id


def machine_uuid(installation_id: str, desktop_id: str) -> UUID:
    """The same for ever: a repeated call cannot make a second machine."""
    return uuid5(NAMESPACE_URL, f"{NAMESPACE}/{installation_id}/{desktop_id}")


def machine_name(desktop_id: str) -> str:
    return f"trivium-{checked_id(desktop_id)}"


def volume_name(desktop_id: str, generation: int, form: str = "qcow2") -> str:
    """`form`: of the disk, as in qcow2 or raw."""
    return f"{checked_id(desktop_id)}-g{generation}.{form}"


def volume_of(name: str, desktop_id: str) -> int | None:
    """The generation whose volume of that desktop bears this name; None for any other name."""
    found = _VOLUME.fullmatch(name)
    if found is None or found["desktop"] != desktop_id:
        return None
    return int(found["generation"])


def image_volume(image: Image, suffix: str = ".qcow2") -> str:
    """The golden image's volume, or what lies beside it (`.kernel`, `.initrd`)."""
    if not _IMAGE.fullmatch(image.name):
        raise EngineError("the image's name cannot name a volume")
    return f"{image.name}-v{image.version}{suffix}"


def owner_mark(installation_id: str) -> str:
    """Which names of files carry that are this installation's."""
    return hashlib.sha256(installation_id.encode()).hexdigest()[:8]


def image_mark(image: Image, owner: str) -> str:
    """The empty file beside a golden image that says which installation brought it."""
    return f"trivium-{owner}-{image_volume(image)}.mark"


def mac_address(uuid: UUID) -> str:
    """A locally administered address of its own, from the machine's id."""
    return ":".join(f"{byte:02x}" for byte in (0x02, *uuid.bytes[:5]))

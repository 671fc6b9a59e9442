"""Whether machines of a host that is reached over TLS would show their displays with certificates
both ways, and to nobody without.

libvirt tells nobody what its qemu.conf says. It tells, though, how it would start a machine: what
QEMU is given then is what counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree as ET

import libvirt

from broker.domain.errors import EngineError
from broker.engines.libvirt import xml
from broker.engines.libvirt.knobs import Place

NATIVE: Final = "qemu-argv"
_CREDENTIALS: Final = re.compile(r"-object\s+'?\{?[^'\n]*?tls-creds-x509[^'\n]*")
_VERIFIES: Final = re.compile(r'"verify-peer":\s*true|verify-peer=(yes|on)')
_VNC: Final = re.compile(r"-vnc\s+'?([^'\s]+)")


def refusal(connection: Any, place: Place) -> str:
    """Why displays there would not be safe; empty: they are. Blocking."""
    try:
        command = connection.domainXMLToNative(NATIVE, _machine(place), 0)
    except libvirt.libvirtError:
        return "the host does not tell how it would show displays"
    return refusal_of(command)


def refusal_of(command: str) -> str:
    """As `refusal`, of the command that QEMU would be started with."""
    shown = _VNC.search(command)
    if shown is None:
        return "its machines would have no VNC"
    if "tls-creds=" not in shown[1]:
        return "its displays would be open to everybody: set vnc_tls = 1 in its qemu.conf"
    if not any(_VERIFIES.search(one) for one in _CREDENTIALS.findall(command)):
        return "its displays would ask nobody for a certificate: set vnc_tls_x509_verify = 1"
    if re.search(r",(password|sasl)", shown[1]):
        return "its displays want a password: unset vnc_password and vnc_sasl in its qemu.conf"
    return ""


def port_of(described: str, place: Place, name: str) -> int:
    """Where a machine that runs listens at the host's address. `name`: the desktop's, for words.
    Raises EngineError where it does not."""
    path = f"devices/graphics[@type='vnc']/listen[@address='{place.vnc}']/.."
    graphics = xml.parse(described).find(path)
    port = graphics.get("port", "") if graphics is not None else ""
    if not port.isdecimal():
        text = f"{name} was made without a display that is reached over TLS"
        raise EngineError(f"{text}: it has one when it is made fresh")
    return int(port)


def moved_to(domain: Any, place: Place, parameters: Mapping[str, str]) -> dict[str, str]:
    """Parameters of a move to a host whose displays are at another address, or at none: the
    machine's is there, too. Blocking; raises libvirt's error."""
    said = dict(parameters)
    for name, flags in (
        (libvirt.VIR_MIGRATE_PARAM_DEST_XML, libvirt.VIR_DOMAIN_XML_MIGRATABLE),
        (libvirt.VIR_MIGRATE_PARAM_PERSIST_XML, libvirt.VIR_DOMAIN_XML_INACTIVE),
    ):
        root = xml.parse(said.get(name) or domain.XMLDesc(flags))
        for graphics in root.iterfind("devices/graphics[@type='vnc']"):
            _listen(graphics, place)
        said[name] = xml.text_of(root)
    return said


def _listen(graphics: ET.Element, place: Place) -> None:
    for before in graphics.findall("listen"):
        graphics.remove(before)
    for name in ("listen", "port", "autoport"):
        graphics.attrib.pop(name, None)
    if place.vnc is None:
        ET.SubElement(graphics, "listen", {"type": "none"})
        return
    graphics.set("autoport", "yes")
    ET.SubElement(graphics, "listen", {"type": "address", "address": str(place.vnc)})


def _machine(place: Place) -> str:
    root = ET.Element("domain", {"type": place.domain_type})
    ET.SubElement(root, "name").text = "trivium-look"
    ET.SubElement(root, "memory", {"unit": "MiB"}).text = "64"
    ET.SubElement(root, "vcpu").text = "1"
    machine = {"arch": "x86_64"} | ({"machine": place.machine} if place.machine else {})
    ET.SubElement(ET.SubElement(root, "os"), "type", machine).text = "hvm"
    devices = ET.SubElement(root, "devices")
    graphics = ET.SubElement(devices, "graphics", {"type": "vnc", "port": "5900"})
    ET.SubElement(graphics, "listen", {"type": "address", "address": str(place.vnc)})
    return ET.tostring(root, encoding="unicode")

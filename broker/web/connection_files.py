"""The files that open a session in a viewer outside the browser, as those viewers read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from broker.domain.settings import Channels, Clipboard
from broker.domain.viewers import ViewerKind
from broker.services.viewers import ViewerPass

_SPICE_PORT: Final = "5900"
"""a viewer wants one; the proxy does not look at it"""
VIRT_VIEWER: Final = "application/x-virt-viewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Where the relay is, and what the viewer is told beside the pass. `tls`: it has a
    certificate. `channels`: what the pool allows to cross."""

    host: str
    port: int
    title: str
    username: str
    tls: bool
    channels: Channels


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFile:
    media_type: str
    name: str
    text: str


def connection_file(given: ViewerPass, reach: Reach, pool_name: str) -> ConnectionFile:
    """The file for the pass; its secret is nowhere else."""
    write, media_type, suffix = _WRITERS[given.kind]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", pool_name).strip("-") or "desktop"
    return ConnectionFile(media_type=media_type, name=f"{stem}.{suffix}", text=write(given, reach))


def _vnc(given: ViewerPass, reach: Reach) -> str:
    """For virt-viewer; other viewers are given the lines by hand. The user name is asked for
    only where there is a certificate."""
    return _key_file(
        {
            "type": "vnc",
            "host": reach.host,
            "port": str(reach.port),
            **({"username": given.session_id} if reach.tls else {}),
            "password": given.secret,
            "title": reach.title,
            "delete-this-file": "1",
        }
    )


def _rdp(given: ViewerPass, reach: Reach) -> str:
    """For Microsoft's clients, FreeRDP and those that read the same. The pass works once, so
    there is no use in connecting again by itself. Of the viewer's machine is redirected what the
    pool's channels allow, and the sound, whatever the viewer's defaults are. RDP knows no
    direction of the clipboard: one that goes one way is left to the desktop."""
    host = f"[{reach.host}]" if ":" in reach.host else reach.host
    channels = reach.channels
    drives, devices = ("*" if allowed else "" for allowed in (channels.drives, channels.usb))
    lines = (
        f"full address:s:{host}:{reach.port}",
        f"loadbalanceinfo:s:trivium:{given.session_id}:{given.secret}",
        f"username:s:{reach.username}",
        "prompt for credentials:i:1",
        "authentication level:i:2",
        "autoreconnection enabled:i:0",
        "use redirection server name:i:0",
        f"redirectclipboard:i:{int(channels.clipboard is not Clipboard.OFF)}",
        f"drivestoredirect:s:{drives}",
        f"devicestoredirect:s:{devices}",
        f"usbdevicestoredirect:s:{devices}",
        f"redirectprinters:i:{int(channels.printing)}",
        "redirectcomports:i:0",
        "redirectsmartcards:i:0",
    )
    return "".join(f"{line}\r\n" for line in lines)


def _spice(given: ViewerPass, reach: Reach) -> str:
    """For virt-viewer: the session is a host that only the proxy knows."""
    scheme = "https" if reach.tls else "http"
    host = f"[{reach.host}]" if ":" in reach.host else reach.host
    return _key_file(
        {
            "type": "spice",
            "host": given.session_id,
            "port": _SPICE_PORT,
            "proxy": f"{scheme}://{given.session_id}:{given.secret}@{host}:{reach.port}",
            "title": reach.title,
            "delete-this-file": "1",
        }
    )


def _key_file(values: Mapping[str, str]) -> str:
    lines = (f"{key}={_one_line(value)}\n" for key, value in values.items())
    return "[virt-viewer]\n" + "".join(lines)


def _one_line(text: str) -> str:
    """As GLib's key files want it."""
    plain = "".join(letter for letter in text if letter.isprintable())
    return plain.replace("\\", "\\\\")


_WRITERS: Final[Mapping[ViewerKind, tuple[Callable[[ViewerPass, Reach], str], str, str]]] = {
    ViewerKind.VNC: (_vnc, VIRT_VIEWER, "vv"),
    ViewerKind.RDP: (_rdp, "application/x-rdp", "rdp"),
    ViewerKind.SPICE: (_spice, VIRT_VIEWER, "vv"),
}

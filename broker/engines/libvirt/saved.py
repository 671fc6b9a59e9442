"""libvirt's file of a saved machine: whose it is can be written anew.

The file begins with a header and the machine's description; its memory follows. libvirt itself
refuses to restore it as another machine (another UUID), which is just what an instant clone is;
so the description is replaced in place, within the room that libvirt leaves for edits.
The layout is that of libvirt's src/qemu/qemu_saveimage.h: magic, version, length of what follows
before the memory, whether it ran, compression, where the cookie begins.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from broker.domain.errors import EngineError
from broker.limits import LIBVIRT_XML_BYTES_MAX

_HEADER: Final = struct.Struct("<16s5I56x")
HEADER_BYTES: Final = _HEADER.size
_MAGIC: Final = b"LibvirtQemudSave"
_UNFINISHED: Final = b"LibvirtQemudPart"
"""until the last of the memory is written"""
_VERSION: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedHead:
    """What is before the memory. `room`: bytes for description and cookie."""

    room: int
    was_running: int
    compressed: int
    cookie_at: int

    @classmethod
    def read(cls, data: bytes) -> SavedHead:
        """Raises EngineError for what is not a whole file of a version that is known."""
        if len(data) != HEADER_BYTES:
            raise EngineError("the golden desktop's memory is cut short")
        magic, version, room, was_running, compressed, cookie_at = _HEADER.unpack(data)
        if magic != _MAGIC or version != _VERSION:
            raise EngineError("the golden desktop's memory is in a form that is not known")
        if room > LIBVIRT_XML_BYTES_MAX or cookie_at > room:
            raise EngineError("the golden desktop's memory is described wrongly")
        return cls(room=room, was_running=was_running, compressed=compressed, cookie_at=cookie_at)

    def description(self, body: bytes) -> str:
        """The machine's description, of the `room` bytes after the header. Raises EngineError."""
        try:
            return body.partition(b"\0")[0].decode()
        except UnicodeDecodeError:
            raise EngineError("the golden desktop's memory is described wrongly") from None

    def with_description(self, body: bytes, described: str) -> bytes:
        """Header and body with another description; the cookie stays. EngineError when it does
        not fit."""
        text = described.encode() + b"\0"
        cookie = b""
        if self.cookie_at:
            cookie = body[self.cookie_at :].partition(b"\0")[0] + b"\0"
        if len(text) + len(cookie) > self.room:
            raise EngineError("the desktop's description does not fit its golden desktop's")
        header = _HEADER.pack(
            _MAGIC, _VERSION, self.room, self.was_running, self.compressed,
            len(text) if cookie else 0,
        )  # fmt: skip
        return header + (text + cookie).ljust(self.room, b"\0")


def is_cut_short(header: bytes) -> bool:
    """Whether who wrote the file that begins so did not come to its end."""
    return len(header) < HEADER_BYTES or header.startswith(_UNFINISHED)

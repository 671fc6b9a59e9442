"""What real machines do and show, seen from beside the broker: serial ports, pictures, disks."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from tests.support.guest_machine import Screen
from tests.support.libvirt_lab import LibvirtLab, connected

SERIAL_HEARD_S: Final = 2.5
"""QEMU looks every second whether somebody reads the port"""
END: Final = "END"


@dataclass(frozen=True, slots=True)
class RealGuests:
    """The running machines of a lab, by the ids of their desktops."""

    lab: LibvirtLab

    @contextlib.contextmanager
    def serial(self, desktop_id: str) -> Iterator[Callable[[], str]]:
        """All that the guest writes to its serial port from now on."""
        with self._running(desktop_id) as (_, domain):
            path = _terminal(domain.XMLDesc(0))
        terminal = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        heard = bytearray()

        def text() -> str:
            with contextlib.suppress(BlockingIOError):
                while more := os.read(terminal, 4096):
                    heard.extend(more)
            return heard.decode(errors="replace")

        try:
            yield text
        finally:
            os.close(terminal)

    def screenshot(self, desktop_id: str) -> Screen:
        """What the machine itself says that it draws."""
        with self._running(desktop_id) as (connection, domain):
            stream = connection.newStream(0)
            domain.screenshot(stream, 0, 0)
            data = bytearray()
            while more := stream.recv(1 << 20):
                data += more
            stream.finish()
        return png(bytes(data))

    def volumes(self) -> dict[str, Path]:
        """The desktops' own disks, by name."""
        return {path.name: path for path in sorted(self.lab.first.guests.glob("dsk_*"))}

    def names(self) -> set[str]:
        """Of all machines, running or not, on both hosts."""
        found: set[str] = set()
        for host in (self.lab.first, self.lab.second):
            with connected(host) as connection:
                found |= {one.name() for one in connection.listAllDomains(0)}
        return found

    @contextlib.contextmanager
    def _running(self, desktop_id: str) -> Iterator[tuple[Any, Any]]:
        """The machine, with the connection to its host. AssertionError where it does not run."""
        for host in (self.lab.first, self.lab.second):
            with connected(host) as connection:
                for domain in connection.listAllDomains(0):
                    if domain.name() == f"trivium-{desktop_id}" and domain.isActive():
                        yield connection, domain
                        return
        raise AssertionError(f"{desktop_id} does not run")


def _terminal(described: str) -> str:
    """The pseudo-terminal of the machine's serial port."""
    lines = map(str.strip, described.splitlines())
    return next(line for line in lines if line.startswith("<source path='/dev/pts/")).split("'")[1]


def to_serial(command: str) -> str:
    """What is typed into the person's terminal, so that the command is heard at the serial port."""
    return f"{command} >/dev/ttyS0 2>&1;echo {END} >/dev/ttyS0\n"


def heard_of(text: str) -> str:
    """What the command printed, of all that came out of the serial port."""
    lines = text.split(END, maxsplit=1)[0].splitlines()
    return "\n".join(line for line in lines if line and not line.startswith("GUEST-"))


def png(data: bytes) -> Screen:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return Screen(width=picture.width, height=picture.height, pixels=picture.tobytes())


def difference(one: Screen, other: Screen) -> float:
    """The mean difference of two pictures' colours: 0 for the same ones, 1 for black and white."""
    assert (one.width, one.height) == (other.width, other.height)
    total = sum(abs(a - b) for a, b in zip(one.pixels, other.pixels, strict=True))
    return total / len(one.pixels) / 255

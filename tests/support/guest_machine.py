"""A machine in plain QEMU that runs the test guest, and the engine's end of its guest port."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from broker import guest_wire

GENEROUS_S = 180
"""for a condition to come true: the processor is emulated, and machines are shared"""
_LOOK_S = 0.1
_KEYS = {
    " ": "spc", "\n": "ret", "-": "minus", "/": "slash", ".": "dot", ";": "semicolon",
    "=": "equal", "'": "apostrophe",
}  # fmt: skip
_SHIFTED = {">": "dot", "|": "backslash", "&": "7", "%": "5", "+": "equal", "_": "minus", "*": "8"}
_ABSOLUTE = 32768
MEMORY_MIB = 256
TIME_JUMP_S = 86_400.0
WINDOW = (10, 10, 1000, 760)
"""where the person's terminal is on the whole desktop's screen; the clock is beside it"""
LETTER = (10, 20)
"""a letter in it"""


@dataclass(frozen=True, kw_only=True)
class Screen:
    """What the machine shows: three bytes for each pixel, by rows."""

    width: int
    height: int
    pixels: bytes

    @classmethod
    def read(cls, ppm: bytes) -> Self:
        kind, size, _depth, pixels = ppm.split(b"\n", 3)
        assert kind == b"P6"
        width, height = map(int, size.split())
        return cls(width=width, height=height, pixels=pixels)

    def area(self, x: int, y: int, width: int, height: int) -> tuple[bytes, ...]:
        """The rows of a part of it."""
        starts = [(row * self.width + x) * 3 for row in range(y, y + height)]
        return tuple(self.pixels[start : start + width * 3] for start in starts)


def window(screen: Screen) -> tuple[bytes, ...]:
    """The person's terminal; unlike the clock, it stands still while nobody types."""
    return screen.area(*WINDOW)


def letters(before: Screen, after: Screen, count: int) -> list[tuple[bytes, ...]]:
    """So many letters from the first one on that came into the person's terminal."""
    rows = enumerate(zip(window(before), window(after), strict=True), start=WINDOW[1])
    changed = [
        (x, y)
        for y, (old, new) in rows
        if old != new
        for x in range(WINDOW[2])
        if old[x * 3 : x * 3 + 3] != new[x * 3 : x * 3 + 3]
    ]
    left, top = WINDOW[0] + min(x for x, _ in changed), min(y for _, y in changed)
    return [after.area(left + LETTER[0] * place, top, *LETTER) for place in range(count)]


class EnginePort:
    """The engine's end of the guest port: keeps all that the guest has said."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._socket.settimeout(_LOOK_S)
        self._rest = b""
        self._next = 0
        self.heard: list[guest_wire.FromGuest] = []

    def close(self) -> None:
        self._socket.close()

    def tell(self, message: guest_wire.ToGuest) -> None:
        self._socket.sendall(guest_wire.encode(message))

    def _listen(self) -> None:
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return
        assert data, "the machine has gone"
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.heard += filter(None, map(guest_wire.decode, lines))

    def wait_for(
        self, what: str, wanted: Callable[[guest_wire.FromGuest], bool]
    ) -> guest_wire.FromGuest:
        """The next message that is wanted; what came before it is passed over."""
        deadline = time.monotonic() + GENEROUS_S
        while True:
            while self._next < len(self.heard):
                self._next += 1
                if wanted(self.heard[self._next - 1]):
                    return self.heard[self._next - 1]
            self._listen()
            assert time.monotonic() < deadline, f"no {what} among {self.heard[-5:]}"

    def state(self, what: str, wanted: Callable[[guest_wire.State], bool]) -> guest_wire.State:
        found = self.wait_for(what, lambda one: isinstance(one, guest_wire.State) and wanted(one))
        assert isinstance(found, guest_wire.State)
        return found

    def hello(self) -> guest_wire.Hello:
        found = self.wait_for("hello", lambda one: isinstance(one, guest_wire.Hello))
        assert isinstance(found, guest_wire.Hello)
        return found

    def ask(self, ask: guest_wire.Ask) -> guest_wire.Done:
        self.tell(ask)
        found = self.wait_for(
            "answer", lambda one: isinstance(one, guest_wire.Done) and one.id == ask.id
        )
        assert isinstance(found, guest_wire.Done)
        return found

    def identify(
        self, desktop_id: str, generation: int, *, name: str, time_s: float | None = None
    ) -> guest_wire.State:
        """Say who the desktop is; its first State as that desktop in which it is ready."""
        self.tell(
            guest_wire.Identify(
                desktop_id=desktop_id,
                generation=generation,
                name=name,
                time_ms=int((time.time() if time_s is None else time_s) * 1000),
                seed="5c" * 32,
            )
        )
        return self.state(
            f"state of generation {generation}",
            lambda one: (
                (one.desktop_id, one.generation, one.ready) == (desktop_id, generation, True)
            ),
        )


class GuestMachine:
    """One machine. `disk` is written to; `memory`: saved by `save`, resumed in place of a boot."""

    def __init__(self, disk: Path, *, memory: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="guest")  # a socket's path is short
        self._at = Path(self._folder.name)
        command = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "pc",
            "-accel", "tcg", "-cpu", "qemu64", "-m", str(MEMORY_MIB), "-vga", "std",
            "-drive", f"file={disk},format=qcow2,if=virtio,cache=unsafe",
            "-device", "virtio-serial",
            "-chardev", f"socket,id=guest,path={self._at}/guest,server=on,wait=off",
            "-device", f"virtserialport,chardev=guest,name={guest_wire.PORT_NAME}",
            "-netdev", "user,id=net,restrict=on",
            "-device", "virtio-net-pci,id=card,netdev=net,romfile=",
            "-device", "qemu-xhci", "-device", "usb-tablet",
            "-vnc", f"unix:{self._at}/vnc", "-serial", f"file:{self._at}/serial",
            "-qmp", f"unix:{self._at}/qmp,server=on,wait=off",
        ]  # fmt: skip
        if memory is not None:
            command += ["-incoming", f"exec:cat {memory}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            self._qmp, self._answers = self._connect()
            self._say("qmp_capabilities")
            self.port = EnginePort(self._at / "guest")
            if memory is not None:
                self.wait(lambda: self._say("query-status")["status"] != "inmigrate", "resume")
                self._say("cont")
        except BaseException:
            self.process.kill()
            raise

    def _connect(self) -> tuple[socket.socket, BinaryIO]:
        deadline = time.monotonic() + GENEROUS_S
        while True:
            assert self.process.poll() is None, "QEMU has ended"
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                one.connect(str(self._at / "qmp"))
            except OSError:
                one.close()
                assert time.monotonic() < deadline
                time.sleep(_LOOK_S)
            else:
                answers = one.makefile("rb")
                answers.readline()
                return one, answers

    def _say(self, execute: str, **arguments: object) -> Any:
        self._qmp.sendall(json.dumps({"execute": execute, "arguments": arguments}).encode())
        while line := self._answers.readline():
            said = json.loads(line)
            assert "error" not in said, said
            if "return" in said:
                return said["return"]
        raise AssertionError("QEMU has gone")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + GENEROUS_S
        while not condition():
            assert time.monotonic() < deadline, f"no {what}; serial: {self.serial()[-500:]}"
            time.sleep(_LOOK_S)

    def serial(self) -> str:
        """What came out of the serial port: the guest's markers, and what is typed to go there."""
        return (self._at / "serial").read_text(errors="replace")

    def screen(self) -> Screen:
        shot = self._at / "shot.ppm"
        self._say("screendump", filename=str(shot))
        return Screen.read(shot.read_bytes())

    def type(self, text: str) -> None:
        """Press these keys, one after the other."""
        for letter in text:
            key = _KEYS.get(letter) or _SHIFTED.get(letter) or letter.lower()
            keys = ["shift", key] if letter in _SHIFTED or letter.isupper() else [key]
            self._say(
                "send-key", keys=[{"type": "qcode", "data": each} for each in keys],
                **{"hold-time": 30},
            )  # fmt: skip
            time.sleep(0.08)  # past the hold time: an emulated keyboard holds few keys

    def point(self, x: int, y: int) -> None:
        """Put the pointer there, as a display's client does."""
        screen = self.screen()
        self._say(
            "input-send-event",
            events=[
                {"type": "abs", "data": {"axis": axis, "value": place * _ABSOLUTE // size}}
                for axis, place, size in (("x", x, screen.width), ("y", y, screen.height))
            ],
        )

    def answer(self, command: str) -> str:
        """What a command prints that is typed into the person's terminal."""
        begun = len(self.serial())
        self.type(f"{command} >/dev/ttyS0 2>&1;echo END >/dev/ttyS0\n")
        self.wait(lambda: "END" in self.serial()[begun:], command)
        lines = self.serial()[begun:].split("END")[0].splitlines()
        return "\n".join(line for line in lines if line and not line.startswith("GUEST-"))

    def reconnect(self) -> None:
        """Let the engine go and come back."""
        self.port.close()
        self.port = EnginePort(self._at / "guest")

    def save(self, memory: Path) -> None:
        """Save the machine's memory and end it: `disk` and `memory` belong together then."""
        self._say("stop")
        self._say("migrate", uri=f"exec:cat > {memory}")
        self.wait(lambda: self._say("query-migrate").get("status") == "completed", "saved memory")
        self._say("quit")
        self.end()

    def stand_still(self, seconds: float) -> None:
        """Hold the whole machine, its clock too, and let it go on: its port stays open."""
        self._say("stop")
        time.sleep(seconds)
        self._say("cont")

    def change_card(self, address: str) -> None:
        """Pull the network card out and put another one in, with this hardware address."""
        self._say("device_del", id="card")
        self.wait(lambda: '"card"' not in json.dumps(self._say("query-pci")), "pulled card")
        self._say(
            "device_add", driver="virtio-net-pci", id="card2", netdev="net", mac=address, romfile=""
        )

    def press_power(self) -> None:
        self._say("system_powerdown")

    def end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0)
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(GENEROUS_S)
        self.port.close()
        self._answers.close()
        self._qmp.close()
        self._folder.cleanup()


def overlay(base: Path, disk: Path) -> Path:
    """A disk of its own that begins as `base`."""
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, disk], check=True
    )
    return disk


@contextlib.contextmanager
def machine(disk: Path, *, memory: Path | None = None) -> Iterator[GuestMachine]:
    one = GuestMachine(disk, memory=memory)
    try:
        yield one
    finally:
        one.end()

"""The guest agent at a real socket or device: engines that come, go, or do not read."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.guest import core, limits
from agents.guest.clock import Clock
from agents.guest.core import Agent
from agents.guest.machine import Machine, Observation, Outcome
from agents.guest.messages import Ask, Identify
from agents.guest.port import Port
from agents.guest.shell import Outbox, Shell
from broker import guest_wire
from tools.guest import agent as packaging

DEADLINE_S = 30


class PretendMachine(Machine):
    """A machine that does what it is told and remembers it."""

    def __init__(self) -> None:
        self.adopted: list[Identify] = []
        self.told_ms: list[int] = []
        self.seen = Observation(ready=True, user="ann")

    def boot_id(self) -> str:
        return "b1"

    def system(self) -> str:
        return "Pretend"

    def observe(self) -> Observation:
        return self.seen

    def adopt(self, identity: Identify, *, changed: bool) -> str:
        if changed:
            self.adopted.append(identity)
        return ""

    def keep_time(self, told_ms: int) -> None:
        self.told_ms.append(told_ms)

    def perform(self, ask: Ask) -> Outcome:
        if ask.what == "break":
            raise RuntimeError("planted")
        return Outcome(ok=True, detail=ask.what)


class Engine:
    """The engine's end: a listening socket, as QEMU's."""

    def __init__(self, path: Path) -> None:
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(str(path))
        self.listening.listen()
        self.listening.settimeout(0.05)
        self.line: socket.socket | None = None
        self.rest = b""

    def close(self) -> None:
        if self.line is not None:
            self.line.close()
        self.listening.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    one = Engine(tmp_path / "port")
    yield one
    one.close()


@pytest.fixture
def machine() -> PretendMachine:
    return PretendMachine()


@pytest.fixture
def shell(tmp_path: Path, engine: Engine, machine: PretendMachine) -> Iterator[Shell]:
    clock = Clock()
    port = Port(tmp_path / "port", clock)
    agent = Agent(boot_id="b1", system="Pretend", version="1")
    yield Shell(agent=agent, machine=machine, port=port, clock=clock)
    port.close()


def hear(shell: Shell, engine: Engine, wanted: type, count: int = 1) -> list[guest_wire.FromGuest]:
    """Turn the shell until the engine has heard so many messages of a kind."""
    found: list[guest_wire.FromGuest] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(found) < count:
        assert time.monotonic() < deadline, found
        shell.turn()
        if engine.line is None:
            try:
                engine.line, _ = engine.listening.accept()
            except TimeoutError:
                continue
            engine.line.setblocking(False)
        try:
            engine.rest += engine.line.recv(65536)
        except BlockingIOError:
            continue
        *lines, engine.rest = engine.rest.split(b"\n")
        heard = [guest_wire.decode(line) for line in lines]
        found += [each for each in heard if each is not None and isinstance(each, wanted)]
    return found


def tell(engine: Engine, message: guest_wire.ToGuest) -> None:
    assert engine.line is not None
    engine.line.sendall(guest_wire.encode(message))


IDENTITY = guest_wire.Identify(desktop_id="d1", generation=3, name="LAB-3", time_ms=5)


def test_a_desktop_is_identified_and_reports(
    shell: Shell, engine: Engine, machine: PretendMachine
) -> None:
    hear(shell, engine, guest_wire.Hello)
    tell(engine, IDENTITY)
    (state,) = hear(shell, engine, guest_wire.State)
    assert isinstance(state, guest_wire.State)
    assert (state.desktop_id, state.generation, state.user) == ("d1", 3, "ann")
    assert [each.name for each in machine.adopted] == ["LAB-3"]
    tell(engine, guest_wire.Time(time_ms=77))
    tell(engine, guest_wire.Ask(id="a1", what="lock"))
    hear(shell, engine, guest_wire.Done)
    assert machine.told_ms == [77]


def test_a_request_is_answered_also_when_the_agent_fails_at_it(
    shell: Shell, engine: Engine
) -> None:
    hear(shell, engine, guest_wire.Hello)
    tell(engine, guest_wire.Ask(id="a1", what="lock"))
    assert hear(shell, engine, guest_wire.Done) == [
        guest_wire.Done(id="a1", ok=True, detail="lock")
    ]
    tell(engine, guest_wire.Ask(id="a2", what="break"))
    (done,) = hear(shell, engine, guest_wire.Done)
    assert isinstance(done, guest_wire.Done)
    assert (done.id, done.ok) == ("a2", False)
    assert "planted" not in done.detail


def test_an_engine_that_goes_and_comes_back_is_greeted_anew(shell: Shell, engine: Engine) -> None:
    hear(shell, engine, guest_wire.Hello)
    tell(engine, IDENTITY)
    hear(shell, engine, guest_wire.State)
    assert engine.line is not None
    engine.line.close()
    engine.line, engine.rest = None, b""
    (hello,) = hear(shell, engine, guest_wire.Hello)
    assert isinstance(hello, guest_wire.Hello)
    assert hello.generation == 3


def test_an_engine_that_does_not_read_holds_nothing_up(
    shell: Shell, engine: Engine, machine: PretendMachine
) -> None:
    hear(shell, engine, guest_wire.Hello)
    tell(engine, IDENTITY)
    hear(shell, engine, guest_wire.State)
    for number in range(3000):
        machine.seen = Observation(ready=True, user=f"u{number}", detail="x" * 300)
        shell._observe()
        shell._outbox.flush(shell._port)
    assert shell._outbox
    tell(engine, guest_wire.Ask(id="a1", what="lock"))
    (done,) = hear(shell, engine, guest_wire.Done)
    assert isinstance(done, guest_wire.Done)
    machine.seen = Observation(ready=False, user="last")
    states = hear(shell, engine, guest_wire.State)
    assert isinstance(states[-1], guest_wire.State)
    assert states[-1].user == "last"


def test_half_a_line_is_not_carried_over_to_the_next_engine(
    shell: Shell, engine: Engine, machine: PretendMachine
) -> None:
    hear(shell, engine, guest_wire.Hello)
    tell(engine, IDENTITY)
    hear(shell, engine, guest_wire.State)
    for number in range(3000):
        machine.seen = Observation(ready=True, user=f"u{number}", detail="x" * 300)
        shell._observe()
        shell._outbox.flush(shell._port)
    assert engine.line is not None
    engine.line.close()
    engine.line = None
    deadline = time.monotonic() + DEADLINE_S
    heard = b""
    while b"}" not in heard:
        assert time.monotonic() < deadline
        shell.turn()
        try:
            if engine.line is None:
                engine.line, _ = engine.listening.accept()
                engine.line.setblocking(False)
            heard += engine.line.recv(65536)
        except (TimeoutError, BlockingIOError):
            continue
    assert heard.startswith(b'\n{"type":"hello"')


def test_a_device_that_takes_nothing_more_does_not_hold_the_agent_up() -> None:
    master, device = os.openpty()
    tty.setraw(device)
    port = Port(Path(os.ttyname(device)), Clock())
    port.wait(1.0, writable=True)
    assert port.connected
    while port.write(b"x" * 4096):
        pass
    assert port.connected
    port.close()
    os.close(master)
    os.close(device)


def test_the_outbox_is_bounded_and_keeps_the_newest_state() -> None:
    outbox = Outbox()
    for number in range(limits.OUTBOX_LINES_MAX * 2):
        outbox.put(core.Say(b"done%d\n" % number))
        outbox.put(core.Say(b"state%d\n" % number, "state"))
    lines = [each.line for each in outbox._waiting]
    assert len(lines) == limits.OUTBOX_LINES_MAX
    last = limits.OUTBOX_LINES_MAX * 2 - 1
    assert [line for line in lines if line.startswith(b"state")] == [b"state%d\n" % last]


def test_a_missing_port_is_waited_for(tmp_path: Path) -> None:
    port = Port(tmp_path / "port", Clock())
    seen = [(port.wait(0.0, writable=False), port.connected)]
    one = Engine(tmp_path / "port")
    deadline = time.monotonic() + DEADLINE_S
    while not seen[-1][1]:
        assert time.monotonic() < deadline
        seen.append((port.wait(0.1, writable=True), port.connected))
    assert seen[0] == (b"", False)
    port.close()
    one.close()


def test_the_agent_runs_from_one_file_without_anything_installed(tmp_path: Path) -> None:
    one = Engine(tmp_path / "port")
    packaging.archive(tmp_path / "guest.pyz")
    assert stat.S_IMODE((tmp_path / "guest.pyz").stat().st_mode) & 0o100
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", tmp_path / "guest.pyz", "--port", tmp_path / "port",
         "--config", tmp_path / "none"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    one.listening.settimeout(DEADLINE_S)
    line, _ = one.listening.accept()
    line.settimeout(DEADLINE_S)
    heard = b""
    while heard.count(b"\n") < 2:
        heard += line.recv(4096)
    hello = guest_wire.decode(heard.split(b"\n")[1])
    assert isinstance(hello, guest_wire.Hello)
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    line.close()
    one.close()

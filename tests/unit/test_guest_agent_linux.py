"""What the guest agent does on a Linux machine, as far as a test may."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.guest import config, helpers, inputs, limits, network, sessions
from agents.guest.clock import Clock
from agents.guest.idle import IdleProgram
from agents.guest.linux import Linux, host_name
from agents.guest.machine import Outcome
from agents.guest.messages import Ask, Identify
from broker.limits import GUEST_INPUT_S

DEADLINE_S = 30
STUBBORN = """
import signal, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


class SetClock(Clock):
    """A clock that a test may set."""

    def __init__(self, *, kept: bool | None = False) -> None:
        self.now = 1_000_000.0
        self.kept = kept
        self.slewed: list[float] = []
        self.since_start = 0.0

    def monotonic(self) -> float:
        return self.since_start

    def is_kept(self) -> bool | None:
        return self.kept

    def slew(self, seconds: float) -> None:
        self.slewed.append(round(seconds, 3))

    def wall(self) -> float:
        return self.now

    def set_wall(self, seconds: float) -> None:
        self.now = seconds


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="guest") as name:  # a socket's path is short
        for folder in ("dev/input", "etc", "run", "tmp/.X11-unix"):
            (Path(name) / folder).mkdir(parents=True)
        yield Path(name)


@pytest.fixture
def given_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The host names that were set; the test's own machine keeps its."""
    names: list[str] = []
    monkeypatch.setattr(socket, "sethostname", names.append)
    return names


def helper(folder: Path, name: str, text: str) -> str:
    """A program that the agent may be told to run."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def adopt(linux: Linux, **changes: object) -> str:
    fields = {"desktop_id": "d1", "generation": 2, "name": "LAB 2/α", "time_ms": 1_000_000_500}
    return linux.adopt(Identify(**{**fields, **changes}), changed=True)  # type: ignore[arg-type]


def test_the_clock_is_set_only_when_it_is_off(root: Path, given_name: list[str]) -> None:
    clock = SetClock()
    linux = Linux(config.Config(), clock, root)
    assert adopt(linux) == ""
    assert clock.now == 1_000_000.0
    assert adopt(linux, time_ms=1_000_100_000) == ""
    assert clock.now == 1_000_100.0


def test_a_clock_that_may_not_be_set_is_told(root: Path, given_name: list[str]) -> None:
    class Locked(SetClock):
        def set_wall(self, seconds: float) -> None:
            raise PermissionError

    linux = Linux(config.Config(), Locked(), root)
    adopt(linux, time_ms=1_000_100_000)
    assert "100 s and could not be set" in linux.observe().detail
    linux.keep_time(1_000_000_000)
    assert "clock" not in linux.observe().detail


def test_the_time_that_is_told_corrects_the_clock_unless_a_daemon_keeps_it(root: Path) -> None:
    clock = SetClock()
    linux = Linux(config.Config(), clock, root)
    linux.keep_time(1_000_030_000)
    assert (clock.now, clock.slewed) == (1_000_030.0, [])
    linux.keep_time(1_000_030_500)
    assert (clock.now, clock.slewed) == (1_000_030.0, [0.5])
    clock.kept = True
    linux.keep_time(1_000_099_000)
    assert (clock.now, clock.slewed) == (1_000_030.0, [0.5])


def test_a_clock_of_which_nobody_can_say_who_keeps_it_is_left_and_told(root: Path) -> None:
    clock = SetClock(kept=None)
    linux = Linux(config.Config(), clock, root)
    linux.keep_time(1_000_030_000)
    assert clock.now == 1_000_000.0
    assert "off by 30 s, and whether a time daemon keeps it" in linux.observe().detail


@pytest.mark.parametrize(
    ("kept", "woken", "changed", "set_to"),
    [
        (True, False, True, 1_000_000.0),  # it has just begun, and knows the time
        (None, False, True, 1_000_100.0),
        (False, False, False, 1_000_100.0),
        (True, False, False, 1_000_000.0),
        (True, True, False, 1_000_100.0),  # the daemon's word is of before it was saved
        (True, True, True, 1_000_100.0),
    ],
)
def test_a_daemon_that_keeps_the_clock_is_believed_unless_its_machine_was_woken(
    kept: bool | None,
    woken: bool,
    changed: bool,
    set_to: float,
    root: Path,
    given_name: list[str],
) -> None:
    clock = SetClock(kept=kept)
    identity = Identify(
        desktop_id="d1", generation=2, name="LAB", time_ms=1_000_100_000, woken=woken
    )
    Linux(config.Config(), clock, root).adopt(identity, changed=changed)
    assert clock.now == set_to


def test_a_machine_that_begins_ahead_is_put_back_at_once(root: Path, given_name: list[str]) -> None:
    clock = SetClock()
    adopt(Linux(config.Config(), clock, root), time_ms=999_990_000)
    assert clock.now == 999_990.0


def test_this_machines_kernel_tells_whether_its_clock_is_kept() -> None:
    told = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    # TIME_ERROR (5) is what adjtimex answers of a clock that nobody keeps
    assert Clock().is_kept() == (None if told < 0 else told != 5)


def test_the_host_gets_the_desktops_name_now_and_after_a_restart(
    root: Path, given_name: list[str]
) -> None:
    assert adopt(Linux(config.Config(), SetClock(), root)) == ""
    assert given_name == ["LAB-2"]
    assert (root / "etc" / "hostname").read_text() == "LAB-2\n"


@pytest.mark.parametrize(
    ("name", "host"),
    [("a" * 80, "a" * 63), ("-x-", "x"), ("李", ""), ("a..b", "a-b"), ("a" * 62 + " b", "a" * 62)],
)
def test_a_desktops_name_becomes_a_host_name(name: str, host: str) -> None:
    assert host_name(name) == host


def test_a_hook_runs_when_this_became_another_desktop(
    root: Path, tmp_path: Path, given_name: list[str]
) -> None:
    hook = helper(tmp_path, "hook", f'echo "$TRIVIUM_DESKTOP_ID $TRIVIUM_GENERATION" >{tmp_path}/o')
    linux = Linux(config.Config(identified=(hook,)), SetClock(), root)
    adopt(linux)
    deadline = time.monotonic() + DEADLINE_S
    while not ((tmp_path / "o").exists() and (tmp_path / "o").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (tmp_path / "o").read_text() == "d1 2\n"


def test_of_many_identities_the_newest_is_told_to_the_hook_and_one_at_a_time(
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    text = f'echo "$N" >>{tmp_path}/o; until [ -e {go} ]; do sleep 0.05; done'
    hook = helpers.Hook((helper(tmp_path, "hook", text),))
    hook.start({"N": "0"})
    deadline = time.monotonic() + DEADLINE_S
    while not (tmp_path / "o").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for number in range(1, 50):
        hook.start({"N": str(number)})
    go.touch()
    while hook._running:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (tmp_path / "o").read_text() == "0\n49\n"


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_program_can_be_given_does_not_stop_the_hook(
    tmp_path: Path, name: str
) -> None:
    hook = helpers.Hook((helper(tmp_path, "hook", f'echo "$N" >{tmp_path}/o'),))
    deadline = time.monotonic() + DEADLINE_S
    for each in (name, "next"):
        hook.start({"N": each})
        while hook._running:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert (tmp_path / "o").read_text() == "next\n"


def test_a_message_with_half_a_letter_is_shown_all_the_same(root: Path) -> None:
    linux = Linux(config.Config(message=("cat",)), SetClock(), root)
    assert linux.perform(Ask(id="a", what="message", text="\ud800")).ok


def test_a_policy_is_written_whole_and_its_hook_told(root: Path, tmp_path: Path) -> None:
    hook = helper(tmp_path, "hook", f'cat "$TRIVIUM_POLICY" >{tmp_path}/o')
    linux = Linux(config.Config(policy=(hook,)), SetClock(), root)
    done = linux.perform(Ask(id="a", what="policy", settings={"usb": "off"}))
    assert done == Outcome(ok=True)
    assert json.loads((tmp_path / "o").read_text()) == {"usb": "off"}


def test_a_message_comes_to_its_helper_without_what_could_upset_a_terminal(
    root: Path, tmp_path: Path
) -> None:
    command = helper(tmp_path, "show", f'cat >{tmp_path}/o; echo "$TRIVIUM_SENDER" >>{tmp_path}/o')
    linux = Linux(config.Config(message=(command,)), SetClock(), root)
    ask = Ask(id="a", what="message", text="--help\n\x1b[2JNoon; $(id)", sender="A\nnn")
    assert linux.perform(ask).ok
    assert (tmp_path / "o").read_text() == "--help\n[2JNoon; $(id)\nA nn\n"


def test_a_message_that_stays_on_the_screen_counts_as_shown(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHOWN_S", 0.2)
    shown = helpers.Shown()
    for _ in range(limits.MESSAGES_MAX + 1):
        assert shown.show(("sleep", "60"), text="", sender="").ok
    assert len(shown._children) == limits.MESSAGES_MAX
    for child in shown._children:
        child.kill()
        child.wait()


@pytest.mark.parametrize("command", [("/no/such/helper",), ("false",)])
def test_a_helper_that_fails_is_told(root: Path, command: tuple[str, ...]) -> None:
    linux = Linux(config.Config(message=command), SetClock(), root)
    done = linux.perform(Ask(id="a", what="message", text="x"))
    assert not done.ok
    assert command[0] in done.detail


def test_a_helper_has_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMMAND_S", 0.1)
    done = helpers.run(("sleep", "60"))
    assert (done.ok, done.detail) == (False, "sleep took longer than 0.1 s")


# ------------------------------------------------------------------------ who is there


def utmp(kind: int, process: int, line: str, user: str) -> bytes:
    return struct.pack(
        "hi32s4s32s256shhiii16s20x", kind, process, line.encode(), b"", user.encode(),
        b"", 0, 0, 0, 0, 0, b"",
    )  # fmt: skip


def test_who_is_logged_on_is_read_from_utmp(root: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    (root / "run" / "utmp").write_bytes(
        utmp(2, 0, "~", "reboot")
        + utmp(7, gone.pid, "pts/8", "bob")
        + utmp(7, os.getpid(), "pts/0", "ann")
        + b"half an entry"
    )
    assert sessions.logged_on(root) == [sessions.Session("ann", os.getpid(), "pts/0")]


def test_who_is_logged_on_is_read_from_systemd_where_it_runs(root: Path) -> None:
    folder = root / "run" / "systemd" / "sessions"
    folder.mkdir(parents=True)
    (folder / "1").write_text("UID=120\nUSER=gdm\nCLASS=greeter\nSTATE=online\n")
    (folder / "2").write_text("UID=1000\nUSER=ann\nCLASS=user\nSTATE=active\nTTY=tty2\nLEADER=77\n")
    (folder / "3").write_text("UID=1001\nUSER=bob\nCLASS=user\nSTATE=closing\n")
    assert sessions.logged_on(root) == [sessions.Session("ann", 77, "tty2")]


def test_a_session_that_ignores_hang_up_is_ended_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HANG_UP_S", 0.2)
    monkeypatch.setattr(limits, "END_S", 0.4)
    stubborn = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    stubborn.stdout.close()
    done = sessions.end(lambda: [] if stubborn.poll() is not None else [stubborn.pid], Clock())
    assert done == Outcome(ok=True)
    assert stubborn.returncode == -9


def test_log_off_never_touches_the_systems_own_programs() -> None:
    everything_of_root = sessions.processes(sessions.Session("root", 0))
    assert everything_of_root == []
    own = sessions.processes(sessions.Session("root", os.getpid()))
    assert own == [os.getpid()]


def test_log_off_with_nobody_there_is_done(root: Path) -> None:
    done = Linux(config.Config(), SetClock(), root).perform(Ask(id="a", what="log_off"))
    assert done == Outcome(ok=True, detail="nobody was logged on")


def test_ready_waits_for_a_display_that_takes_connections(root: Path) -> None:
    linux = Linux(config.Config(), SetClock(), root)
    assert linux.observe().detail == "no display yet"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as display:
        display.bind(str(root / "tmp" / ".X11-unix" / "X0"))
        assert not linux.observe().ready
        display.listen()
        assert linux.observe().ready


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_ready_waits_for_who_listens_at_a_port_without_knocking(
    root: Path, family: socket.AddressFamily, address: str
) -> None:
    (root / "proc").symlink_to("/proc")
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind((address, 0))
        server.settimeout(0.0)
        settings = config.Config(display=f"tcp:{server.getsockname()[1]}")
        linux = Linux(settings, SetClock(), root)
        (root / "run" / "utmp").write_bytes(utmp(7, os.getpid(), "pts/0", "ann"))
        assert linux.observe().detail == "no display yet"
        server.listen()
        assert linux.observe().ready
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("text", ["tcp:", "tcp:0", "tcp:65536", "tcp:rdp", "tcp:-1"])
def test_a_port_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "conf"
    file.write_text(f"[session]\ndisplay = {text}\n")
    with pytest.raises(config.ConfigError):
        config.read(file)


def test_ready_waits_for_the_file_that_the_session_makes(root: Path, tmp_path: Path) -> None:
    (root / "run" / "utmp").write_bytes(utmp(7, os.getpid(), "pts/0", "ann"))
    linux = Linux(config.Config(ready_file=str(tmp_path / "up")), SetClock(), root)
    assert not linux.observe().ready
    (tmp_path / "up").touch()
    assert linux.observe() == linux.observe()._replace(ready=True, user="ann", detail="")


def test_idle_is_the_time_since_any_input_device_spoke(root: Path) -> None:
    os.mkfifo(root / "dev" / "input" / "event0")
    watch = inputs.Inputs(root / "dev" / "input", now=100.0)
    assert watch.idle_s(110.0) == 10.0
    with (root / "dev" / "input" / "event0").open("wb", buffering=0) as key:
        key.write(b"a key")
        assert watch.idle_s(120.0) == 0.0
        assert watch.idle_s(125.0) == 5.0
    watch.touched(200.0)
    assert watch.idle_s(201.0) == 1.0
    for descriptor in watch._open.values():
        os.close(descriptor)


def test_another_desktops_idle_time_begins_anew(root: Path, given_name: list[str]) -> None:
    class Later(SetClock):
        passed = 0.0

        def monotonic(self) -> float:
            return self.passed

    os.mkfifo(root / "dev" / "input" / "event0")
    clock = Later()
    linux = Linux(config.Config(), clock, root)
    clock.passed = 5000.0
    assert linux.observe().idle_s == 5000.0
    adopt(linux)
    assert linux.observe().idle_s == 0.0
    for descriptor in linux._inputs._open.values():
        os.close(descriptor)


def test_idle_is_unknown_where_no_input_can_be_watched(root: Path) -> None:
    assert inputs.Inputs(root / "dev" / "input", now=0.0).idle_s(10.0) is None


def test_only_addresses_that_others_reach_are_told() -> None:
    table = (
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fe80000000000000505400fffe123456 02 40 20 80     eth0\n"
        "fd000000000000000000000000000007 02 40 00 80     eth0\n"
    )
    assert network.ipv6(table) == ["fd00::7"]
    assert "127.0.0.1" not in network.addresses()


# ------------------------------------------------------------------------------- its settings


def test_settings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("[commands]\nmessage = show --for 'a while'\n[session]\nready_file = /run/up\n")
    assert config.read(path) == config.Config(
        message=("show", "--for", "a while"), ready_file="/run/up"
    )


def test_no_settings_are_needed(tmp_path: Path) -> None:
    assert config.read(tmp_path / "none") == config.Config()


@pytest.mark.parametrize(
    "text", ["[commands]\nmesage = x\n", "[other]\n", "nonsense", "[commands]\nlock = 'open\n"]
)
def test_a_setting_that_does_not_exist_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "conf"
    path.write_text(text)
    with pytest.raises(config.ConfigError):
        config.read(path)


def asked_for_idle(root: Path, tmp_path: Path, prints: str) -> tuple[float | None, bool]:
    """What is observed once the program has ended."""
    ran = tmp_path / "ran"
    program = helper(tmp_path, "idle", f"{prints}; echo >{ran}")
    linux = Linux(config.Config(idle=(program,)), SetClock(), root)
    assert linux.observe().idle_s is None
    deadline = time.monotonic() + DEADLINE_S
    while not ran.exists() or linux._idle_program is None or linux._idle_program._running:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    seen = linux.observe()
    return seen.idle_s, seen.idle_whole


def test_a_program_may_tell_the_idle_time_of_every_way_in(root: Path, tmp_path: Path) -> None:
    assert asked_for_idle(root, tmp_path, "echo 42.5") == (42.5, True)


@pytest.mark.parametrize("prints", ["echo soon", "echo -1", "echo nan", "true"])
def test_a_program_that_tells_no_number_leaves_the_idle_time_unknown(
    root: Path, tmp_path: Path, prints: str
) -> None:
    assert asked_for_idle(root, tmp_path, prints) == (None, True)


def test_what_a_program_told_long_ago_says_nothing(root: Path, tmp_path: Path) -> None:
    clock = SetClock()
    program = IdleProgram((helper(tmp_path, "idle", "echo 3"),), clock)
    deadline = time.monotonic() + DEADLINE_S
    while program.idle_s(0.0, "ann") is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    program._due = 1e9
    assert program.idle_s(limits.IDLE_OLD_S, "ann") == 3.0
    assert program.idle_s(limits.IDLE_OLD_S + 1, "ann") is None
    assert limits.IDLE_OLD_S < GUEST_INPUT_S


def test_the_idle_time_of_the_devices_is_not_of_every_way_in(root: Path) -> None:
    assert not Linux(config.Config(), SetClock(), root).observe().idle_whole

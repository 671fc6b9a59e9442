"""A Linux machine, as far as the agent needs one."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import socket
import struct
from pathlib import Path

from agents.guest import helpers, limits, network, sessions
from agents.guest.clock import Clock
from agents.guest.config import TCP, Config
from agents.guest.idle import IdleProgram
from agents.guest.inputs import Inputs
from agents.guest.machine import Machine, Observation, Outcome
from agents.guest.messages import Ask, Identify
from agents.guest.timekeeping import Timekeeper

_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NOT_HOST_NAME = re.compile(r"[^A-Za-z0-9-]+")


def host_name(name: str) -> str:
    """A desktop's name as a host name (RFC 1123); empty if nothing of it can be one."""
    return _NOT_HOST_NAME.sub("-", name).strip("-")[: limits.HOST_NAME_CHARS_MAX].rstrip("-")


class Linux(Machine):
    """`root`: where its files are; anything but / is for tests."""

    def __init__(self, config: Config, clock: Clock, root: Path = Path("/")) -> None:
        self._config = config
        self._clock = clock
        self._root = root
        self._inputs = Inputs(root / "dev" / "input", clock.monotonic())
        self._shown = helpers.Shown()
        self._identified = helpers.Hook(config.identified)
        self._idle_program = IdleProgram(config.idle, clock) if config.idle else None
        self._timekeeper = Timekeeper()
        self._clock_problem = ""

    def boot_id(self) -> str:
        return (self._root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def system(self) -> str:
        try:
            text = (self._root / "etc/os-release").read_text(encoding="utf-8")
        except (OSError, ValueError):
            text = ""
        pretty = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
        kernel = f"Linux {platform.release()}"
        return f"{pretty[1]}, {kernel}" if pretty else kernel

    # ------------------------------------------------------------------------------ observing

    def observe(self) -> Observation:
        now = self._clock.monotonic()
        there = sessions.logged_on(self._root)
        waiting = self._waiting_for(there)
        user = there[0].user if there else ""
        whole = self._idle_program is not None
        idle_s = self._idle_program.idle_s(now, user) if self._idle_program is not None else None
        return Observation(
            ready=not waiting,
            user=user,
            idle_s=idle_s if whole else self._idle_s(now, there),
            idle_whole=whole,
            addresses=network.addresses(),
            detail="; ".join(filter(None, (waiting, self._clock_problem))),
        )

    def _waiting_for(self, there: list[sessions.Session]) -> str:
        """What is missing until somebody can work here; empty if nothing is."""
        if not self._has_display() and (self._config.display or not there):
            return "no display yet"
        if self._config.ready_file and not Path(self._config.ready_file).exists():
            return "no session yet"
        return ""

    def _has_display(self) -> bool:
        wanted = self._config.display
        if wanted.startswith(TCP):
            return network.listens(int(wanted[len(TCP) :]), self._root)
        if wanted:
            return _takes_connections(self._root / wanted.lstrip("/"))
        displays = [
            *(self._root / "tmp" / ".X11-unix").glob("X*"),
            *(self._root / "run" / "user").glob("*/wayland-?"),
        ]
        return any(map(_takes_connections, displays))

    def _idle_s(self, now: float, there: list[sessions.Session]) -> float | None:
        known = [self._inputs.idle_s(now)]
        for session in there:
            try:
                touched = (self._root / "dev" / session.line).stat().st_atime
            except OSError:
                continue
            if session.line:
                known.append(max(0.0, self._clock.wall() - touched))
        return min((each for each in known if each is not None), default=None)

    # ------------------------------------------------------------------------------- becoming

    def adopt(self, identity: Identify, *, changed: bool) -> str:
        self._adopt_time(identity, changed=changed)
        problems = []
        if identity.seed:
            problems.append(self._add_entropy(identity.seed))
        if changed:
            self._inputs.touched(self._clock.monotonic())
            problems.append(self._set_host_name(identity.name))
            if self._config.identified:
                self._identified.start(
                    {
                        "TRIVIUM_DESKTOP_ID": identity.desktop_id,
                        "TRIVIUM_GENERATION": str(identity.generation),
                        "TRIVIUM_NAME": identity.name,
                    }
                )
        return "; ".join(filter(None, problems))

    def _adopt_time(self, identity: Identify, *, changed: bool) -> None:
        """At once where it has just begun, unless it knows the time already. What a daemon made of
        the clock before the memory was saved says nothing of now."""
        if not identity.woken and (not changed or self._clock.is_kept()):
            self.keep_time(identity.time_ms)
            return
        off = identity.time_ms / 1000 - self._clock.wall()
        self._set_clock(off if abs(off) > limits.CLOCK_OFF_S else 0.0)

    def keep_time(self, told_ms: int) -> None:
        off, now = told_ms / 1000 - self._clock.wall(), self._clock.monotonic()
        kept = self._clock.is_kept()
        correction = self._timekeeper.told(off, now, kept=kept)
        self._clock_problem = ""
        if kept is None and abs(off) > limits.CLOCK_OFF_S:
            self._clock_problem = (
                f"the clock is off by {off:.0f} s, and whether a time daemon keeps it is not known"
            )
        elif correction is not None and correction.at_once:
            self._set_clock(correction.by_s)
        elif correction is not None:
            self._clock.slew(correction.by_s)

    def _set_clock(self, by_s: float) -> None:
        self._clock_problem = ""
        try:
            if by_s:
                self._clock.set_wall(self._clock.wall() + by_s)
        except (OSError, OverflowError, ValueError):
            self._clock_problem = f"the clock is off by {by_s:.0f} s and could not be set"

    def _add_entropy(self, seed: str) -> str:
        """Machines from one saved memory would draw the same chance: keys, ports, cookies."""
        try:
            data = bytes.fromhex(seed)
            pool = struct.pack(f"ii{len(data)}s", len(data) * 8, len(data), data)
            with (self._root / "dev/urandom").open("wb", buffering=0) as device:
                fcntl.ioctl(device, _RNDADDENTROPY, pool)
                fcntl.ioctl(device, _RNDRESEEDCRNG)
        except (OSError, ValueError):
            return "the entropy pool could not be filled"
        return ""

    def _set_host_name(self, name: str) -> str:
        wanted = host_name(name)
        if not wanted:
            return "the desktop's name cannot be a host name"
        try:
            if wanted != socket.gethostname():
                socket.sethostname(wanted)
            file = self._root / "etc/hostname"
            if not file.exists() or file.read_text(encoding="utf-8").strip() != wanted:
                file.write_text(f"{wanted}\n", encoding="utf-8")
        except (OSError, ValueError):
            return "the host name could not be set"
        return ""

    # ---------------------------------------------------------------------------------- doing

    def perform(self, ask: Ask) -> Outcome:
        if ask.what == "message":
            return self._message(ask.text, ask.sender)
        if ask.what == "log_off":
            return self._log_off()
        if ask.what == "lock":
            return self._lock()
        if ask.what == "policy":
            return self._policy(ask.settings)
        return Outcome(ok=False, detail=f"this agent cannot do that: {ask.what[:40]}")

    def _message(self, text: str, sender: str) -> Outcome:
        shown = _CONTROL.sub("", text)[: limits.TEXT_CHARS_MAX]
        by = _CONTROL.sub("", sender).replace("\n", " ")[: limits.NAME_CHARS_MAX] or "Trivium"
        if self._config.message:
            return self._shown.show(self._config.message, text=shown + "\n", sender=by)
        if "DISPLAY" in os.environ and shutil.which("xmessage"):
            command = ("xmessage", "-center", "-title", by, "-file", "-")
            return self._shown.show(command, text=shown + "\n", sender=by)
        if shutil.which("wall"):
            return helpers.run(("wall",), text=f"{by}: {shown}\n")
        return Outcome(ok=False, detail="there is no way to show a message: see commands.message")

    def _log_off(self) -> Outcome:
        there = sessions.logged_on(self._root)
        if not there:
            return Outcome(ok=True, detail="nobody was logged on")
        if self._config.log_off:
            return helpers.run(self._config.log_off, environment={"TRIVIUM_USER": there[0].user})
        if (self._root / "run/systemd/sessions").is_dir() and shutil.which("loginctl"):
            for user in sorted({each.user for each in there}):
                done = helpers.run(("loginctl", "terminate-user", user))
                if not done.ok:
                    return done
        return sessions.end(
            lambda: sorted({one for each in there for one in sessions.processes(each)}),
            self._clock,
        )

    def _lock(self) -> Outcome:
        if self._config.lock:
            return self._shown.show(self._config.lock, text="", sender="")
        if shutil.which("loginctl"):
            return helpers.run(("loginctl", "lock-sessions"))
        return Outcome(ok=False, detail="there is no way to lock the screen: see commands.lock")

    def _policy(self, settings: dict[str, str]) -> Outcome:
        folder = self._root / "run" / "trivium"
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            new = folder / "policy.json.new"
            new.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            new.replace(folder / "policy.json")
        except OSError as error:
            return Outcome(ok=False, detail=f"the policy could not be written: {error.strerror}")
        if not self._config.policy:
            return Outcome(ok=True)
        where = {"TRIVIUM_POLICY": str(folder / "policy.json")}
        return helpers.run(self._config.policy, environment=where)


def _takes_connections(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
        trying.settimeout(limits.DISPLAY_S)
        try:
            trying.connect(str(path))
        except OSError:
            return False
    return True

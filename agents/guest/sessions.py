"""Who is logged on to a Linux machine, and how a session is ended."""

from __future__ import annotations

import os
import pwd
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agents.guest import limits
from agents.guest.clock import Clock
from agents.guest.machine import Outcome

_UTMP = struct.Struct("hi32s4s32s256shhiii16s20x")
"""struct utmp of glibc on 64-bit Linux, 384 bytes"""
_USER_PROCESS = 7
_FIRST_PERSON = 1000
"""lower user ids are the system's own (Debian, Red Hat, SUSE: UID_MIN)"""


class Session(NamedTuple):
    """Somebody who is logged on. `leader`: the process that the session hangs on."""

    user: str
    leader: int
    line: str = ""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _short(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="replace")


def from_utmp(data: bytes) -> list[Session]:
    """The users' entries of a utmp file."""
    found = []
    for offset in range(0, len(data) - _UTMP.size + 1, _UTMP.size):
        entry = _UTMP.unpack_from(data, offset)
        kind, leader, line, user = entry[0], entry[1], entry[2], entry[4]
        if kind == _USER_PROCESS and _short(user):
            found.append(Session(_short(user), leader, _short(line)))
    return found


def from_logind(text: str) -> Session | None:
    """What a file of /run/systemd/sessions says; None unless a person is in that session."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if fields.get("CLASS") != "user" or fields.get("STATE") == "closing":
        return None
    leader = fields.get("LEADER", "0")
    return Session(
        fields.get("USER", ""), int(leader) if leader.isdigit() else 0, fields.get("TTY", "")
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def logged_on(root: Path) -> list[Session]:
    """Everybody who is logged on: by systemd where it runs, else by utmp."""
    folder = root / "run" / "systemd" / "sessions"
    if folder.is_dir():
        texts = [_read(each).decode(errors="replace") for each in sorted(folder.iterdir())]
        return [each for each in map(from_logind, texts) if each is not None and each.user]
    found = from_utmp(_read(root / "run" / "utmp") or _read(root / "var" / "run" / "utmp"))
    return [each for each in found if _alive(each.leader)]


def _of_user(uid: int) -> list[int]:
    """The user's processes."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 -- hundreds, many times
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:  # noqa: PTH116 -- likewise
                    found.append(int(name))
            except OSError:
                continue  # it has just ended
    return found


def processes(session: Session) -> list[int]:
    """What ends with this session: all of the person's processes, but of the system's own users
    only what the session hangs on."""
    try:
        uid = pwd.getpwnam(session.user).pw_uid
    except KeyError:
        uid = -1
    if uid >= _FIRST_PERSON and uid != os.getuid():
        return _of_user(uid)
    return [session.leader] if session.leader > 1 and _alive(session.leader) else []


def end(found: Callable[[], list[int]], clock: Clock) -> Outcome:
    """Ask the processes to end, then tell them, then kill them; ok when none is left."""
    begun = clock.monotonic()
    told: set[tuple[int, signal.Signals]] = set()
    while True:
        left = found()
        if not left:
            return Outcome(ok=True)
        passed = clock.monotonic() - begun
        if passed > limits.LOG_OFF_S:
            return Outcome(ok=False, detail=f"{len(left)} programs did not end")
        how = signal.SIGHUP
        if passed > limits.HANG_UP_S:
            how = signal.SIGTERM
        if passed > limits.END_S:
            how = signal.SIGKILL
        for process in left:
            if (process, how) not in told:
                told.add((process, how))
                try:
                    os.kill(process, how)
                except OSError:
                    continue  # it has just ended
        clock.sleep(limits.POLL_S)

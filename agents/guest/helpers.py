"""Helper programs: bounded in time, fed on standard input, never through a shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence

from agents.guest import limits
from agents.guest.machine import Outcome


def _start(
    arguments: Sequence[str], text: str, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(  # noqa: S603 -- named by the machine's administrator
        list(arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    assert child.stdin is not None  # noqa: S101 -- a pipe was asked for
    try:
        child.stdin.write(text.encode(errors="replace"))
        child.stdin.close()
    except BrokenPipeError:
        pass  # it has ended already: its exit code tells
    return child


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a helper with all that it has started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, how)
            child.wait(limits.SHOWN_S)
        except ProcessLookupError:
            child.wait()
        except subprocess.TimeoutExpired:
            continue
        return


def run(
    arguments: Sequence[str], *, text: str = "", environment: Mapping[str, str] | None = None
) -> Outcome:
    """Run it to its end, at most COMMAND_S."""
    try:
        child = _start(arguments, text, environment or {})
    except (OSError, ValueError) as error:  # ValueError: a text that no program can be given
        return Outcome(ok=False, detail=f"{arguments[0]}: {error}")
    try:
        code = child.wait(limits.COMMAND_S)
    except subprocess.TimeoutExpired:
        _end(child)
        return Outcome(ok=False, detail=f"{arguments[0]} took longer than {limits.COMMAND_S:g} s")
    return Outcome(ok=code == 0, detail="" if code == 0 else f"{arguments[0]} ended with {code}")


def answer(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """What it prints, within COMMAND_S; empty where it fails."""
    try:
        return subprocess.run(  # noqa: S603 -- named by the machine's administrator
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            env={**os.environ, **environment},
            timeout=limits.COMMAND_S,
            check=True,
        ).stdout.decode(errors="replace")
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


class Hook:
    """A helper that runs beside the agent, once at a time. Of what it is asked for while it runs,
    only the newest counts: it tells how things are, not how they came about."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._lock = threading.Lock()
        self._running = False
        self._next: Mapping[str, str] | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Have it run with this; does not wait."""
        with self._lock:
            self._next = environment
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                environment, self._next = self._next, None
                if environment is None:
                    self._running = False
                    return
            done = run(self._arguments, environment=environment)
            if not done.ok:
                sys.stderr.write(f"{done.detail}\n")


class Shown:
    """Helpers that stay while something is on the screen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: deque[subprocess.Popen[bytes]] = deque()

    def show(self, arguments: Sequence[str], *, text: str, sender: str) -> Outcome:
        """Start it; shown when it still runs after SHOWN_S, or has ended well by then."""
        try:
            child = _start(arguments, text, {"TRIVIUM_SENDER": sender})
        except (OSError, ValueError) as error:
            return Outcome(ok=False, detail=f"{arguments[0]}: {error}")
        try:
            code = child.wait(limits.SHOWN_S)
        except subprocess.TimeoutExpired:
            self._keep(child)
            return Outcome(ok=True)
        return Outcome(
            ok=code == 0, detail="" if code == 0 else f"{arguments[0]} ended with {code}"
        )

    def _keep(self, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._children = deque(one for one in self._children if one.poll() is None)
            self._children.append(child)
            while len(self._children) > limits.MESSAGES_MAX:
                _end(self._children.popleft())

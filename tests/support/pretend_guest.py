"""The guest agent as a program of its own, on a machine that is a folder.

`ready` in it: somebody could work there. `user`: who is logged on, until a log-off. Everything else
is the agent's own, from its variables to the network.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from agents.guest import config
from agents.guest.__main__ import transport
from agents.guest.clock import Clock
from agents.guest.core import Agent
from agents.guest.machine import Machine, Observation, Outcome
from agents.guest.messages import Ask, Identify
from agents.guest.shell import Shell


class FolderMachine(Machine):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def boot_id(self) -> str:
        return "b1"

    def system(self) -> str:
        return "A folder"

    def observe(self) -> Observation:
        user = self._folder / "user"
        return Observation(
            ready=(self._folder / "ready").exists(),
            user=user.read_text() if user.exists() else "",
            addresses=("10.20.0.4",),
        )

    def adopt(self, identity: Identify, *, changed: bool) -> str:
        if changed:
            text = f"{identity.desktop_id} {identity.generation} {identity.name}"
            (self._folder / "identity").write_text(text)
        return ""

    def keep_time(self, told_ms: int) -> None:
        (self._folder / "time").write_text(str(told_ms))

    def perform(self, ask: Ask) -> Outcome:
        if ask.what != "log_off":
            return Outcome(ok=False, detail=f"no {ask.what} here")
        (self._folder / "user").unlink(missing_ok=True)
        return Outcome(ok=True)


def main(folder: Path) -> int:
    clock = Clock()
    settings = config.read(folder / "conf")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    agent = Agent(boot_id="b1", system="A folder", version="1")
    shell = Shell(
        agent=agent,
        machine=FolderMachine(folder),
        port=transport(None, settings, clock),
        clock=clock,
    )
    shell.run(stopping)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

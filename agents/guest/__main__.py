"""`python -m agents.guest`: run the agent. `--port`: device or socket; `--config`: its settings."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from agents import __version__
from agents.guest import config, messages
from agents.guest.clock import Clock
from agents.guest.core import Agent
from agents.guest.linux import Linux
from agents.guest.port import Port
from agents.guest.shell import Shell

_EXIT_CONFIG = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="trivium-guest", description="Trivium's guest agent")
    parser.add_argument("--port", type=Path, default=Path("/dev/virtio-ports") / messages.PORT_NAME)
    parser.add_argument("--config", type=Path, default=Path(config.PATH))
    parser.add_argument("--version", action="version", version=__version__)
    given = parser.parse_args(arguments)
    clock = Clock()
    try:
        settings = config.read(given.config)
    except config.ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_CONFIG
    machine = Linux(settings, clock)
    agent = Agent(boot_id=machine.boot_id(), system=machine.system(), version=__version__)
    shell = Shell(agent=agent, machine=machine, port=Port(given.port, clock), clock=clock)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    sys.stderr.write("trivium-guest runs\n")
    shell.run(stopping)
    return 0


if __name__ == "__main__":
    sys.exit(main())

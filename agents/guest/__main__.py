"""`python -m agents.guest`: run the agent. `--port`: device or socket; `--config`: its settings."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from agents import __version__
from agents.guest import config, given, messages
from agents.guest.chance import Chance
from agents.guest.clock import Clock
from agents.guest.core import Agent
from agents.guest.link import Link
from agents.guest.linux import Linux
from agents.guest.port import Port
from agents.guest.shell import Shell
from agents.guest.transport import Transport

_EXIT_CONFIG = 2
_PORT = Path("/dev/virtio-ports") / messages.PORT_NAME


def transport(named: Path | None, settings: config.Config, clock: Clock) -> Transport:
    """The port that was named; a link, if the settings or what the machine was given speak of
    one; else the usual port."""
    links = settings.ticket_file or settings.metadata or given.by_variables(os.environ).ticket
    if named is None and links:
        return Link(settings, clock, Chance(), lambda: given.find(settings))
    return Port(named or _PORT, clock)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="trivium-guest", description="Trivium's guest agent")
    parser.add_argument("--port", type=Path)
    parser.add_argument("--config", type=Path, default=Path(config.PATH))
    parser.add_argument("--version", action="version", version=__version__)
    asked = parser.parse_args(arguments)
    clock = Clock()
    try:
        settings = config.read(asked.config)
    except config.ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_CONFIG
    machine = Linux(settings, clock)
    agent = Agent(boot_id=machine.boot_id(), system=machine.system(), version=__version__)
    shell = Shell(
        agent=agent, machine=machine, port=transport(asked.port, settings, clock), clock=clock
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    sys.stderr.write("trivium-guest runs\n")
    shell.run(stopping)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The agent's settings: an INI file (Python before 3.11 reads no TOML), all of it optional."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path
from typing import NamedTuple

PATH = "/etc/trivium-guest.conf"
TCP = "tcp:"
"""before the number of a port"""
_PORT_MAX = 65535
_KNOWN = {
    "broker": {"address", "ca", "ticket_file", "metadata", "plain"},
    "session": {"display", "ready_file"},
    "commands": {"message", "lock", "log_off", "idle"},
    "hooks": {"identified", "policy"},
}


class ConfigError(Exception):
    """The file cannot be used; the text says where."""


class Config(NamedTuple):
    """`display`: a socket that must take connections before anybody can work here, or tcp: and a
    port that somebody must listen on; empty: any X or Wayland display, or a user at a terminal.
    `ready_file`: must be there, too. The commands are argument lists, empty for the built-in way;
    a message comes to its command on standard input, its sender in TRIVIUM_SENDER; `idle` prints
    seconds. `identified`
    runs when this became another desktop, `policy` when the policy changed, with TRIVIUM_*
    variables about it.

    `address`: of the broker, for a machine without a port; empty: what the machine was given.
    `authority`: a file with the certificates that the broker's must be signed by; empty: the
    system's. `ticket_file`: where the ticket is; empty: in the machine's variables, or, with
    `metadata`, at OpenStack's metadata service. `plain`: the address may be one without TLS."""

    display: str = ""
    ready_file: str = ""
    message: tuple[str, ...] = ()
    lock: tuple[str, ...] = ()
    log_off: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    identified: tuple[str, ...] = ()
    policy: tuple[str, ...] = ()
    address: str = ""
    authority: str = ""
    ticket_file: str = ""
    metadata: bool = False
    plain: bool = False


def _display(text: str) -> str:
    if text.startswith(TCP) and not 0 < int(text[len(TCP) :]) <= _PORT_MAX:
        raise ValueError(f"session.display: {text} is no port")
    return text


def read(path: Path) -> Config:
    """The settings of this file; the defaults where there is none.

    Raises:
        ConfigError: it cannot be read, or names a setting that does not exist.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except FileNotFoundError:
        return Config()
    except (OSError, ValueError, configparser.Error) as error:
        raise ConfigError(f"{path}: {error}") from None
    for section in parser.sections():
        unknown = set(parser[section]) - _KNOWN.get(section, set())
        if section not in _KNOWN or unknown:
            raise ConfigError(f"{path}: no such setting: [{section}] {' '.join(sorted(unknown))}")
    try:
        return Config(
            display=_display(parser.get("session", "display", fallback="")),
            ready_file=parser.get("session", "ready_file", fallback=""),
            message=tuple(shlex.split(parser.get("commands", "message", fallback=""))),
            lock=tuple(shlex.split(parser.get("commands", "lock", fallback=""))),
            log_off=tuple(shlex.split(parser.get("commands", "log_off", fallback=""))),
            idle=tuple(shlex.split(parser.get("commands", "idle", fallback=""))),
            identified=tuple(shlex.split(parser.get("hooks", "identified", fallback=""))),
            policy=tuple(shlex.split(parser.get("hooks", "policy", fallback=""))),
            address=parser.get("broker", "address", fallback=""),
            authority=parser.get("broker", "ca", fallback=""),
            ticket_file=parser.get("broker", "ticket_file", fallback=""),
            metadata=parser.getboolean("broker", "metadata", fallback=False),
            plain=parser.getboolean("broker", "plain", fallback=False),
        )
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None

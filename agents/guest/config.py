"""The agent's settings: an INI file (Python before 3.11 reads no TOML), all of it optional."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path
from typing import NamedTuple

PATH = "/etc/trivium-guest.conf"
_KNOWN = {
    "session": {"display", "ready_file"},
    "commands": {"message", "lock", "log_off"},
    "hooks": {"identified", "policy"},
}


class ConfigError(Exception):
    """The file cannot be used; the text says where."""


class Config(NamedTuple):
    """`display`: a socket that must take connections before anybody can work here; empty: any X or
    Wayland display, or a user at a terminal. `ready_file`: must be there, too. The commands are
    argument lists, empty for the built-in way; a message comes to its command on standard input,
    its sender in TRIVIUM_SENDER. `identified` runs when this became another desktop, `policy` when
    the policy changed, with TRIVIUM_* variables about it."""

    display: str = ""
    ready_file: str = ""
    message: tuple[str, ...] = ()
    lock: tuple[str, ...] = ()
    log_off: tuple[str, ...] = ()
    identified: tuple[str, ...] = ()
    policy: tuple[str, ...] = ()


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
            display=parser.get("session", "display", fallback=""),
            ready_file=parser.get("session", "ready_file", fallback=""),
            message=tuple(shlex.split(parser.get("commands", "message", fallback=""))),
            lock=tuple(shlex.split(parser.get("commands", "lock", fallback=""))),
            log_off=tuple(shlex.split(parser.get("commands", "log_off", fallback=""))),
            identified=tuple(shlex.split(parser.get("hooks", "identified", fallback=""))),
            policy=tuple(shlex.split(parser.get("hooks", "policy", fallback=""))),
        )
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None

"""What this machine was given by its engine: its ticket, and the broker's address.

Looked for anew before each connection, since a machine may be made another desktop as it runs.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from agents.guest import limits
from agents.guest.config import Config

TICKET = "TRIVIUM_TICKET"
ADDRESS = "TRIVIUM_BROKER"
FIRST_PROCESS = Path("/proc/1/environ")
"""of a container: whatever its first process runs, its hypervisor's variables are there"""
METADATA = ("169.254.169.254", 80)
_METADATA_PATH = "/openstack/latest/meta_data.json"
_OK = "200"


class Given(NamedTuple):
    ticket: str = ""
    address: str = ""


def by_variables(environment: Mapping[str, str], first: Path = FIRST_PROCESS) -> Given:
    """In this process's variables, or in those of the machine's first process."""
    if TICKET in environment:
        return Given(environment[TICKET], environment.get(ADDRESS, ""))
    try:
        with first.open("rb") as file:
            data = file.read(limits.GIVEN_BYTES_MAX)
    except OSError:
        return Given()
    pairs = (one.partition("=") for one in data.decode(errors="replace").split("\0"))
    found = {name: value for name, _, value in pairs}
    return Given(found.get(TICKET, ""), found.get(ADDRESS, ""))


def by_metadata(server: tuple[str, int] = METADATA) -> Given:
    """At OpenStack's metadata service, among the server's own."""
    try:
        with socket.create_connection(server, limits.CONNECT_S) as asking:
            asking.sendall(
                f"GET {_METADATA_PATH} HTTP/1.0\r\nHost: {server[0]}\r\n\r\n".encode("ascii")
            )
            answer = b""
            while len(answer) < limits.GIVEN_BYTES_MAX:
                data = asking.recv(limits.READ_BYTES)
                if not data:
                    break
                answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1:2] != [_OK.encode()]:
            return Given()
        own = json.loads(body)["meta"]
        return Given(str(own["trivium_ticket"]), str(own.get("trivium_broker", "")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Given()


def find(config: Config) -> Given:
    """Of this machine, now; empty where there is nothing. The settings win over what is found."""
    if config.ticket_file:
        try:
            with Path(config.ticket_file).open(encoding="ascii") as file:
                found = Given(file.read(limits.GIVEN_BYTES_MAX).strip())
        except (OSError, ValueError):
            found = Given()
    elif config.metadata:
        found = by_metadata()
    else:
        found = by_variables(os.environ)
    return found._replace(address=config.address or found.address)

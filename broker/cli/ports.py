"""Is the address free to listen on, and if not, who has it?"""

from __future__ import annotations

import errno
import importlib.util
import socket

from broker.cli.errors import CommandError
from broker.config import Address
from broker.domain.errors import ConfigError


def refuse_if_taken(address: Address) -> None:
    """Raises CommandError when the address cannot be listened on, naming who listens there."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise _refusal(address, error) from error


def _refusal(address: Address, error: OSError) -> CommandError:
    if error.errno != errno.EADDRINUSE:
        return CommandError(
            f"Nothing can listen on {address}",
            detail=error.strerror or "",
            advice="Choose another address: --listen or TRIVIUM_LISTEN.",
            code=ConfigError.code,
        )
    owner = holder(address.port)
    stop = f"Stop it (kill {owner[0]})" if owner else "Stop what listens there"
    return CommandError(
        f"Port {address.port} is taken",
        detail=f"process {owner[0]} ({owner[1]}) listens there" if owner else "",
        advice=f"{stop}, or use another port: TRIVIUM_LISTEN={Address(address.host, 8081)}.",
        code=ConfigError.code,
    )


def holder(port: int) -> tuple[int, str] | None:
    """(process id, its command) of who listens on the port, where the system tells."""
    if importlib.util.find_spec("psutil") is None:
        return None
    psutil = importlib.import_module("psutil")
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                if connection.pid is None:
                    return None
                words = psutil.Process(connection.pid).cmdline()
                return connection.pid, " ".join(words)[:100]
    except psutil.Error:
        return None
    return None

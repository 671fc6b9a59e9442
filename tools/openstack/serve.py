"""Serve one API of OpenStack on loopback: serve.py SERVICE PORT, with OpenStack's own Python.

OpenStack has no server of its own for its WSGI applications any more, and oslo.config reads the
arguments of those that fork workers. This one is threads and the standard library.

    serve.py neutron-tables   makes the network service's tables, whose migrations know MySQL only
    serve.py novncproxy FILE PORT   Nova's console proxy with that configuration; the machines of
        its fake driver, whose displays are at a made-up name, have them at that port of loopback
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

APPLICATIONS: Final = {
    "keystone": "keystone.wsgi.api",
    "placement": "placement.wsgi.api",
    "glance": "glance.wsgi.api",
    "neutron": "neutron.wsgi.api",
    "nova": "nova.wsgi.osapi_compute",
}
MADE_UP: Final = "fakevncconsole.com"
"""where Nova's fake driver says that displays are"""
BODY_BYTES_MAX: Final = 16 * 1024 * 1024

Start = Callable[..., Any]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Quiet(WSGIRequestHandler):
    """The services log their requests themselves."""

    timeout = 120

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own name
        del format, args


def bounded(application: Application) -> Application:
    """The body ends where its length says, as WSGI has it; wsgiref's does not."""

    def answer(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        length = min(int(environ.get("CONTENT_LENGTH") or 0), BODY_BYTES_MAX)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        return application(environ, start)

    return answer


def network_models() -> Any:
    """All tables of the network service, and their relations settled."""
    head = import_module("neutron.db.migration.models.head")
    import_module("neutron.db.models.port_forwarding")
    import_module("sqlalchemy.orm").configure_mappers()
    return head


def make_network_tables() -> None:
    models = network_models()
    server = import_module("neutron.server")
    server._init_configuration("neutron-tables")  # noqa: SLF001 - it has no public name
    api = import_module("neutron_lib.db.api")
    models.get_metadata().create_all(api.get_context_manager().writer.get_engine())


def show_consoles(file: str, port: int) -> None:
    sys.argv = ["nova-novncproxy", "--config-file", file]
    proxy = import_module("nova.cmd.novncproxy")
    # found anew: Nova has put another one in its place
    sockets: Any = import_module("socket")
    look_up = sockets.getaddrinfo

    def found(host: Any, *rest: Any, **more: Any) -> Any:
        if host != MADE_UP:
            return look_up(host, *rest, **more)
        return look_up("127.0.0.1", port, type=sockets.SOCK_STREAM)

    sockets.getaddrinfo = found
    proxy.main()


def main(words: list[str]) -> None:
    sys.argv = [words[0]]
    if words[1] == "novncproxy":
        show_consoles(words[2], int(words[3]))
        return
    if words[1] == "neutron-tables":
        make_network_tables()
        return
    if words[1] == "neutron":
        network_models()
    application = import_module(APPLICATIONS[words[1]]).application
    with make_server("127.0.0.1", int(words[2]), bounded(application), Server, Quiet) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv)

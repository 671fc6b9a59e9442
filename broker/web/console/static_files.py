"""The console's own files: known at the start, served by name, named by their content."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from broker.domain.errors import NotFoundError
from broker.web.access import Access
from broker.web.call import Call
from broker.web.params import text
from broker.web.routes import Route, Surface

STATIC: Final = Path(__file__).parent / "static"
LIBRARIES: Final = (
    "vendor/htmx.min.js",
    "vendor/sse.min.js",
    "vendor/uPlot.iife.min.js",
    "vendor/uPlot.min.css",
)
"""what npm brings and `make vendor` puts beside our own"""
_PREFIX: Final = "/static/"
_DIGEST_CHARS: Final = 16
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_TYPES: Final[Mapping[str, str]] = {".js": "text/javascript", ".svg": "image/svg+xml"}
"""where the system's own list of types differs from machine to machine"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticFile:
    path: Path
    content_type: str
    digest: str
    """of the content, hexadecimal: an address with it never means anything else"""


class StaticFiles:
    def __init__(self, root: Path = STATIC) -> None:
        self._files = {
            path.relative_to(root).as_posix(): _read(path)
            for path in sorted(root.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        }

    def find(self, name: str) -> StaticFile:
        """Raises NotFoundError: only what was there at the start is served."""
        file = self._files.get(name)
        if file is None:
            raise NotFoundError(f"there is no file {name!r}")
        return file

    def url(self, name: str) -> str:
        """The file's address, with its digest; without one for a file that is missing."""
        file = self._files.get(name)
        return f"{_PREFIX}{name}?v={file.digest}" if file is not None else f"{_PREFIX}{name}"

    def missing(self) -> tuple[str, ...]:
        """Which of LIBRARIES are not there."""
        return tuple(name for name in LIBRARIES if name not in self._files)


def _read(path: Path) -> StaticFile:
    guessed = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    return StaticFile(
        path=path,
        content_type=guessed or "application/octet-stream",
        digest=hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGEST_CHARS],
    )


def static_route(files: StaticFiles) -> Route:
    async def serve(call: Call) -> web.StreamResponse:
        file = files.find(call.part("name"))
        headers = call.headers()
        headers["Content-Type"] = file.content_type
        current = call.query.get("v") == file.digest
        headers["Cache-Control"] = _FOR_EVER if current else "no-cache"
        return web.FileResponse(file.path, headers=headers)

    return Route(
        method="GET",
        path=_PREFIX + "{name:.+}",
        handler=serve,
        need=Access.PUBLIC,
        summary="The console's scripts and styles",
        query=(text("v", "digest of the content"),),
        surface=Surface.PAGE,
    )

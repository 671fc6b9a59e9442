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
    "vendor/novnc/core/rfb.js",
    "vendor/novnc/vendor/pako/lib/zlib/inflate.js",
)
"""what npm brings and `make vendor` puts beside our own"""
_PREFIX: Final = "/static/"
_ALL: Final = "@"
"""before the digest of all files, in an address whose relative ones are kept for ever, too"""
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
        together = "\n".join(f"{name} {file.digest}" for name, file in self._files.items())
        self._all = _ALL + hashlib.sha256(together.encode()).hexdigest()[:_DIGEST_CHARS]

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

    def module_url(self, name: str) -> str:
        """The address of a script that imports others, by addresses relative to its own."""
        return f"{_PREFIX}{self._all}/{name}"

    def asked(self, part: str, digest: str | None) -> tuple[StaticFile, bool]:
        """The file of an address after its prefix and with that digest, and whether the address
        never means anything else. Raises NotFoundError."""
        folder, slash, rest = part.partition("/")
        if slash and folder.startswith(_ALL):
            # of another version of Trivium, perhaps, while brokers are changed one by one
            return self.find(rest), folder == self._all
        file = self.find(part)
        return file, digest == file.digest

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
        file, for_ever = files.asked(call.part("name"), call.query.get("v"))
        headers = call.headers()
        headers["Content-Type"] = file.content_type
        headers["Cache-Control"] = _FOR_EVER if for_ever else "no-cache"
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

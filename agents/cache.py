"""A fat endpoint's image cache: numbers only in a simulated fleet, real bytes for a real agent.

Both answer the same question, which segments of this version are missing, and remember what they
were given. A cold cache misses all, a warm one none, and one with an older version the part that
changed.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec

from broker import wire

_log = logging.getLogger("trivium.agent")

DIGEST_BYTES = 16
_VERSIONS_MAX = 50
"""steps between two versions that are looked at one by one"""


class ImageCache(Protocol):
    """`digests`: 16 bytes for each segment, in order. `holds_bytes`: it wants the data too."""

    holds_bytes: ClassVar[bool]

    async def missing(self, image: wire.ImageRef, digests: bytes, /) -> tuple[int, ...]:
        """The segments that have to be fetched, in order."""

    def keep(self, image: wire.ImageRef, index: int, digest: bytes, data: bytes, /) -> None:
        """A segment that was verified. `data` is empty where only numbers are held."""

    def keep_image(self, image: wire.ImageRef, digests: bytes, /) -> None:
        """All segments of this version are here; older ones of the image may go."""


def changed(name: str, version: int, index: int, share: float) -> bool:
    """Whether a simulated image's segment is not what it was one version before."""
    return zlib.crc32(f"{name} {version} {index}".encode()) < share * (1 << 32)


class SimulatedCache:
    """Knows segments by number. `warm`: it has every image when it is first asked about it;
    `stale`: what it has then is one version old."""

    holds_bytes: ClassVar[bool] = False

    __slots__ = ("_delta_share", "_missing", "_stale", "_warm")

    def __init__(self, *, warm: bool, stale: bool, delta_share: float) -> None:
        self._warm = warm
        self._stale = stale
        self._delta_share = delta_share
        self._missing: dict[str, tuple[int, set[int]]] = {}

    async def missing(self, image: wire.ImageRef, _digests: bytes, /) -> tuple[int, ...]:
        version, missing = self._missing.get(image.name) or self._at_first(image)
        if version != image.version:
            first, last = sorted((version, image.version))
            first = max(first, last - _VERSIONS_MAX)
            missing = {
                index
                for index in range(image.segments)
                if index in missing
                or any(
                    changed(image.name, step, index, self._delta_share)
                    for step in range(first + 1, last + 1)
                )
            }
        self._missing[image.name] = (image.version, missing)
        return tuple(index for index in range(image.segments) if index in missing)

    def _at_first(self, image: wire.ImageRef) -> tuple[int, set[int]]:
        if not self._warm:
            return image.version, set(range(image.segments))
        return image.version - self._stale, set()

    def keep(self, image: wire.ImageRef, index: int, _digest: bytes, _data: bytes, /) -> None:
        held = self._missing.get(image.name)
        if held is not None and held[0] == image.version:
            held[1].discard(index)

    def keep_image(self, _image: wire.ImageRef, _digests: bytes, /) -> None:
        """Nothing to do: numbers take no room."""


class DiskCache:
    """Segments as files named by their digest, so that versions share what they have in common.

    Work on the disk is done by one thread, in the order asked. What cannot be written is logged
    and will be missing at the next check; what is damaged is found there too, for every segment
    is read and hashed before an image is called complete.
    """

    holds_bytes: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = folder / "images.json"
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cache")

    def close(self) -> None:
        self._worker.shutdown()

    async def missing(self, _image: wire.ImageRef, digests: bytes, /) -> tuple[int, ...]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._check, digests)

    def keep(self, _image: wire.ImageRef, _index: int, digest: bytes, data: bytes, /) -> None:
        self._worker.submit(self._write, digest, data)

    def keep_image(self, image: wire.ImageRef, digests: bytes, /) -> None:
        self._worker.submit(self._prune, image.name, digests)

    # ------------------------------------------------------------ in the thread

    def _place(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / name

    def _check(self, digests: bytes) -> tuple[int, ...]:
        missing = []
        for index, digest in enumerate(_split(digests)):
            try:
                held = self._place(digest).read_bytes()
            except OSError:
                missing.append(index)
                continue
            if blake2b(held, digest_size=DIGEST_BYTES).digest() != digest:
                missing.append(index)
        return tuple(missing)

    def _write(self, digest: bytes, data: bytes) -> None:
        place = self._place(digest)
        new = place.with_suffix(".new")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(data)
            new.replace(place)
        except OSError as error:
            _log.error("the cache could not be written: %s", error)

    def _prune(self, name: str, digests: bytes) -> None:
        """Remember this version, and remove what no remembered one needs."""
        try:
            images = self._images()
            images[name] = digests.hex()
            new = self._index.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(images))
            new.replace(self._index)
            wanted = {
                digest.hex()
                for packed in images.values()
                for digest in _split(bytes.fromhex(packed))
            }
            for place in self._folder.glob("[0-9a-f][0-9a-f]/*"):
                if place.name not in wanted:
                    place.unlink(missing_ok=True)
        except OSError as error:
            _log.error("the cache could not be cleared: %s", error)

    def _images(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._index.read_bytes(), type=dict[str, str])
        except (FileNotFoundError, msgspec.MsgspecError, ValueError):
            return {}


def _split(digests: bytes) -> list[bytes]:
    return [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)]

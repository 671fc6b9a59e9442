"""Image bytes without images: made from (image id, version, index), the same every time.

A segment is a slice of one pseudo-random buffer, chosen by image and version, and at its end a
stamp that names image, version and index. So no two segments are alike, a swapped or stale one
shows in its digest, and neither bytes nor digest cost more than a copy.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from broker.domain.errors import NotFoundError
from broker.domain.model import Image
from broker.limits import IMAGES_REMEMBERED, SEGMENT_BYTES

STAMP_BYTES: Final = 32
_DIGEST_BYTES: Final = 16
"""BLAKE2b-128"""
_BUFFER = hashlib.shake_256(b"trivium simulated image").digest(SEGMENT_BYTES + 64 * 1024)


@dataclass(frozen=True, slots=True)
class _Body:
    """One image's part of the buffer, and the hash of it that every full segment begins with."""

    offset: int
    hashed: hashlib.blake2b


class SimulatedImages:
    """The ImageSource port. Sizes are the image's, divided by `bytes_scale`, at least a byte."""

    def __init__(self, *, bytes_scale: int = 1) -> None:
        self._scale = bytes_scale
        self._bodies: OrderedDict[tuple[str, int], _Body] = OrderedDict()

    def segments(self, image: Image, *, boot_only: bool) -> int:
        """Segments of a full copy, or of the part that a streamed boot reads: its first ones."""
        size = min(image.boot_bytes, image.size_bytes) if boot_only else image.size_bytes
        return -(-self._scaled(size) // SEGMENT_BYTES)

    def segment(self, image: Image, index: int) -> bytes:
        length = self._length(image, index)
        stamp = self._stamp(image, index)
        if length <= STAMP_BYTES:
            return stamp[:length]
        offset = self._body(image).offset
        view = memoryview(_BUFFER)[offset : offset + length - STAMP_BYTES]
        return b"".join((view, stamp))

    def digest(self, image: Image, index: int) -> str:
        if self._length(image, index) < SEGMENT_BYTES:
            whole = self.segment(image, index)
            return hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).hexdigest()
        state = self._body(image).hashed.copy()
        state.update(self._stamp(image, index))
        return state.hexdigest()

    def _scaled(self, size: int) -> int:
        return max(size // self._scale, 1)

    def _length(self, image: Image, index: int) -> int:
        """Bytes of one segment. Raises NotFoundError past either end."""
        left = self._scaled(image.size_bytes) - index * SEGMENT_BYTES
        if index < 0 or left <= 0:
            raise NotFoundError(f"{image.name} has no segment {index}")
        return min(left, SEGMENT_BYTES)

    def _stamp(self, image: Image, index: int) -> bytes:
        name = f"{image.id}\0{image.version}\0{index}".encode()
        return hashlib.blake2b(name, digest_size=STAMP_BYTES).digest()

    def _body(self, image: Image) -> _Body:
        key = (image.id, image.version)
        body = self._bodies.get(key)
        if body is None:
            place = hashlib.blake2b(f"{image.id}\0{image.version}".encode(), digest_size=4)
            offset = int.from_bytes(place.digest()) % (len(_BUFFER) - SEGMENT_BYTES)
            view = memoryview(_BUFFER)[offset : offset + SEGMENT_BYTES - STAMP_BYTES]
            body = _Body(offset, hashlib.blake2b(view, digest_size=_DIGEST_BYTES))
            self._bodies[key] = body
            if len(self._bodies) > IMAGES_REMEMBERED:
                self._bodies.popitem(last=False)
        return body

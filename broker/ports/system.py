"""Identity, images, and what a program must not make up by itself: time, ids and chance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from broker.domain.model import Image, Instant


class PasswordHasher(Protocol):
    """argon2id in a bounded pool off the loop. BusyError when its queue is full."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, password: str, encoded: str | None) -> bool:
        """False for a wrong password, and, after the same work, for `encoded` None."""

    def needs_rehash(self, encoded: str) -> bool:
        """Whether `encoded` was made with other costs than today's; no work to speak of."""


class Signatures(Protocol):
    """Checks an endpoint's Ed25519 signature."""

    def verify(self, public_key: bytes, signature: bytes, payload: bytes) -> bool:
        """False for a wrong signature and for a key or signature of a wrong form."""


class ImageSource(Protocol):
    """Where image bytes come from, by segment."""

    def segments(self, image: Image, *, boot_only: bool) -> int:
        """How many segments a full copy (or a streamed boot) has."""

    def segment(self, image: Image, index: int) -> bytes:
        """One segment, at most SEGMENT_BYTES long. Raises NotFoundError past the end."""

    def digest(self, image: Image, index: int) -> str:
        """The segment's BLAKE2b-128, hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenImage:
    """An uploaded image that was taken. `file_bytes`: of the file as it is kept;
    `virtual_bytes`: of the disk that it describes; `sha256`: of what was sent, hex."""

    file_bytes: int
    virtual_bytes: int
    sha256: str


class ImageStore(Protocol):
    """Where uploaded golden images are kept at this broker."""

    async def take(
        self, chunks: AsyncIterator[bytes], *, name: str, version: int, format_name: str
    ) -> TakenImage:
        """Receive, examine and keep an image of that format (IMAGE_FORMATS).

        Raises:
            BadImageError: what was sent is not taken, or the name cannot name a file.
            BodyTooLargeError. UnavailableError: no room, or nothing to examine it with.
        """

    async def forget(self, name: str, version: int) -> None:
        """Remove what was taken under that name; nothing there is success."""

    async def versions(self, name: str) -> frozenset[int]:
        """Of that image, whose files are here; also those without a record: a database that was
        restored from a backup knows fewer."""


IMAGE_FORMATS: Final = ("qcow2", "raw", "vmdk")
"""what an uploaded image may be; it is kept as qcow2"""


class Clock(Protocol):
    def now(self) -> Instant:
        """Milliseconds since the Unix epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds, for measuring."""

    async def sleep(self, seconds: float) -> None: ...


class Ids(Protocol):
    def new(self, prefix: str) -> str:
        """A new id `prefix_…`; later ones sort after earlier ones."""

    def secret(self) -> str:
        """256 random bits, URL-safe, 43 characters."""


class Chance(Protocol):
    def uniform(self, low: float, high: float) -> float: ...

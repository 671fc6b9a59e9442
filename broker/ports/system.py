"""Identity, images, and what a program must not make up by itself: time, ids and chance."""

from __future__ import annotations

from typing import Protocol

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

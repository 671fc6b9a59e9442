"""Images for endpoints: manifests, and tokens that open an image's segments for one session.

A token is not stored: it carries what it allows and is sealed with the installation's own key
(HMAC-SHA-256), so any broker process can check it without the database.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

from broker.domain.errors import NotSignedInError
from broker.domain.model import Image, Instant
from broker.ports import ImageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Segment counts and the digests of the segments that are needed."""

    image: Image
    segments: int
    boot_segments: int
    digests: tuple[str, ...]


class Images:
    def __init__(self, source: ImageSource, key: bytes) -> None:
        self._source = source
        self._key = key

    def sizes(self, image: Image) -> tuple[int, int]:
        """(segments of a full copy, segments that a streamed boot reads)."""
        return (
            self._source.segments(image, boot_only=False),
            self._source.segments(image, boot_only=True),
        )

    def manifest(self, image: Image, *, boot_only: bool) -> Manifest:
        segments, boot_segments = self.sizes(image)
        needed = boot_segments if boot_only else segments
        return Manifest(
            image=image,
            segments=segments,
            boot_segments=boot_segments,
            digests=tuple(self._source.digest(image, index) for index in range(needed)),
        )

    def _seal(self, payload: bytes) -> bytes:
        return hmac.new(self._key, b"image-token\0" + payload, hashlib.sha256).digest()

    def token(self, image: Image, session_id: str, expires_at: Instant) -> str:
        """Opens the segments of `image` until `expires_at`."""
        payload = f"{image.id} {session_id} {expires_at}".encode()
        return base64.urlsafe_b64encode(self._seal(payload) + payload).decode().rstrip("=")

    def check(self, token: str, image_id: str, now: Instant) -> str:
        """The session that the token was given to.

        Raises:
            NotSignedInError: the token is forged, too old, or for another image.
        """
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError as error:
            raise NotSignedInError("the image token is not valid") from error
        seal, payload = raw[:32], raw[32:]
        if not hmac.compare_digest(seal, self._seal(payload)):
            raise NotSignedInError("the image token is not valid")
        token_image, session_id, expires_at = payload.decode().split(" ")
        if token_image != image_id or int(expires_at) <= now:
            raise NotSignedInError("the image token is for another image or too old")
        return session_id

    def segment(self, image: Image, index: int) -> bytes:
        """Raises NotFoundError past the end."""
        return self._source.segment(image, index)

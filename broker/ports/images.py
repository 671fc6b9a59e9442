"""What removed images left on hosts. An engine may clear it away beside making desktops; whoever
asks finds out first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from broker.domain.model import Host, Image


@runtime_checkable
class ImageKeeper(Protocol):
    async def clear_images(
        self, host: Host, removed: Sequence[Image], deadline_s: float
    ) -> tuple[str, ...]:
        """Delete what this engine put on the host for these images, which nobody starts from any
        more: copies of them, and what was made of them ahead of desktops. Answers what was deleted,
        by the host's names of it; nothing left is success. At most IMAGES_CLEARED_MAX at once.

        Whatever a desktop's disk stands on stays, also that of one that is suspended or off: the
        host itself says what stands on what. So does what does not carry this installation's mark.

        EngineError: the host does not answer, or cannot tell what stands on what; then nothing was
        deleted of which that matters."""

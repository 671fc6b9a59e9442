"""Pools, images and hosts as the services see them: a copy in memory, read again when told.

Every connect needs its pool; reading it from the database each time would cost as much as the
claim. The copy is at most POOLS_FRESH_S old, and a "pool" hint makes it new at once.
"""

from __future__ import annotations

from typing import Final

from broker.domain.errors import NotFoundError
from broker.domain.model import Desktop, Image, Pool
from broker.services.kit import Kit

POOLS_FRESH_S: Final = 2.0
"""age in seconds after which the copy is read again: another process may have changed it"""


class Pools:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._read_at: float | None = None
        self._by_id: dict[str, Pool] = {}
        self._by_name: dict[str, Pool] = {}
        self._images: dict[str, Image] = {}

    def forget(self) -> None:
        """Something changed here: the next look reads the store."""
        self._read_at = None

    async def refresh(self) -> None:
        now = self._kit.clock.monotonic()
        if self._read_at is not None and now - self._read_at < POOLS_FRESH_S:
            return
        pools = await self._kit.store.directory.pools()
        images = await self._kit.store.directory.images()
        self._by_id = {pool.id: pool for pool in pools}
        self._by_name = {pool.name: pool for pool in pools}
        self._images = {image.id: image for image in images}
        self._read_at = now

    async def all(self) -> tuple[Pool, ...]:
        await self.refresh()
        return tuple(self._by_id.values())

    async def images(self) -> tuple[Image, ...]:
        await self.refresh()
        return tuple(self._images.values())

    async def find(self, ref: str) -> Pool:
        """By id or by name. Raises NotFoundError."""
        await self.refresh()
        pool = self._by_id.get(ref) or self._by_name.get(ref)
        if pool is None:
            raise NotFoundError(f"there is no pool {ref!r}")
        return pool

    async def image(self, image_id: str) -> Image:
        """Raises NotFoundError."""
        await self.refresh()
        image = self._images.get(image_id)
        if image is None:
            raise NotFoundError(f"there is no image {image_id!r}")
        return image

    async def image_of(self, desktop: Desktop, pool: Pool) -> Image:
        """What this desktop of `pool` is made from: its own image, where that is known and still
        there, else its pool's. Raises NotFoundError."""
        await self.refresh()
        known = self._images.get(desktop.image_id or "")
        return known if known is not None else await self.image(pool.image_id)

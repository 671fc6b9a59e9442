"""Golden images that administrators upload: one upload makes one version of an image."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from broker.domain.errors import AlreadyExistsError, BusyError, UnavailableError
from broker.domain.model import Image
from broker.limits import IMAGE_UPLOAD_S, IMAGE_UPLOADS_MAX
from broker.ports import ImageStore, RosterChange, TakenImage
from broker.services.kit import Kit
from broker.services.naming import checked_name
from broker.services.pools import Pools

_log = logging.getLogger("trivium.images")
_RETRY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUpload:
    """What an upload is to become. `version` None: the next one. `boot_bytes`: what a streamed
    boot reads of it; None: all of it."""

    name: str
    format: str
    version: int | None = None
    boot_bytes: int | None = None


class ImageUploads:
    """`store` None: this broker keeps no images (a simulation)."""

    def __init__(self, kit: Kit, pools: Pools, store: ImageStore | None) -> None:
        self._kit = kit
        self._pools = pools
        self._store = store
        self._places = IMAGE_UPLOADS_MAX
        self._names: set[str] = set()

    async def add(
        self, upload: ImageUpload, chunks: AsyncIterator[bytes]
    ) -> tuple[Image, TakenImage]:
        """Keep what comes as a version of the image, once it was examined.

        Raises:
            AlreadyExistsError: there is this version. BadImageError, BodyTooLargeError,
            BadRequestError. BusyError: others upload. UnavailableError: no room, or too slow.
        """
        if self._store is None:
            raise UnavailableError("this broker keeps no images")
        name = checked_name(upload.name)
        if self._places == 0 or name in self._names:
            raise BusyError("others upload images at the moment", retry_after_s=_RETRY_S)
        self._places -= 1
        self._names.add(name)
        try:
            version = await self._version(self._store, name, upload.version)
            async with asyncio.timeout(IMAGE_UPLOAD_S):
                if upload.version is not None:
                    # there is no record of it: what lies there is nobody's
                    await self._store.forget(name, version)
                taken = await self._store.take(
                    chunks, name=name, version=version, format_name=upload.format
                )
            return await self._record(self._store, name, version, upload, taken), taken
        except TimeoutError:
            raise UnavailableError("the upload took too long") from None
        finally:
            self._places += 1
            self._names.discard(name)

    async def _version(self, store: ImageStore, name: str, wanted: int | None) -> int:
        directory = self._kit.store.directory
        known = {one.version for one in await directory.images() if one.name == name}
        gone = {one.version for one in await directory.removed_images() if one.name == name}
        if wanted is None:
            # what lies here, or at hosts, under such a number is another image
            known |= gone | await store.versions(name)
            return max(known, default=0) + 1
        if wanted in gone:
            # hosts that are away may have that one still
            text = f"version {wanted} of {name} was removed; its number is not used again"
            raise AlreadyExistsError(text)
        if wanted in known:
            raise AlreadyExistsError(f"there is a version {wanted} of {name}")
        return wanted

    async def _record(
        self, store: ImageStore, name: str, version: int, upload: ImageUpload, taken: TakenImage
    ) -> Image:
        boot_bytes = taken.file_bytes if upload.boot_bytes is None else upload.boot_bytes
        image = Image(
            id=self._kit.ids.new("img"),
            name=name,
            version=version,
            size_bytes=taken.file_bytes,
            boot_bytes=min(boot_bytes, taken.file_bytes),
            created_at=self._kit.clock.now(),
        )
        # who leaves must leave both, the record and the file, or neither
        await asyncio.shield(self._written(store, image))
        return image

    async def _written(self, store: ImageStore, image: Image) -> None:
        try:
            await self._kit.store.directory.apply_roster(RosterChange(images=(image,)))
        except (UnavailableError, BusyError):
            # the database may have stored it, and its answer was lost: a file without a record
            # only takes room, and goes when that version is uploaded again
            _log.warning("%s version %d may have no record, and is kept", image.name, image.version)
            raise
        except Exception:
            # no record will ever come; a broker that ends here cannot know, and keeps the file
            await store.forget(image.name, image.version)
            raise
        self._pools.forget()

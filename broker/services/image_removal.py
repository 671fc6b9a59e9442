"""Versions of golden images are removed: the record, this broker's own file, what lies on hosts.

A version goes only when no pool starts from it. Its record stays as a removed one, so that its
number is never another image's, and so that every broker, the one that has the file among them,
finds out by looking what it may delete.

Engines that put files on hosts (ImageKeeper) are asked to delete theirs, again in every look: a
host that was away is done once it answers, and a copy on which a desktop stood once nothing does.
What stands on what, the host says.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from broker import limits
from broker.domain.errors import ImageInUseError, NotFoundError, TriviumError
from broker.domain.images import named
from broker.domain.lifecycle import HOST_RUNS
from broker.domain.model import DesktopState, Host, Image
from broker.ports import Engine, ImageKeeper, ImageStore
from broker.services.decisions import decision
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.shared_work import SharedWork, Work

_log = logging.getLogger("trivium.images")

_GONE: Final = frozenset({DesktopState.DELETED.value, DesktopState.FAILED.value})


class ImageRemoval:
    """`store` None: this broker keeps no images (a simulation)."""

    def __init__(
        self, kit: Kit, shared: SharedWork, pools: Pools, store: ImageStore | None
    ) -> None:
        self._kit = kit
        self._shared = shared
        self._pools = pools
        self._store = store
        self._forgotten: set[str] = set()
        self.failures: Counter[str] = Counter()
        """what failed -> how often, since the start of this process"""
        self.on_bug: Callable[[BaseException], None] = lambda _: None

    # ------------------------------------------------------------------------- for people

    async def remove(self, ref: str) -> Image:
        """By id, or as name@version. One that was removed is success; what others did not get to
        is done then.

        Raises:
            NotFoundError. ImageInUseError: naming the pools that start from it, and how many
            desktops they have.
        """
        image = await self._find(ref)
        directory = self._kit.store.directory
        try:
            removed = await directory.remove_image(image.id, self._kit.clock.now())
        except ImageInUseError as error:
            raise await self._in_use(image, error) from None
        self._pools.forget()
        if image.removed_at is None:
            _log.info("%s@%d was removed", removed.name, removed.version)
            self._kit.events.publish("pool")
        await self._forget(removed)
        return removed

    async def _find(self, ref: str) -> Image:
        directory = self._kit.store.directory
        every = (*await directory.images(), *await directory.removed_images())
        for image in every:
            if ref in {image.id, named(image)}:
                return image
        raise NotFoundError(f"there is no image {ref!r}; give its id, or name@version")

    async def _in_use(self, image: Image, error: ImageInUseError) -> ImageInUseError:
        """The same, with the desktops of each pool."""
        numbers: Counter[str] = Counter()
        for (pool_id, state), count in (await self._kit.store.desktops.counts()).items():
            if str(state) not in _GONE:
                numbers[pool_id] += count
        pools = [one for one in await self._kit.store.directory.pools() if one.image_id == image.id]
        if not pools:  # they let it go at this moment: whoever asks again succeeds
            return error
        told = ", ".join(f"{one.name} ({numbers[one.id]} desktops)" for one in pools)
        return ImageInUseError(
            f"{named(image)} is what these pools start from: {told}",
            fields={
                "pools": [one.name for one in pools],
                "desktops": sum(numbers[one.id] for one in pools),
            },
        )

    # ------------------------------------------------------------------------- for ever

    async def run(self, engines: Sequence[Engine]) -> None:
        """Every IMAGES_CLEAR_S, for ever: what is here, and, while this process has the lease,
        what is on hosts."""
        while True:
            await self._kit.clock.sleep(limits.IMAGES_CLEAR_S)
            try:
                await self.tidy()
                await self.clear(engines)
            except TriviumError as error:
                self.failures["images"] += 1
                _log.warning("what removed images left was not looked at: %s", error.detail)
            except Exception as error:  # noqa: BLE001 - logged, counted, told; the rest goes on
                self.failures["images"] += 1
                _log.exception("a look at removed images failed by a fault of the broker")
                self.on_bug(error)

    async def tidy(self) -> None:
        """Delete this broker's files of versions that were removed, through whichever broker.
        Raises UnavailableError, BusyError."""
        for image in await self._kit.store.directory.removed_images():
            if image.id not in self._forgotten:
                await self._forget(image)

    async def clear(self, engines: Sequence[Engine]) -> None:
        """Have every host that answers delete what removed versions left there. Raises as
        `tidy`."""
        keepers = {one.name: one for one in engines if isinstance(one, ImageKeeper)}
        before = self._kit.clock.now() - limits.IMAGE_SETTLE_S * 1000
        every = await self._kit.store.directory.removed_images() if keepers else ()
        removed = [one for one in every if one.removed_at is not None and one.removed_at <= before]
        if not removed or await self._shared.hold(Work.SWEEPER) is None:
            return
        places = asyncio.Semaphore(limits.HOSTS_CLEARED_AT_ONCE)

        async def one(keeper: ImageKeeper, host: Host) -> None:
            async with places:
                try:
                    if await self._shared.hold(Work.SWEEPER) is not None:
                        await self._clear(keeper, host, removed)
                except (TriviumError, TimeoutError) as error:
                    self.failures["images of a host"] += 1
                    _log.info("%s keeps what removed images left for now: %s", host.name, error)
                except Exception as error:  # noqa: BLE001 - as in `run`; the other hosts go on
                    self.failures["images of a host"] += 1
                    _log.exception("an engine raised what no engine may")
                    self.on_bug(error)

        async with asyncio.TaskGroup() as tasks:
            for load in await self._kit.store.directory.host_loads():
                keeper = keepers.get(load.host.engine)
                if keeper is not None and load.host.state in HOST_RUNS:
                    tasks.create_task(one(keeper, load.host), name=f"images {load.host.name}")

    async def _clear(self, keeper: ImageKeeper, host: Host, removed: Sequence[Image]) -> None:
        """One that does not answer is asked again in the next look. Raises EngineError."""
        deadline_s = limits.IMAGES_CLEAR_HOST_S
        async with asyncio.timeout(deadline_s):
            deleted = await keeper.clear_images(host, removed, deadline_s)
        if deleted:
            why = "the versions that they were of are removed, and nothing stands on them"
            entry = decision(
                self._kit, "image.clear", why, about={"host_id": host.id},
                details={"files": list(deleted)},
            )  # fmt: skip
            await self._kit.store.audit.append([entry])

    async def _forget(self, image: Image) -> None:
        if self._store is None:
            return
        try:
            await self._store.forget(image.name, image.version)
        except OSError as error:
            # told and tried again: the version is gone for everybody all the same
            self.failures["file of an image"] += 1
            _log.warning("the file of %s@%d stays: %s", image.name, image.version, error)
        else:
            self._forgotten.add(image.id)

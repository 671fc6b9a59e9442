"""The image work of one fat endpoint: check the cache, fetch segments, keep the right ones."""

from __future__ import annotations

import asyncio
from functools import partial

from agents.cache import ImageCache
from agents.core import commands, events
from agents.shared import Shell
from agents.transport import FetchError


class Segments:
    """Fetches run at once, each in a task of its own; the core says how many and in what order."""

    __slots__ = ("_arrived", "_cache", "_shell", "_under_way")

    def __init__(self, shell: Shell, cache: ImageCache) -> None:
        self._shell = shell
        self._cache = cache
        self._under_way: dict[str, set[asyncio.Task[None]]] = {}
        self._arrived: dict[tuple[str, int], bytes] = {}

    def check(self, command: commands.CheckImage) -> None:
        self._shell.spawn(self._check(command))

    async def _check(self, command: commands.CheckImage) -> None:
        missing = await self._cache.missing(command.image, command.digests)
        self._shell.feed(
            events.ImageChecked(session_id=command.session_id, ref=command.ref, missing=missing)
        )

    def fetch(self, command: commands.Fetch) -> None:
        task = self._shell.task(self._fetch(command))
        self._under_way.setdefault(command.session_id, set()).add(task)
        task.add_done_callback(partial(self._over, command.session_id))

    def stop(self, command: commands.StopFetches) -> None:
        for task in self._under_way.pop(command.session_id, ()):
            task.cancel()

    def _over(self, session_id: str, task: asyncio.Task[None]) -> None:
        under_way = self._under_way.get(session_id)
        if under_way is not None:
            under_way.discard(task)
            if not under_way:
                del self._under_way[session_id]

    async def _fetch(self, command: commands.Fetch) -> None:
        session_id, index = command.session_id, command.index
        try:
            segment = await self._shell.shared.transport.fetch(
                command.image_id,
                index,
                command.token,
                bytes_max=command.bytes_max,
                keep=command.keep and self._cache.holds_bytes,
            )
        except FetchError as error:
            self._shell.feed(
                events.SegmentFailed(
                    session_id=session_id,
                    ref=command.ref,
                    index=index,
                    refused=error.refused,
                    why=str(error),
                )
            )
            return
        self._shell.shared.tally.image_bytes += segment.size
        # held only while the core looks at the digest: it says "keep" now or never
        self._arrived[session_id, index] = segment.data
        self._shell.feed(
            events.SegmentFetched(
                session_id=session_id,
                ref=command.ref,
                index=index,
                digest=segment.digest,
                size=segment.size,
            )
        )
        self._arrived.pop((session_id, index), None)

    def keep(self, command: commands.KeepSegment) -> None:
        data = self._arrived.pop((command.session_id, command.index), b"")
        self._cache.keep(command.image, command.index, command.digest, data)

    def keep_image(self, command: commands.KeepImage) -> None:
        self._cache.keep_image(command.image, command.digests)

"""Image segments for endpoints, opened by a grant's image token."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from broker import wire
from broker.domain import errors
from broker.domain.errors import BusyError, NotFoundError, NotSignedInError
from broker.limits import SEGMENT_WAIT_S, SEGMENTS_AT_ONCE_MAX
from broker.web.access import Access
from broker.web.call import Call
from broker.web.context import Web
from broker.web.routes import Route, Surface

PIECE_BYTES: Final = 128 * 1024
"""written at once: what a slow endpoint can make this process keep for it"""
_INDEX_CHARS_MAX: Final = 9
_RETRY_S: Final = 5.0


class Segments:
    """`at_once`: segments under way at once; those beyond wait SEGMENT_WAIT_S at most."""

    def __init__(self, web_: Web, at_once: int = SEGMENTS_AT_ONCE_MAX) -> None:
        self._web = web_
        self._places = asyncio.Semaphore(at_once)

    async def segment(self, call: Call) -> web.StreamResponse:
        services = self._web.services
        token = call.token()
        if token is None or call.by_cookie:
            raise NotSignedInError("an image token is needed")
        image_id, index = call.part("image_id"), _index(call.part("index"))
        services.images.check(token, image_id, services.kit.clock.now())
        image = await services.pools.image(image_id)
        async with _Place(self._places):
            data = services.images.segment(image, index)
            return await self._send(call, data)

    async def _send(self, call: Call, data: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = len(data)
        await call.stream(response)
        if call.request.method != "HEAD":
            view = memoryview(data)
            for start in range(0, len(data), PIECE_BYTES):
                await response.write(view[start : start + PIECE_BYTES])
            self._web.services.tally.count("image_bytes_sent", "all", len(data))
        await response.write_eof()
        return response


class _Place:
    """One of the places for segments under way; BusyError when none gets free in time."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(SEGMENT_WAIT_S):
                await self._places.acquire()
        except TimeoutError:
            text = "too many endpoints fetch at once"
            raise BusyError(text, retry_after_s=_RETRY_S) from None

    async def __aexit__(self, *_: object) -> None:
        self._places.release()


def _index(text: str) -> int:
    if len(text) > _INDEX_CHARS_MAX or not (text.isascii() and text.isdigit()):
        raise NotFoundError("a segment's index is a whole number")
    return int(text)


def routes(web_: Web) -> tuple[Route, ...]:
    segments = Segments(web_)
    return (
        Route(
            method="GET",
            path=wire.SEGMENT_PATH,
            handler=segments.segment,
            need=Access.AGENT,
            summary="One segment of an image, by its grant's token",
            answers={200: None},
            errors=(errors.NotSignedInError, errors.NotFoundError, errors.BusyError),
            surface=Surface.AGENT,
        ),
    )

"""Golden images: which there are, which pools start from them, and a way to upload one."""

from __future__ import annotations

from collections import defaultdict

from aiohttp import web

from broker.domain.model import Pool
from broker.domain.roles import Permission
from broker.limits import IMAGE_BYTES_MAX
from broker.ports import IMAGE_FORMATS
from broker.web.call import Call
from broker.web.console.lists import AFTER, Filters, filter_text
from broker.web.console.render import Pages
from broker.web.lists import cut
from broker.web.routes import Route, Surface

_PARAMS = (filter_text("text", "words of the image's name"), AFTER)


class ImagePages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def images(self, call: Call) -> web.StreamResponse:
        filters = Filters.of(call, _PARAMS)
        pools = call.web.services.pools
        page = cut(
            await pools.images(), filters.query(), lambda one: f"{one.name}@{one.version:06d}"
        )
        users: defaultdict[str, list[Pool]] = defaultdict(list)
        for pool in await pools.all():
            users[pool.image_id].append(pool)
        rows = [{"image": one, "pools": users[one.id]} for one in page.items]
        context = {
            **filters.context(page, rows),
            "formats": IMAGE_FORMATS,
            "bytes_max": IMAGE_BYTES_MAX,
        }
        return self._pages.answer(call, "images.html", context, here="/images", parts=("list",))

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/images",
                handler=self.images,
                need=Permission.READ,
                summary="Golden images",
                surface=Surface.PAGE,
                query=_PARAMS,
            ),
        )

"""One desktop: what it is, its snapshots, and why it is as it is."""

from __future__ import annotations

from aiohttp import web

from broker.domain.errors import ConflictError, EngineError
from broker.domain.lifecycle import DESKTOP, DesktopEvent
from broker.domain.model import Desktop
from broker.domain.roles import Permission
from broker.limits import NAME_CHARS_MAX, NOTE_CHARS_MAX, SNAPSHOTS_PER_DESKTOP_MAX
from broker.ports import PageQuery
from broker.web.call import Call
from broker.web.console.machines import drift_of, host_names, pool_titles
from broker.web.console.pools import image_words
from broker.web.console.render import Pages
from broker.web.console.why import why_of
from broker.web.names import GONE
from broker.web.routes import Route, Surface


async def _holder(call: Call, desktop: Desktop) -> str:
    """Who has it in a session now, by username; empty: nobody."""
    store = call.web.services.kit.store
    query = PageQuery(limit=1, filters={"desktop_id": desktop.id, "live": "true"})
    found = (await store.sessions.sessions(query)).items
    if not found:
        return ""
    names = await call.web.names.learn(users=[found[0].user_id])
    return names.get(found[0].user_id, GONE)


class DesktopPage:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def desktop(self, call: Call) -> web.StreamResponse:
        album = await call.web.services.snapshots.album(call.part("id"))
        desktop = album.desktop
        names = await call.web.names.learn(
            endpoints=[desktop.endpoint_id], users=[desktop.owner_id]
        )
        hosts, pools = await host_names(call), await pool_titles(call)
        every = {pool.id: pool for pool in await call.web.services.pools.all()}
        images = {one.id: one for one in await call.web.services.pools.images()}
        context = {
            "desktop": desktop,
            "pool": pools.get(desktop.pool_id, "?"),
            "image": image_words(desktop, every.get(desktop.pool_id), images),
            "host": hosts.get(desktop.host_id or "", ""),
            "endpoint": names.get(desktop.endpoint_id or "", ""),
            "owner": names.get(desktop.owner_id, GONE) if desktop.owner_id is not None else "",
            "guest": call.web.services.guests.news(desktop.id, desktop.generation),
            "speaks": await call.web.services.guests.speaks(desktop.id),
            "may_restart": not await call.web.services.desktop_restarts.refusal(desktop),
            "drift": drift_of(desktop, (await call.web.services.drifts.report()).desktops),
            "compares": await call.web.services.drifts.compares(desktop),
            "ways": await call.web.services.desktop_moves.ways_out(desktop),
            "moving_to": hosts.get(desktop.moving_to or "", ""),
            "holder": await _holder(call, desktop),
            "album": album,
            "most": SNAPSHOTS_PER_DESKTOP_MAX,
            "may_revert": not album.refusal
            and DESKTOP.allows(desktop.state, DesktopEvent.RESET_ASKED),
            "name_chars": NAME_CHARS_MAX,
            "note_chars": NOTE_CHARS_MAX,
            "why": await why_of(call, "desktop_id", desktop.id),
        }
        return self._pages.answer(
            call,
            "desktop.html",
            context,
            here="/desktops",
            parts=("desktop", "moving", "decided"),
            topics="desktop,host",
        )

    async def compare(self, call: Call) -> web.StreamResponse:
        """A part of the page, asked for by its button: the host may take its time."""
        context: dict[str, object] = {"desktop": None, "found": (), "problem": ""}
        try:
            desktop, found = await call.web.services.drifts.compare(call.part("id"))
            context |= {"desktop": desktop, "found": found}
        except (ConflictError, EngineError) as error:
            context["problem"] = error.detail
        return self._pages.answer(
            call, "desktop_drift.html", context, here="/desktops", parts=("compared",)
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/desktops/{id}",
                handler=self.desktop,
                need=Permission.READ,
                summary="One desktop",
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/desktops/{id}/drift",
                handler=self.compare,
                need=Permission.READ,
                summary="How a desktop's machine differs just now",
                surface=Surface.PAGE,
            ),
        )

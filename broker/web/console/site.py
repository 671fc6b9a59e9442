"""The whole site: its state and limits, its holidays, and the audit trail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.roles import Permission
from broker.domain.settings import ServiceState
from broker.web.api.windows import from_holiday
from broker.web.call import Call
from broker.web.console.lists import AFTER, Filters, filter_choice, filter_text, options
from broker.web.console.render import Pages
from broker.web.routes import Route, Surface

_FILTERS: Final = (
    filter_text("action", "only this, such as session.connect"),
    filter_choice("outcome", Outcome, "only with this outcome"),
    filter_text("actor", "only by this id"),
    filter_text("session_id", "only about this session"),
    filter_text("desktop_id", "only about this desktop"),
    filter_text("pool_id", "only about this pool"),
    filter_text("host_id", "only about this host"),
    filter_text("user_id", "only about this person"),
    AFTER,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    entry: AuditEntry
    actor: str
    details: tuple[tuple[str, str], ...]


class SitePages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def site(self, call: Call) -> web.StreamResponse:
        saved = await call.web.services.site.read()
        context = {
            "site": saved.settings,
            "revision": saved.revision,
            "states": options(ServiceState),
            "holidays": [from_holiday(one) for one in saved.settings.holidays],
        }
        return self._pages.answer(call, "site.html", context, here="/site", topics="site")

    async def audit(self, call: Call) -> web.StreamResponse:
        filters = Filters.of(call, _FILTERS)
        page = await call.web.services.kit.store.audit.entries(filters.query())
        actors = {one.actor for one in page.items}
        names = await call.web.names.learn(
            users=[one for one in actors if one.startswith("usr_")],
            endpoints=[one for one in actors if one.startswith("ept_")],
        )
        rows = [
            AuditRow(
                entry=entry,
                actor=names.get(entry.actor, entry.actor),
                details=tuple((name, str(value)) for name, value in entry.details.items()),
            )
            for entry in page.items
        ]
        context = {**filters.context(page, rows), "outcomes": options(Outcome)}
        return self._pages.answer(call, "audit.html", context, here="/audit", parts=("list",))

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/site",
                handler=self.site,
                need=Permission.READ,
                summary="The site's settings",
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/audit",
                handler=self.audit,
                need=Permission.READ_AUDIT,
                summary="The audit trail",
                query=_FILTERS,
                surface=Surface.PAGE,
            ),
        )

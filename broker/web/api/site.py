"""The site's own settings: open or not, what is told to people, time zone, holidays, limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from broker.domain import errors
from broker.domain.errors import BadRequestError
from broker.domain.roles import Permission
from broker.domain.settings import ServiceState, SiteSettings
from broker.domain.settings_check import site_problems
from broker.limits import HOLIDAYS_MAX, NOTICE_CHARS_MAX
from broker.services.site import SavedSettings
from broker.web.api.inputs import Body, Label, given, given_fields
from broker.web.api.windows import HolidayBody, from_holiday, to_holiday
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.routes import Route

LIMIT_MAX = 2**40

SiteLimit = Annotated[int, Meta(ge=0, le=LIMIT_MAX)]
SiteSeconds = Annotated[int, Meta(ge=0, le=30 * 24 * 3600)]
SiteShare = Annotated[float, Meta(ge=0, le=1)]
Holidays = Annotated[list[HolidayBody], Meta(max_length=HOLIDAYS_MAX)]


class SiteChanges(Body, frozen=True, kw_only=True):
    """What is left out stays as it is. With `revision` only if nobody saved others since.

    state: draining: who has a desktop keeps it, nobody new gets one; maintenance: likewise, and
    machines are neither made nor kept warm. why: for the audit trail.
    """

    state: ServiceState | UnsetType = UNSET
    message: Annotated[str, Meta(max_length=NOTICE_CHARS_MAX)] | UnsetType = UNSET
    time_zone: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET
    holidays: Holidays | UnsetType = UNSET
    desktops_max: SiteLimit | UnsetType = UNSET
    memory_mib_max: SiteLimit | UnsetType = UNSET
    rebalance_above: SiteShare | UnsetType = UNSET
    rebalance_by: SiteShare | UnsetType = UNSET
    lost_after_s: SiteSeconds | UnsetType = UNSET
    revision: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    why: Label = ""


class SiteShape(msgspec.Struct, frozen=True, kw_only=True):
    state: ServiceState
    message: str
    time_zone: str
    holidays: list[HolidayBody]
    desktops_max: int
    memory_mib_max: int
    rebalance_above: float
    rebalance_by: float
    lost_after_s: int
    revision: int


class SiteApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def site(self, call: Call) -> web.StreamResponse:
        return call.answer(_shown(await self._web.services.site.read()))

    async def change(self, call: Call) -> web.StreamResponse:
        body: SiteChanges = call.body
        site, actor, origin = self._web.services.site, call.who.user_id, call.origin
        wanted = given_fields(body)
        wanted.pop("why", None)
        revision = wanted.pop("revision", None)
        if not wanted:
            raise BadRequestError("say what to change")
        why = body.why or f"asked by {call.who.username}"
        state = given(body.state)
        if state is not None and revision is None and wanted.keys() <= {"state", "message"}:
            # whoever saves other settings meanwhile does not keep the site from closing
            saved = await site.set_state(
                state, actor=actor, why=why, message=given(body.message), origin=origin
            )
            return call.answer(_shown(saved))
        before = await site.read()
        changed = replace(before.settings, **_settings(wanted))
        for field, text in site_problems(changed):
            raise BadRequestError(text, fields={"field": field})
        read = before.revision if revision is None else revision
        saved = await site.save(changed, read, actor=actor, why=why, origin=origin)
        return call.answer(_shown(saved))

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/site",
                handler=self.site,
                need=Permission.READ,
                summary="The site's settings",
                answers={200: SiteShape},
            ),
            Route(
                method="PATCH",
                path="/api/v1/site",
                audit=Audited(action="site.change", by_service=True, told=(errors.ConflictError,)),
                handler=self.change,
                need=Permission.MANAGE_SITE,
                summary="Change the site's settings; open it, drain it, put it under maintenance",
                request=SiteChanges,
                answers={200: SiteShape},
                errors=(errors.ConflictError,),
            ),
        )


def _settings(wanted: dict[str, Any]) -> dict[str, Any]:
    """Raises BadRequestError."""
    if "holidays" in wanted:
        try:
            days = [to_holiday(one) for one in wanted["holidays"]]
        except ValueError as error:
            text = "a holiday is a day that no calendar has"
            raise BadRequestError(text, fields={"field": "holidays"}) from error
        wanted["holidays"] = tuple(sorted(days, key=lambda one: one.day))
    return wanted


def _shown(saved: SavedSettings) -> SiteShape:
    settings: SiteSettings = saved.settings
    return SiteShape(
        state=settings.state,
        message=settings.message,
        time_zone=settings.time_zone,
        holidays=[from_holiday(one) for one in settings.holidays],
        desktops_max=settings.desktops_max,
        memory_mib_max=settings.memory_mib_max,
        rebalance_above=settings.rebalance_above,
        rebalance_by=settings.rebalance_by,
        lost_after_s=settings.lost_after_s,
        revision=saved.revision,
    )

"""Load campaigns and their reports."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from broker.domain import errors
from broker.domain.errors import BadRequestError, ConflictError, NotFoundError
from broker.domain.model import Campaign, CampaignState
from broker.domain.roles import Permission
from broker.limits import REPORT_BYTES_MAX, SUMMARY_BYTES_MAX
from broker.services.naming import checked_label
from broker.web.api import render
from broker.web.api.inputs import Body, Label, Name, given
from broker.web.api.shapes import CampaignShape
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import encode
from broker.web.headers import REPORT_POLICY
from broker.web.lists import Listed, listed, page_query
from broker.web.params import PAGE, TEXT, choice
from broker.web.routes import Route

PATH_CHARS_MAX = 300
_SEED_MAX = 2**53


class NewCampaign(Body, frozen=True, kw_only=True):
    name: Name
    seed: Annotated[int, Meta(ge=0, le=_SEED_MAX)]
    plan_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class CampaignChanges(Body, frozen=True, kw_only=True):
    """`report_path`: relative to the directory of reports. What is left out stays as it is."""

    state: CampaignState | UnsetType = UNSET
    verdict: Label | UnsetType = UNSET
    report_path: Annotated[str, Meta(max_length=PATH_CHARS_MAX)] | UnsetType = UNSET
    summary: dict[str, Any] | UnsetType = UNSET


class CampaignsApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def campaigns(self, call: Call) -> web.StreamResponse:
        query = page_query(call, "campaigns")
        page = await self._web.services.kit.store.campaigns.campaigns(query)
        return call.answer(listed("campaigns", render.campaigns(page.items), page.next_after))

    async def _find(self, call: Call) -> Campaign:
        found = await self._web.services.kit.store.campaigns.campaign(call.part("id"))
        if found is None:
            raise NotFoundError
        return found

    async def campaign(self, call: Call) -> web.StreamResponse:
        return call.answer(render.campaign(await self._find(call)))

    async def add(self, call: Call) -> web.StreamResponse:
        body: NewCampaign = call.body
        kit = self._web.services.kit
        campaign = Campaign(
            id=kit.ids.new("cmp"),
            name=checked_label(body.name, "name"),
            seed=body.seed,
            plan_sha256=body.plan_sha256,
            state=CampaignState.RUNNING,
            verdict="",
            report_path="",
            summary={},
            started_at=kit.clock.now(),
            finished_at=None,
        )
        await self._save(campaign)
        return call.answer(render.campaign(campaign), 201)

    async def change(self, call: Call) -> web.StreamResponse:
        body: CampaignChanges = call.body
        campaign = await self._find(call)
        state = given(body.state) or campaign.state
        if campaign.state is not CampaignState.RUNNING and state is not campaign.state:
            raise ConflictError(f"the campaign is {campaign.state} and stays so")
        summary = given(body.summary)
        if summary is not None and len(encode(summary)) > SUMMARY_BYTES_MAX:
            text = f"the summary is larger than {SUMMARY_BYTES_MAX} bytes"
            raise BadRequestError(text, fields={"field": "summary"})
        path = given(body.report_path)
        if path:
            _check_path(path)
        verdict = given(body.verdict)
        finished = state is not CampaignState.RUNNING and campaign.finished_at is None
        changed = replace(
            campaign,
            state=state,
            verdict=checked_label(verdict, "verdict") if verdict is not None else campaign.verdict,
            report_path=path if path is not None else campaign.report_path,
            summary=summary if summary is not None else campaign.summary,
            finished_at=self._web.services.kit.clock.now() if finished else campaign.finished_at,
        )
        await self._save(changed)
        return call.answer(render.campaign(changed))

    async def _save(self, campaign: Campaign) -> None:
        kit = self._web.services.kit
        await kit.store.campaigns.save(campaign)
        kit.events.publish("campaign", id=campaign.id, state=campaign.state)

    async def report(self, call: Call) -> web.StreamResponse:
        campaign = await self._find(call)
        if not campaign.report_path:
            raise NotFoundError("the campaign has no report yet")
        found = await asyncio.to_thread(find_report, self._web.config.reports, campaign.report_path)
        if found is None:
            raise NotFoundError("the report is not there (any more)")
        response = web.FileResponse(found)
        response.headers["Content-Type"] = "text/html; charset=utf-8"
        response.headers["Content-Security-Policy"] = REPORT_POLICY
        return response

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/campaigns",
                handler=self.campaigns,
                need=Permission.READ,
                summary="Campaigns, newest first",
                answers={200: Listed[CampaignShape]},
                query=(*PAGE, TEXT, choice("state", CampaignState, "only in this state")),
            ),
            Route(
                method="POST",
                path="/api/v1/campaigns",
                audit=Audited(action="campaign.create"),
                handler=self.add,
                need=Permission.RUN_CAMPAIGNS,
                summary="Say that a campaign begins",
                request=NewCampaign,
                answers={201: CampaignShape},
            ),
            Route(
                method="GET",
                path="/api/v1/campaigns/{id}",
                handler=self.campaign,
                need=Permission.READ,
                summary="One campaign",
                answers={200: CampaignShape},
                errors=(errors.NotFoundError,),
            ),
            Route(
                method="PATCH",
                path="/api/v1/campaigns/{id}",
                audit=Audited(action="campaign.change"),
                handler=self.change,
                need=Permission.RUN_CAMPAIGNS,
                summary="Say how a campaign went",
                request=CampaignChanges,
                answers={200: CampaignShape},
                errors=(errors.NotFoundError, errors.ConflictError),
            ),
            Route(
                method="GET",
                path="/api/v1/campaigns/{id}/report",
                handler=self.report,
                need=Permission.READ,
                summary="The campaign's report, as HTML",
                answers={200: None},
                errors=(errors.NotFoundError,),
            ),
        )


def _check_path(path: str) -> None:
    """Raises BadRequestError for what cannot be a report inside the directory of reports."""
    parts = PurePosixPath(path)
    odd = parts.is_absolute() or ".." in parts.parts or "\\" in path or not path.isprintable()
    if odd or parts.suffix != ".html":
        text = "a report is an .html file inside the directory of reports"
        raise BadRequestError(text, fields={"field": "report_path"})


def find_report(reports: Path, path: str) -> Path | None:
    """The report's file, its links resolved; None if it is outside, too large or not a file."""
    root = reports.resolve()
    found = (root / path).resolve()
    if not found.is_relative_to(root) or found.suffix != ".html" or not found.is_file():
        return None
    return found if found.stat().st_size <= REPORT_BYTES_MAX else None

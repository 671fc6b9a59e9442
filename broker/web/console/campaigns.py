"""Load campaigns: the list, and one with its short comparison and its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from broker.domain.errors import NotFoundError
from broker.domain.model import Architecture, CampaignState
from broker.domain.roles import Permission
from broker.web.call import Call
from broker.web.console.figures import number, size, took
from broker.web.console.lists import AFTER, Filters, filter_choice
from broker.web.console.render import Pages
from broker.web.routes import Route, Surface

_FILTERS: Final = (filter_choice("state", CampaignState, "only in this state"), AFTER)
_NONE: Final = "–"
_COUNTED: Final = (
    ("Sessions", "sessions"),
    ("Failures", "failures"),
    ("Waited in the queue", "queued"),
)
_SIZED: Final = (
    ("On the wire", "bytes"),
    ("For each session", "bytes_per_session"),
    ("For each session, images at real size", "real_bytes_per_session"),
)
_INVARIANTS: Final = (
    ("Double assignments", "double_assignments"),
    ("Lost sessions", "lost_sessions"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A table: one column for each architecture that the summary has."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def comparison(summary: Mapping[str, object]) -> Comparison:
    """The summary's architectures side by side: what all of them have; the report has the rest.

    What is missing or odd is shown as a dash.
    """
    by_name = _mapping(summary.get("architectures"))
    columns = tuple(one.value for one in Architecture if one.value in by_name)
    parts = [_mapping(by_name[name]) for name in columns]
    phases = [_mapping(part.get("phases")) for part in parts]
    rows: list[tuple[str, tuple[str, ...]]] = []
    if columns:
        for words, key in _COUNTED:
            rows.append((words, tuple(_count(part.get(key)) for part in parts)))
        for name in phases[0]:
            if all(name in one for one in phases):
                found = [_mapping(one[name]) for one in phases]
                rows.append((f"{name}, median", tuple(_ms(one.get("p50_ms")) for one in found)))
                rows.append((f"{name}, p95", tuple(_ms(one.get("p95_ms")) for one in found)))
        for words, key in _SIZED:
            rows.append((words, tuple(_bytes(part.get(key)) for part in parts)))
    return Comparison(columns=columns, rows=tuple(rows))


def invariants(summary: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """What must be nought, and what it was: (words, count)."""
    found = _mapping(summary.get("invariants"))
    return tuple((words, _count(found[key])) for words, key in _INVARIANTS if key in found)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _figure(value: object) -> float | None:
    """The number, if it is one (a bool is not)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def _count(value: object) -> str:
    found = _figure(value)
    return number(found) if found is not None else _NONE


def _ms(value: object) -> str:
    found = _figure(value)
    return took(found) if found is not None else _NONE


def _bytes(value: object) -> str:
    """A number of bytes, or a mapping of kinds to them."""
    found = [_figure(one) for one in (*_mapping(value).values(), value)]
    known = [one for one in found if one is not None]
    return size(sum(known)) if known else _NONE


class CampaignPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def campaigns(self, call: Call) -> web.StreamResponse:
        filters = Filters.of(call, _FILTERS)
        page = await call.web.services.kit.store.campaigns.campaigns(filters.query())
        return self._pages.answer(
            call,
            "campaigns.html",
            filters.context(page, page.items),
            here="/campaigns",
            parts=("list",),
            topics="campaign",
        )

    async def campaign(self, call: Call) -> web.StreamResponse:
        campaign_id = call.part("campaign_id")
        campaign = await call.web.services.kit.store.campaigns.campaign(campaign_id)
        if campaign is None:
            raise NotFoundError(f"there is no campaign {campaign_id!r}")
        return self._pages.answer(
            call,
            "campaign.html",
            {
                "campaign": campaign,
                "table": comparison(campaign.summary),
                "invariants": invariants(campaign.summary),
            },
            here="/campaigns",
            parts=("standing",),
            topics="campaign",
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/campaigns",
                handler=self.campaigns,
                need=Permission.READ,
                summary="Campaigns",
                query=_FILTERS,
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/campaigns/{campaign_id}",
                handler=self.campaign,
                need=Permission.READ,
                summary="One campaign",
                surface=Surface.PAGE,
            ),
        )

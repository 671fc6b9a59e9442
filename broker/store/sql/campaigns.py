"""Campaigns."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from broker.domain.model import Campaign, CampaignState
from broker.ports import Page, PageQuery
from broker.store.paging import folded
from broker.store.sql import tables as t
from broker.store.sql.pages import Listing, equals
from broker.store.sql.roster import replace
from broker.store.sql.rows import Row, Values
from broker.store.sql.runner import Database
from broker.store.sql.statements import first

_COLUMNS = (
    t.campaigns.c.id,
    t.campaigns.c.name,
    t.campaigns.c.seed,
    t.campaigns.c.plan_sha256,
    t.campaigns.c.state,
    t.campaigns.c.verdict,
    t.campaigns.c.report_path,
    t.campaigns.c.summary,
    t.campaigns.c.started_at,
    t.campaigns.c.finished_at,
)


def _to_campaign(row: Row) -> Campaign:
    campaign_id, name, seed, plan, state, verdict, report, summary, started_at, finished_at = row
    return Campaign(
        id=campaign_id,
        name=name,
        seed=seed,
        plan_sha256=plan,
        state=CampaignState(state),
        verdict=verdict,
        report_path=report,
        summary=msgspec.json.decode(summary, type=dict[str, object]),
        started_at=started_at,
        finished_at=finished_at,
    )


def _from_campaign(campaign: Campaign) -> Values:
    return {
        "id": campaign.id,
        "name": campaign.name,
        "search": folded(campaign.name),
        "seed": campaign.seed,
        "plan_sha256": campaign.plan_sha256,
        "state": campaign.state.value,
        "verdict": campaign.verdict,
        "report_path": campaign.report_path,
        "summary": msgspec.json.encode(dict(campaign.summary)).decode(),
        "started_at": campaign.started_at,
        "finished_at": campaign.finished_at,
    }


_LISTING = Listing(
    _COLUMNS,
    t.campaigns.c.id,
    equals(t.campaigns.c.state),
    search=t.campaigns.c.search,
    descending=True,
)
_ONE = sa.select(*_COLUMNS).where(t.campaigns.c.id == sa.bindparam("key"))


class SqlCampaigns:
    """Implements broker.ports.CampaignStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, campaign: Campaign) -> None:
        values = _from_campaign(campaign)

        def work(connection: sa.Connection) -> None:
            if not replace(connection, t.campaigns, [values]):
                connection.execute(sa.insert(t.campaigns), values)

        await self._database.transaction(work, again_on_duplicate=True)

    async def campaign(self, campaign_id: str) -> Campaign | None:
        row = await self._database.read(
            lambda connection: first(connection.execute(_ONE, {"key": campaign_id}))
        )
        return _to_campaign(row) if row is not None else None

    async def campaigns(self, query: PageQuery) -> Page[Campaign]:
        statement = _LISTING.statement(query)

        def work(connection: sa.Connection) -> Page[Campaign]:
            rows, after = _LISTING.fetch(connection, query, statement)
            return Page(items=tuple(map(_to_campaign, rows)), next_after=after)

        return await self._database.read(work)

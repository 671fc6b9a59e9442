"""Campaigns, in memory."""

from __future__ import annotations

from broker.domain.model import Campaign
from broker.ports import Page, PageQuery
from broker.store.memory.state import State, page
from broker.store.paging import check_query, folded


class MemoryCampaigns:
    """Implements broker.ports.CampaignStore."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def save(self, campaign: Campaign) -> None:
        self._state.campaigns[campaign.id] = campaign

    async def campaign(self, campaign_id: str) -> Campaign | None:
        return self._state.campaigns.get(campaign_id)

    async def campaigns(self, query: PageQuery) -> Page[Campaign]:
        check_query(query, filters={"state"}, text=True)
        state, part = query.filters.get("state"), folded(query.text or "")
        rows = (
            one
            for one in self._state.campaigns.values()
            if (state is None or one.state.value == state) and part in folded(one.name)
        )
        return page(rows, query, lambda one: one.id, descending=True)

"""Campaigns, the overview, opening and closing; in every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import ConfigError, UnavailableError
from broker.domain.lifecycle import DesktopEvent, EndpointEvent, SessionEvent
from broker.domain.model import CampaignState
from broker.ports import Overview, Store
from broker.store import open_store
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    claimed_session,
    fill,
    make_campaign,
    make_request,
    new_desktop,
    ready_desktops,
)


async def test_a_campaign_is_saved_and_saved_over(store: Store) -> None:
    campaign = make_campaign()
    await store.campaigns.save(campaign)
    assert await store.campaigns.campaign(campaign.id) == campaign
    finished = replace(
        campaign,
        state=CampaignState.FINISHED,
        verdict="good",
        report_path="latest/report.html",
        summary={},
        finished_at=NOW + 90_000,
    )
    await store.campaigns.save(finished)
    assert await store.campaigns.campaign(campaign.id) == finished
    assert await store.campaigns.campaign("cmp_9") is None


async def test_the_overview_counts_what_there_is(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    await ready_desktops(store, [1], IDV)
    await store.desktops.add([new_desktop(3)], [])
    for event in (DesktopEvent.DELETE_ASKED, DesktopEvent.DELETED):
        await store.desktops.advance(new_desktop(3).id, event, NOW)
    failed = await claimed_session(store, make_request(1))
    await store.sessions.advance(failed.id, SessionEvent.FAILED, NOW, why="")
    await claimed_session(store, make_request(1))
    await claimed_session(store, make_request(2))
    await claimed_session(store, make_request(3, IDV, endpoint_id="ept_1"))
    await store.endpoints.presence("ept_2", EndpointEvent.RETIRED, NOW)
    assert await store.overview() == Overview(
        desktops={("vdi", "assigned"): 2, ("idv", "assigned"): 1},
        sessions={
            ("vdi", "delivering"): 1,
            ("vdi", "queued"): 1,
            ("idv", "delivering"): 1,
        },
        endpoints={("fat", "online"): 1, ("fat", "enrolled"): 2, ("fat", "retired"): 1},
        ended_total={("vdi", "failed"): 1},
    )


async def test_endings_are_counted_once_however_old_they_are(store: Store) -> None:
    await fill(store)
    hour, minute = 3600 * 1000, 60 * 1000
    times = (0, 1, hour, hour + 1, 2 * hour, 9 * hour, 9 * hour + 5, 9 * hour - 5 * minute)
    for ended, at in enumerate(times, start=1):
        session = await claimed_session(store, make_request(1), NOW + at)
        await store.sessions.advance(session.id, SessionEvent.CANCELLED, NOW + at, why="")
        for _ in range(2):
            assert (await store.overview()).ended_total == {("vdi", "cancelled"): ended}


async def test_an_empty_store_has_an_empty_overview(store: Store) -> None:
    await store.ping()
    empty = Overview(desktops={}, sessions={}, endpoints={}, ended_total={})
    assert await store.overview() == empty


async def test_what_was_stored_is_there_after_closing_and_opening(
    store: Store, store_url: str
) -> None:
    await fill(store)
    await store.close()
    again = store if store_url.startswith("memory:") else open_store(store_url)
    await again.open()
    assert await again.directory.user("usr_1") is not None
    await again.close()


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.close()
    with pytest.raises(UnavailableError):
        await store.ping()
    await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://root@localhost/trivium",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite://host/path",
        "postgres://localhost/x",
        "postgresql+asyncpg://localhost/x",
        "postgresql://host:port/x",
        "nonsense",
    ],
)
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(url)


async def test_a_file_that_cannot_be_made_is_a_configuration_error() -> None:
    store = open_store("sqlite:////nonexistent/directory/trivium.db")
    with pytest.raises(ConfigError, match=r"trivium\.db"):
        await store.open()
    await store.close()


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    store = open_store("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(UnavailableError) as caught:
        await store.open()
    await store.close()
    assert caught.value.__cause__ is not None
    assert "127.0.0.1" not in caught.value.detail

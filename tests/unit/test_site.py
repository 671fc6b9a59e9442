"""The site's settings, and opening, draining and maintenance of the site, a pool or a host."""

from __future__ import annotations

from datetime import date

import pytest

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.calendar import Holiday
from broker.domain.errors import ConflictError, IllegalTransitionError, NotFoundError
from broker.domain.model import HostState
from broker.domain.settings import ServiceState, SiteSettings
from broker.ports import PageQuery
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.site import SITE_FRESH_S, Site
from broker.store.memory import MemoryStore
from tests.support.brokers import HookedStore, fill, make_kit
from tests.support.world import HandClock

HOLIDAY = SiteSettings(
    state=ServiceState.DRAINING,
    message="until Monday",
    time_zone="Europe/Vienna",
    holidays=(Holiday(day=date(2026, 12, 25), name="Christmas"),),
    desktops_max=400,
    rebalance_above=0.8,
)


async def _site() -> tuple[Site, Kit, HandClock]:
    store, clock = MemoryStore(), HandClock()
    await fill(store)
    kit = make_kit(store, clock=clock)
    return Site(kit, Pools(kit)), kit, clock


async def _trail(kit: Kit) -> list[AuditEntry]:
    return list((await kit.store.audit.entries(PageQuery(limit=100))).items)


async def test_a_site_that_nobody_set_up_is_open() -> None:
    site, _, _ = await _site()
    assert await site.settings() == SiteSettings()
    assert (await site.read()).revision == 0


async def test_what_is_saved_is_read_again_whole() -> None:
    site, kit, _ = await _site()
    saved = await site.save(HOLIDAY, 0, actor="usr_1", why="Christmas")
    assert saved.revision == 1
    assert await site.settings() == HOLIDAY
    assert (await Site(kit, Pools(kit)).read()).settings == HOLIDAY


async def test_whoever_saves_over_somebody_else_is_told() -> None:
    site, kit, _ = await _site()
    await site.save(HOLIDAY, 0, actor="usr_1")
    with pytest.raises(ConflictError):
        await site.save(SiteSettings(), 0, actor="usr_2")
    assert (await site.read()).settings == HOLIDAY
    refused, done = await _trail(kit)
    assert (refused.actor, refused.outcome) == ("usr_2", Outcome.REFUSED)
    assert (done.actor, done.outcome, done.action) == ("usr_1", Outcome.DONE, "site.change")


async def test_another_process_sees_a_change_soon() -> None:
    site, kit, clock = await _site()
    other = Site(kit, Pools(kit))
    assert (await other.settings()).state is ServiceState.OPEN
    await site.drain(actor="usr_1")
    assert (await other.settings()).state is ServiceState.OPEN
    clock.advance(SITE_FRESH_S)
    assert (await other.settings()).state is ServiceState.DRAINING


async def test_setting_the_state_leaves_the_other_settings_alone() -> None:
    site, _, _ = await _site()
    await site.save(HOLIDAY, 0, actor="usr_1")
    await site.maintenance(actor="usr_1")
    found = await site.settings()
    assert (found.state, found.message) == (ServiceState.MAINTENANCE, "until Monday")
    await site.open(actor="usr_1")
    assert (await site.settings()).state is ServiceState.OPEN


async def test_setting_the_state_is_repeated_when_somebody_saves_meanwhile() -> None:
    site, kit, clock = await _site()
    others = iter([0, 1])
    hooked = HookedStore(kit.store)

    async def somebody_saves(name: str) -> None:
        revision = next(others, None) if name == "documents.save" else None
        if revision is not None:
            await kit.store.documents.save("site", {"message": "theirs"}, revision=revision)

    hooked.before = somebody_saves
    contended = make_kit(hooked.as_store(), clock=clock)
    saved = await Site(contended, Pools(contended)).drain(actor="usr_1")
    assert saved.revision == 3
    assert (saved.settings.state, saved.settings.message) == (ServiceState.DRAINING, "theirs")
    assert (await site.read()) == saved


async def test_a_pool_drains_and_its_other_settings_stay() -> None:
    site, kit, _ = await _site()
    pool = await site.set_pool_state("library", ServiceState.DRAINING, actor="usr_1", why="image")
    assert pool.settings.state is ServiceState.DRAINING
    [stored] = await kit.store.directory.pools()
    assert stored == pool
    [entry] = await _trail(kit)
    assert (entry.action, entry.pool_id, entry.why) == ("pool.drain", pool.id, "image")
    assert entry.outcome is Outcome.DONE


async def test_a_host_goes_through_its_lifecycle_and_each_step_is_written_down() -> None:
    site, kit, _ = await _site()
    for state, expected in (
        (ServiceState.DRAINING, HostState.DRAINING),
        (ServiceState.MAINTENANCE, HostState.MAINTENANCE),
        (ServiceState.OPEN, HostState.UP),
    ):
        moved = await site.set_host_state("server-1", state, actor="usr_1")
        assert moved.state is expected
    await site.set_host_lost("server-1", lost=True, actor="usr_1", why="no power")
    assert (await site.host("server-1")).state is HostState.DOWN
    await site.set_host_lost("server-1", lost=False, actor="usr_1")
    assert (await site.host("hst_1")).state is HostState.UP
    assert [entry.action for entry in reversed(await _trail(kit))] == [
        "host.drain",
        "host.maintain",
        "host.open",
        "host.lost",
        "host.back",
    ]


async def test_what_cannot_be_is_refused_and_written_down_as_refused() -> None:
    site, kit, _ = await _site()
    with pytest.raises(IllegalTransitionError):
        await site.set_host_state("server-1", ServiceState.OPEN, actor="usr_1")
    with pytest.raises(NotFoundError):
        await site.set_host_state("nowhere", ServiceState.OPEN, actor="usr_1")
    [entry] = await _trail(kit)
    assert entry.outcome is Outcome.REFUSED
    assert entry.details["error"] == "lifecycle.refused"

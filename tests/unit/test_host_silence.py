"""Hosts that do not answer: noticed, told, kept out of use, given up only where that is safe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker import limits
from broker.domain.audit import AuditEntry
from broker.domain.errors import NotHereError
from broker.domain.model import DesktopState, Host, HostState, LogOff, PoolKind, Session
from broker.domain.settings import ServiceState, SiteSettings
from broker.domain.silence import SILENCE_DOCUMENT, Silence
from broker.ports import Engine, PageQuery, RosterChange
from broker.services.shared_work import Work
from tests.support.builders import make_host
from tests.support.world import World, make_world

D = DesktopState
ENOUGH_S = limits.HOST_SILENT_S + 1
LOST_S = limits.LOST_AFTER_S_MIN


async def three_hosts(world: World) -> None:
    hosts = tuple(make_host(id=f"hst_{n}", name=f"server-{n}") for n in (2, 3))
    await world.kit.store.directory.apply_roster(RosterChange(hosts=hosts))
    await world.look(4)


async def at_work(world: World) -> tuple[Session, str]:
    """A person's session, and the host that it is on."""
    session = (await world.connect.connect(world.who("pupil0"), "library")).session
    assert session.desktop_id is not None
    desktop = await world.kit.store.desktops.desktop(session.desktop_id)
    assert desktop is not None
    assert desktop.host_id is not None
    return session, desktop.host_id


def fall_silent(world: World, host_id: str) -> None:
    world.engine.unheard[host_id] = Silence(since=world.clock.now(), why="it hung up")


async def sweep(world: World, seconds: float = 0) -> None:
    world.clock.advance(seconds)
    await world.services.host_silence.sweep(await world.services.shared.hold(Work.SWEEPER))


async def told(world: World) -> list[AuditEntry]:
    found = (await world.kit.store.audit.entries(PageQuery(limit=200))).items
    return [one for one in found if one.action in {"host.silent", "host.heard", "host.lost"}]


async def state(world: World, host_id: str) -> HostState:
    return (await world.services.site.host(host_id)).state


async def allow(world: World, after_s: int = LOST_S) -> None:
    await world.services.site.save(SiteSettings(lost_after_s=after_s), 0, actor="adm")


async def test_a_host_counts_as_silent_after_a_while_and_everybody_is_told_once() -> None:
    async with make_world() as world:
        await three_hosts(world)
        session, host_id = await at_work(world)
        fall_silent(world, host_id)
        await sweep(world, limits.HOST_SILENT_S - 1)
        assert (await world.services.host_silence.known(), await told(world)) == ({}, [])
        for _ in range(3):
            await sweep(world, 10)
        known = await world.services.host_silence.known()
        assert known == {host_id: world.engine.unheard[host_id]}
        assert world.services.host_silence.count == 1
        [entry] = await told(world)
        assert (entry.action, entry.host_id, entry.why) == ("host.silent", host_id, "it hung up")
        now = await world.kit.store.sessions.session(session.id)
        assert now is not None
        assert now.notice is not None
        assert ("does not answer" in now.notice.text, now.notice.sender) == (True, "")
        del world.engine.unheard[host_id]
        await sweep(world, 10)
        assert await world.services.host_silence.known() == {}
        assert [one.action for one in await told(world)] == ["host.heard", "host.silent"]
        now = await world.kit.store.sessions.session(session.id)
        assert now is not None
        assert now.notice is not None
        assert "answers again" in now.notice.text


async def test_nothing_is_made_on_a_host_that_is_silent_and_nobody_is_given_a_desktop_there() -> (
    None
):
    async with make_world() as world:
        await three_hosts(world)
        spares = {one.host_id for one in await world.desktops(D.READY) if one.host_id}
        for host_id in spares:
            fall_silent(world, host_id)
        await sweep(world, ENOUGH_S)
        before = {one.id for one in await world.desktops()}
        outcome = await world.connect.connect(world.who("pupil0"), "library")
        assert outcome.session.desktop_id is None
        await world.look(4)
        made = [one for one in await world.desktops() if one.id not in before]
        assert made
        assert not {one.host_id for one in made} & spares
        served = await world.kit.store.sessions.session(outcome.session.id)
        assert served is not None
        assert served.desktop_id in {one.id for one in made}


async def test_a_host_is_left_out_of_placement_as_soon_as_its_engine_has_missed_it() -> None:
    async with make_world() as world:
        await three_hosts(world)
        used = {one.host_id for one in await world.desktops(D.READY) if one.host_id}
        fullest = min(used)
        for host_id in {"hst_1", "hst_2", "hst_3"} - {fullest}:
            fall_silent(world, host_id)
        world.clock.advance(ENOUGH_S)
        before = {one.id for one in await world.desktops()}
        for number in range(4):
            await world.connect.connect(world.who(f"pupil{number}"), "library")
        await world.look(4)
        made = {one.host_id for one in await world.desktops() if one.id not in before}
        assert made == {fullest}


async def test_who_takes_the_work_over_goes_on_from_what_was_known() -> None:
    async with make_world() as world:
        await three_hosts(world)
        fall_silent(world, "hst_2")
        before = world.engine.unheard["hst_2"].since
        await sweep(world, ENOUGH_S)
        # another process has listened for less long
        world.engine.unheard["hst_2"] = Silence(since=before + 20_000, why="it was not reached")
        await sweep(world, ENOUGH_S)
        assert (await world.services.host_silence.known())["hst_2"].since == before
        assert len(await told(world)) == 1
        await world.services.host_silence.sweep(None)
        assert world.services.host_silence.count is None


async def test_a_restart_does_not_declare_a_silent_host_heard() -> None:
    async with make_world() as world:
        await three_hosts(world)
        await allow(world)
        fall_silent(world, "hst_2")
        before = world.engine.unheard["hst_2"].since
        await sweep(world, ENOUGH_S)
        world.clock.advance(100 * LOST_S)
        # who listens from now on has not heard any host yet
        for host_id in ("hst_1", "hst_2"):
            world.engine.unheard[host_id] = Silence(since=world.clock.now(), why="not reached yet")
        await sweep(world, 1)
        known = await world.services.host_silence.known()
        assert {host_id: one.since for host_id, one in known.items()} == {"hst_2": before}
        assert [one.action for one in await told(world)] == ["host.silent"]
        # nor is it given up for what the process before this one missed: it may have been heard
        # while all were down
        assert await state(world, "hst_2") is HostState.UP
        del world.engine.unheard["hst_1"]
        await sweep(world, LOST_S - 2)
        assert await state(world, "hst_2") is HostState.UP
        assert (await world.services.host_silence.known())["hst_2"].since == before
        await sweep(world, 1)
        assert await state(world, "hst_2") is HostState.DOWN
        assert f"for {LOST_S} s" in (await told(world))[0].why


@pytest.mark.parametrize("lacks", ["engine", "profile"])
async def test_a_process_that_cannot_tell_leaves_a_silent_host_as_another_found_it(
    monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """It has not the host's engine, or cannot read its profile: it hears nothing of it."""
    async with make_world() as world:
        await three_hosts(world)
        await allow(world)
        fall_silent(world, "hst_2")
        await sweep(world, ENOUGH_S)
        before = await world.services.host_silence.known()

        def cannot(_: object) -> Silence | None:
            raise NotHereError("no knob is called 'later_knob'")

        def missing(name: str) -> Engine:
            raise KeyError(name)

        if lacks == "profile":
            monkeypatch.setattr(world.engine, "silence", cannot)
        else:
            monkeypatch.setattr(world.services.host_silence, "_engines", missing)
        for _ in range(3):
            await sweep(world, 100 * LOST_S)
        assert await world.services.host_silence.known() == before
        assert [one.action for one in await told(world)] == ["host.silent"]
        assert await state(world, "hst_2") is HostState.UP


async def test_nothing_is_made_on_a_host_whose_profile_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_world() as world:
        await three_hosts(world)
        before = {one.id for one in await world.desktops()}
        silence = world.engine.silence

        def cannot(host: Host) -> Silence | None:
            if host.id == "hst_2":
                raise NotHereError("no knob is called 'later_knob'")
            return silence(host)

        monkeypatch.setattr(world.engine, "silence", cannot)
        for number in range(4):
            await world.connect.connect(world.who(f"pupil{number}"), "library")
        await world.look(4)
        made = [one for one in await world.desktops() if one.id not in before]
        assert made
        assert "hst_2" not in {one.host_id for one in made}


async def test_a_host_that_was_put_back_is_not_given_up_for_its_silence_before() -> None:
    async with make_world() as world:
        await three_hosts(world)
        await allow(world)
        fall_silent(world, "hst_2")
        await sweep(world, LOST_S)
        assert await state(world, "hst_2") is HostState.DOWN
        world.clock.advance(100 * LOST_S)
        await world.services.site.set_host_lost("hst_2", lost=False, actor="adm")
        back = world.clock.now()
        await sweep(world, ENOUGH_S)
        assert await state(world, "hst_2") is HostState.UP
        await sweep(world, LOST_S - ENOUGH_S)
        assert await state(world, "hst_2") is HostState.DOWN
        assert world.clock.now() == back + LOST_S * 1000


async def test_a_silent_host_that_is_drained_goes_on_being_silent() -> None:
    async with make_world() as world:
        await three_hosts(world)
        fall_silent(world, "hst_2")
        await sweep(world, ENOUGH_S)
        before = await world.services.host_silence.known()
        await world.services.site.set_host_state("hst_2", ServiceState.DRAINING, actor="adm")
        await sweep(world, 1)
        assert await world.services.host_silence.known() == before
        assert [one.action for one in await told(world)] == ["host.silent"]


async def test_a_host_is_given_up_by_itself_only_where_the_site_allows_it() -> None:
    async with make_world() as world:
        await three_hosts(world)
        session, host_id = await at_work(world)
        fall_silent(world, host_id)
        await sweep(world, 100 * LOST_S)
        assert await state(world, host_id) is HostState.UP
        await allow(world)
        await sweep(world)
        assert await state(world, host_id) is HostState.DOWN
        entry = (await told(world))[0]
        assert (entry.action, entry.actor) == ("host.lost", "broker")
        await world.look(4)
        ended = await world.kit.store.sessions.session(session.id)
        assert ended is not None
        assert ended.ended_at is not None
        # it answers again: whoever looked into it opens it
        del world.engine.unheard[host_id]
        await sweep(world, 10)
        assert await state(world, host_id) is HostState.DOWN


async def test_a_host_is_not_given_up_before_its_time() -> None:
    async with make_world() as world:
        await three_hosts(world)
        await allow(world)
        fall_silent(world, "hst_2")
        await sweep(world, LOST_S - 1)
        assert await state(world, "hst_2") is HostState.UP
        await sweep(world, 1)
        assert await state(world, "hst_2") is HostState.DOWN


async def test_a_host_on_which_a_persons_work_lies_is_left_to_an_administrator() -> None:
    async with make_world() as world:
        await three_hosts(world)
        pool = await world.pools.find("library")
        kept = replace(pool, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
        await world.kit.store.directory.save_pool(kept, new=False)
        world.pools.forget()
        _, host_id = await at_work(world)
        await allow(world)
        fall_silent(world, host_id)
        await sweep(world, 100 * LOST_S)
        assert await state(world, host_id) is HostState.UP


@pytest.mark.parametrize("silent", [("hst_1", "hst_2"), ("hst_1", "hst_2", "hst_3")])
async def test_a_broker_that_is_cut_off_itself_gives_up_nothing(silent: tuple[str, ...]) -> None:
    async with make_world() as world:
        await three_hosts(world)
        await allow(world)
        for host_id in silent:
            fall_silent(world, host_id)
        await sweep(world, 100 * LOST_S)
        assert {await state(world, one) for one in silent} == {HostState.UP}
        assert world.services.host_silence.count == len(silent)


async def test_a_host_that_should_not_run_is_not_missed() -> None:
    async with make_world() as world:
        await three_hosts(world)
        await world.services.site.set_host_lost("hst_2", lost=True, actor="adm")
        fall_silent(world, "hst_2")
        await sweep(world, ENOUGH_S)
        document = await world.kit.store.documents.document(SILENCE_DOCUMENT)
        assert (document, world.services.host_silence.count) == (None, 0)

"""The way of one request under each architecture, over the memory store, with time in hand."""

from __future__ import annotations

import asyncio

import pytest

from broker import limits
from broker.domain.errors import (
    BadTicketError,
    ConflictError,
    ForbiddenError,
    IdempotencyMismatchError,
    NotEntitledError,
    NotFoundError,
)
from broker.domain.model import DesktopState, PhaseReport, SessionState, Traffic
from broker.ports import FreshOrder, StartOrder, StopOrder
from tests.support.world import make_world


async def test_vdi_from_a_browser_goes_from_ready_to_ticket_to_live_to_fresh_again() -> None:
    async with make_world() as world:
        await world.look(3)
        assert len(await world.desktops(DesktopState.READY)) == 2
        answer = await world.connect.connect(world.who("pupil1"), "library")
        assert answer.session.state is SessionState.DELIVERING
        assert answer.ticket is not None
        session, _ = await world.sessions.redeem_display(answer.ticket, answer.session.id, "tok")
        await world.sessions.live(session.id, None, session.generation)
        live = await world.sessions.get(world.who("pupil1"), session.id)
        assert live.state is SessionState.ACTIVE
        ended = await world.sessions.log_off(world.who("pupil1"), session.id)
        assert ended.state is SessionState.ENDED
        assert session.desktop_id is not None
        desktop = await world.kit.store.desktops.desktop(session.desktop_id)
        assert desktop is not None
        assert desktop.state is DesktopState.RESETTING
        assert desktop.generation == session.generation + 1
        await world.look()
        assert ("reset", desktop.name) in world.engine.done
        fresh = await world.kit.store.desktops.desktop(desktop.id)
        assert fresh is not None
        assert fresh.state is DesktopState.READY


async def test_a_ticket_works_once_and_only_for_a_minute() -> None:
    async with make_world() as world:
        await world.look(3)
        first = await world.connect.connect(world.who("pupil1"), "library")
        assert first.ticket is not None
        await world.sessions.redeem_display(first.ticket, first.session.id, "tok")
        with pytest.raises(BadTicketError):
            await world.sessions.redeem_display(first.ticket, first.session.id, "tok")
        again = await world.connect.connect(world.who("pupil1"), "library")
        assert again.session.id == first.session.id
        assert not again.new
        assert again.ticket is not None
        world.clock.advance(limits.TICKET_S + 1)
        with pytest.raises(BadTicketError):
            await world.sessions.redeem_display(again.ticket, None, "tok")


async def test_idv_at_an_endpoint_gets_a_lease_and_goes_fresh_through_the_endpoint() -> None:
    async with make_world() as world:
        endpoint = await world.online("ART-0")
        answer = await world.connect.connect(world.who("pupil1"), "art", "ART-0")
        assert answer.session.state is SessionState.DELIVERING
        assert answer.session.endpoint_id == endpoint.id
        [start] = world.orders(endpoint.id, StartOrder)
        assert start.username == "pupil1"
        redeemed = await world.sessions.redeem(answer.session.id, start.ticket, endpoint.id)
        grant = await world.sessions.grant(redeemed)
        assert grant.lease_until == world.clock.now() + 7 * 86400 * 1000
        assert len(grant.manifest.digests) == grant.manifest.segments == 8
        phase = PhaseReport(name="image_fetch", took_ms=12.5, bytes_down=1024)
        await world.sessions.phases(answer.session.id, endpoint.id, [phase])
        await world.sessions.traffic(answer.session.id, endpoint.id, Traffic(image=1024))
        await world.sessions.live(answer.session.id, endpoint.id, answer.session.generation)
        live = await world.sessions.get(world.who("pupil1"), answer.session.id)
        assert live.state is SessionState.ACTIVE
        assert live.phases == (phase,)
        assert live.traffic.image == 1024
        ending = await world.sessions.log_off(world.who("pupil1"), live.id)
        assert ending.state is SessionState.ENDING
        assert len(world.orders(endpoint.id, StopOrder)) == 1
        before = len(world.orders(endpoint.id, FreshOrder))
        await world.sessions.ended(live.id, endpoint.id, live.generation)
        assert len(world.orders(endpoint.id, FreshOrder)) == before + 1
        await world.answer_fresh(endpoint.id)
        assert live.desktop_id is not None
        desktop = await world.kit.store.desktops.desktop(live.desktop_id)
        assert desktop is not None
        assert (desktop.state, desktop.generation) == (DesktopState.READY, live.generation + 1)


async def test_voi_grants_the_boot_segments_only_and_no_lease() -> None:
    async with make_world() as world:
        endpoint = await world.online("LAB-0")
        answer = await world.connect.connect(world.who("pupil1"), "lab", "LAB-0")
        [start] = world.orders(endpoint.id, StartOrder)
        redeemed = await world.sessions.redeem(answer.session.id, start.ticket, endpoint.id)
        grant = await world.sessions.grant(redeemed)
        assert grant.lease_until is None
        assert len(grant.manifest.digests) == grant.manifest.boot_segments == 2


async def test_an_endpoint_cannot_speak_for_another_ones_session() -> None:
    async with make_world() as world:
        mine, other = await world.online("LAB-0"), await world.online("LAB-1")
        answer = await world.connect.connect(world.who("pupil1"), "lab", "LAB-0")
        [start] = world.orders(mine.id, StartOrder)
        with pytest.raises(BadTicketError):
            await world.sessions.redeem(answer.session.id, start.ticket, other.id)
        await world.sessions.live(answer.session.id, other.id, answer.session.generation)
        await world.sessions.failed(answer.session.id, other.id, answer.session.generation, "x")
        await world.sessions.ended(answer.session.id, other.id, answer.session.generation)
        session = await world.sessions.get(world.who("pupil1"), answer.session.id)
        assert session.state is SessionState.DELIVERING


async def test_reports_of_an_older_generation_change_nothing() -> None:
    async with make_world() as world:
        endpoint = await world.online("LAB-0")
        answer = await world.connect.connect(world.who("pupil1"), "lab", "LAB-0")
        old = answer.session.generation - 1
        await world.sessions.live(answer.session.id, endpoint.id, old)
        session = await world.sessions.get(world.who("pupil1"), answer.session.id)
        assert session.state is SessionState.DELIVERING


async def test_who_finds_no_desktop_waits_in_a_fair_queue_and_is_served_in_order() -> None:
    async with make_world() as world:
        await world.online("LAB-0")
        first = await world.connect.connect(world.who("pupil0"), "lab", "LAB-0")
        second = await world.connect.connect(world.who("pupil1"), "lab", "LAB-1")
        third = await world.connect.connect(world.who("pupil2"), "lab", "LAB-1")
        assert first.session.state is SessionState.DELIVERING
        assert (second.place, third.place) == (1, 2)
        assert second.ticket is None
        await world.online("LAB-1")
        await world.look()
        now = await world.sessions.get(world.who("pupil1"), second.session.id)
        assert now.state is SessionState.DELIVERING
        left = await world.sessions.get(world.who("pupil2"), third.session.id)
        assert await world.connect.place(left) == 1


async def test_leaving_the_queue_lets_the_next_one_up() -> None:
    async with make_world() as world:
        for n in (0, 1):
            await world.connect.connect(world.who(f"pupil{n}"), "lab", "LAB-0")
        waiting = await world.connect.connect(world.who("pupil2"), "lab", "LAB-0")
        [own] = await world.sessions.own(world.who("pupil0"))
        cancelled = await world.sessions.log_off(world.who("pupil0"), own.id)
        assert cancelled.state is SessionState.CANCELLED
        assert await world.connect.place(waiting.session) == 2


async def test_a_thousand_claims_at_once_share_commits_and_double_nothing() -> None:
    async with make_world(people=60) as world:
        await world.look(6)
        answers = await asyncio.gather(
            *(world.connect.connect(world.who(f"pupil{n}"), "library") for n in range(60))
        )
        held = [one.session.desktop_id for one in answers if one.session.desktop_id is not None]
        assert len(held) == len(set(held)) > 0
        places = sorted(one.place for one in answers if one.place is not None)
        assert places == list(range(1, 60 - len(held) + 1))


async def test_a_hung_up_claim_takes_no_desktop() -> None:
    async with make_world() as world:
        await world.online("LAB-0")
        caller = asyncio.ensure_future(world.connect.connect(world.who("pupil1"), "lab", "LAB-0"))
        await asyncio.sleep(0)
        while not caller.done() and world.connect.waiting == 0:
            await asyncio.sleep(0)
        caller.cancel()
        await world.settle()
        page = await world.desktops(DesktopState.ASSIGNED)
        assert page == []


async def test_only_those_entitled_are_admitted_and_unknown_names_are_told() -> None:
    async with make_world() as world:
        with pytest.raises(NotEntitledError):
            await world.connect.connect(world.who("stranger"), "library")
        with pytest.raises(NotFoundError):
            await world.connect.connect(world.who("pupil1"), "no-such-pool")
        with pytest.raises(NotFoundError):
            await world.connect.connect(world.who("pupil1"), "lab", "NO-SUCH-ENDPOINT")


async def test_one_idempotency_key_is_one_session_and_not_another_request() -> None:
    async with make_world() as world:
        await world.look(3)
        me = world.who("pupil1")
        first = await world.connect.connect(me, "library", None, "key-1")
        again = await world.connect.connect(me, "library", None, "key-1")
        assert again.session.id == first.session.id
        with pytest.raises(IdempotencyMismatchError):
            await world.connect.connect(me, "lab", "LAB-0", "key-1")


async def test_somebody_elses_session_is_not_found_and_not_ended() -> None:
    async with make_world() as world:
        await world.look(3)
        answer = await world.connect.connect(world.who("pupil1"), "library")
        with pytest.raises(NotFoundError):
            await world.sessions.get(world.who("pupil2"), answer.session.id)
        with pytest.raises(ForbiddenError):
            await world.sessions.log_off(world.who("auditor"), answer.session.id)
        ended = await world.sessions.log_off(world.who("operator"), answer.session.id)
        assert ended.why == "ended by operator"


async def test_a_thin_endpoint_that_goes_away_leaves_the_desktop_and_gets_it_back() -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await world.online("THIN-0")
        answer = await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        await world.sessions.live(answer.session.id, endpoint.id, answer.session.generation)
        await world.offline("THIN-0")
        away = await world.sessions.get(world.who("pupil1"), answer.session.id)
        assert away.state is SessionState.DISCONNECTED
        assert away.desktop_id == answer.session.desktop_id
        await world.online("THIN-0")
        [again] = world.orders(endpoint.id, StartOrder)
        assert again.session.id == answer.session.id
        await world.sessions.live(answer.session.id, endpoint.id, answer.session.generation)
        back = await world.sessions.get(world.who("pupil1"), answer.session.id)
        assert back.state is SessionState.ACTIVE


async def test_after_a_disconnect_on_request_the_old_endpoint_does_not_show_it_again() -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await world.online("THIN-0")
        answer = await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        await world.sessions.live(answer.session.id, endpoint.id, answer.session.generation)
        gone = await world.sessions.disconnect(world.who("pupil1"), answer.session.id)
        assert gone.state is SessionState.DISCONNECTED
        assert gone.endpoint_id is None
        assert len(world.orders(endpoint.id, StopOrder)) == 1
        await world.offline("THIN-0")
        await world.online("THIN-0")
        assert world.orders(endpoint.id, StartOrder) == []
        elsewhere = await world.connect.connect(world.who("pupil1"), "library")
        assert elsewhere.session.id == answer.session.id
        assert elsewhere.session.state is SessionState.DELIVERING
        assert elsewhere.ticket is not None


async def test_a_desktop_that_is_the_endpoint_cannot_be_disconnected() -> None:
    async with make_world() as world:
        await world.online("LAB-0")
        answer = await world.connect.connect(world.who("pupil1"), "lab", "LAB-0")
        with pytest.raises(ConflictError):
            await world.sessions.disconnect(world.who("pupil1"), answer.session.id)


async def test_idv_is_kept_until_its_lease_ends_and_then_released() -> None:
    async with make_world() as world:
        endpoint = await world.online("ART-0")
        answer = await world.connect.connect(world.who("pupil1"), "art", "ART-0")
        await world.sessions.live(answer.session.id, endpoint.id, answer.session.generation)
        await world.offline("ART-0")
        world.clock.advance(6 * 86400)
        await world.look()
        away = await world.sessions.get(world.who("pupil1"), answer.session.id)
        assert away.state is SessionState.DISCONNECTED
        world.clock.advance(86400 + 60)
        await world.look()
        over = await world.sessions.get(world.who("pupil1"), answer.session.id)
        assert over.state is SessionState.ENDED


async def test_a_lease_is_renewed_while_the_endpoint_is_in_reach() -> None:
    async with make_world() as world:
        endpoint = await world.online("ART-0")
        answer = await world.connect.connect(world.who("pupil1"), "art", "ART-0")
        await world.sessions.live(answer.session.id, endpoint.id, answer.session.generation)
        first = len(world.orders(endpoint.id, StartOrder))
        world.clock.advance(2 * 86400)
        await world.sessions.carried(endpoint.id, {answer.session.id})
        assert len(world.orders(endpoint.id, StartOrder)) == first
        world.clock.advance(2 * 86400)
        await world.sessions.carried(endpoint.id, {answer.session.id})
        order = world.orders(endpoint.id, StartOrder)[-1]
        session = await world.sessions.redeem(answer.session.id, order.ticket, endpoint.id)
        grant = await world.sessions.grant(session)
        await world.sessions.renewed(session, grant.lease_until)
        kept = await world.sessions.get(world.who("pupil1"), answer.session.id)
        assert kept.state is SessionState.ACTIVE
        assert kept.lease_until == world.clock.now() + 7 * 86400 * 1000


async def test_a_delivery_that_never_comes_alive_fails_and_frees_the_desktop() -> None:
    async with make_world() as world:
        await world.look(3)
        answer = await world.connect.connect(world.who("pupil1"), "library")
        world.clock.advance(limits.DELIVER_S + 1)
        await world.look(2)
        session = await world.sessions.get(world.who("pupil1"), answer.session.id)
        assert session.state is SessionState.FAILED
        again = await world.connect.connect(world.who("pupil1"), "library")
        assert again.new


async def test_waiting_for_a_session_ends_at_its_next_change() -> None:
    async with make_world() as world:
        await world.look(3)
        me = world.who("pupil1")
        answer = await world.connect.connect(me, "library")
        waiter = asyncio.ensure_future(
            world.sessions.wait(me, answer.session.id, answer.session.revision, 30)
        )
        await world.settle()
        assert not waiter.done()
        await world.sessions.live(answer.session.id, None, answer.session.generation)
        later = await waiter
        assert later.state is SessionState.ACTIVE

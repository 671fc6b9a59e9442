"""Shadows end: whoever may ends them, and so does what they were allowed for."""

from __future__ import annotations

import asyncio

import pytest

from broker import limits, wire
from broker.domain.errors import UnavailableError
from broker.domain.lifecycle import SessionEvent
from broker.domain.settings import Shadowing
from broker.domain.shadowing import ShadowEnd
from tests.api.test_shadowing import only_shadow, over, stage
from tests.support.eventually import eventually
from tests.support.shadows import Stage, said

__all__ = ["stage"]


@pytest.mark.parametrize(
    ("who", "code"),
    [("ann", "shadow.stopped"), ("oliver", "shadow.ended"), ("alice", "shadow.ended")],
)
async def test_the_person_and_the_staff_end_it_at_any_moment(
    stage: Stage, who: str, code: str
) -> None:
    async with stage.desktop() as own, stage.opened() as end:
        shadow_id = (await only_shadow(stage))["id"]
        assert (await stage.end(shadow_id, who)).json["code"] == code
        await over(stage, end)
        assert not own.closed
        assert ("shadow.end", "done", who) in await stage.written()


async def test_nobody_else_ends_it(stage: Stage) -> None:
    async with stage.desktop(), stage.opened() as end:
        shadow_id = (await only_shadow(stage))["id"]
        for who in ("bob", "audrey"):
            assert (await stage.end(shadow_id, who)).status in {403, 404}
        assert not end.socket.closed


async def test_it_ends_though_another_broker_was_told_and_no_hint_came(stage: Stage) -> None:
    async with stage.desktop(), stage.opened() as end:
        shadow_id = (await only_shadow(stage))["id"]
        ann = await stage.app.services.accounts.identify(stage.who("ann").token)
        await stage.elsewhere().end(ann, stage.session_id, shadow_id)
        await over(stage, end)
        assert (await only_shadow(stage))["code"] == "shadow.stopped"


@pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/disconnect")])
async def test_it_ends_with_the_session(stage: Stage, method: str, path: str) -> None:
    async with stage.desktop(), stage.opened() as end:
        await stage.call(method, path, "alice")
        await over(stage, end, alone=False)
        assert (await only_shadow(stage))["code"] == "shadow.session_over"


async def test_it_ends_with_the_session_without_a_hint(stage: Stage) -> None:
    async with stage.desktop(), stage.opened() as end:
        store, now = stage.app.services.kit.store, stage.app.clock.now()
        await store.sessions.advance(stage.session_id, SessionEvent.FAILED, now, why="elsewhere")
        await over(stage, end, alone=False)
        assert (await only_shadow(stage))["code"] == "shadow.session_over"


async def test_it_ends_when_the_person_opens_the_desktop_anew(stage: Stage) -> None:
    async with stage.desktop(), stage.opened() as end, stage.desktop():
        await over(stage, end)
        assert (await only_shadow(stage))["code"] == "shadow.moved"


async def test_it_ends_when_the_pool_does_not_allow_it_any_more(stage: Stage) -> None:
    async with stage.desktop(), stage.opened("interactive") as end:
        await stage.settings(shadowing=Shadowing.VIEW)
        await over(stage, end)
        assert (await only_shadow(stage))["code"] == "shadow.not_allowed"


async def test_it_ends_when_its_viewer_signs_out(stage: Stage) -> None:
    async with stage.desktop(), stage.opened() as end:
        await stage.app.call("POST", "/auth/logout", stage.who("oliver"))
        await over(stage, end)
        assert (await only_shadow(stage))["code"] == "shadow.signed_out"


async def test_it_ends_when_its_viewer_may_not_shadow_any_more(stage: Stage) -> None:
    async with stage.desktop(), stage.opened() as end:
        path = f"/users/{stage.who('oliver').id}"
        await stage.app.call("PATCH", path, stage.who("alice"), body={"role": "auditor"})
        await over(stage, end)
        assert (await only_shadow(stage))["code"] == "shadow.signed_out"


async def test_it_ends_after_the_longest_time_and_must_be_asked_anew(stage: Stage) -> None:
    async with stage.desktop(), stage.opened() as end:
        stage.app.clock.shift_s += limits.SHADOW_S_MAX + 1
        await over(stage, end)
        assert (await only_shadow(stage))["code"] == "shadow.time_limit"


async def test_it_ends_where_the_database_cannot_say_that_it_may_go_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.desktop() as own, stage.opened() as end:
        documents = stage.app.services.kit.store.documents

        async def away(*args: object, **named: object) -> None:
            raise UnavailableError("the database is away")

        with monkeypatch.context() as outage:
            outage.setattr(documents, "document", away)
            outage.setattr(limits, "SHADOW_UNCHECKED_S", 0.1)
            assert await over(stage, end) == "shadow.unchecked"
        assert not own.closed, "the person's own display outlives it"


async def test_a_look_that_is_not_answered_ends_nothing_by_itself(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.desktop(), stage.opened() as end:
        size = await end.greet()
        documents = stage.app.services.kit.store.documents
        tries = 0

        async def away(*args: object, **named: object) -> None:
            nonlocal tries
            tries += 1
            raise UnavailableError("the database is away")

        with monkeypatch.context() as outage:
            outage.setattr(documents, "document", away)
            await eventually(lambda: tries > 3)
        assert len(await end.picture(*size)) == 4
        assert (await only_shadow(stage))["state"] == "open"


async def test_a_list_that_is_slow_to_change_ends_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.settings(consent_s=30)
    async with stage.desktop(), stage.opened() as end:
        size = await end.greet()
        waiting = await stage.asked(who="alice")
        documents = stage.app.services.kit.store.documents
        stuck = asyncio.Event()

        async def hangs(*args: object, **named: object) -> None:
            stuck.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as slow:
            slow.setattr(documents, "save", hangs)
            slow.setattr(limits, "DISPLAY_OPEN_S", 0.5)
            stage.app.clock.shift_s += 31  # nobody has answered alice, and the sign of life is due
            await stage.app.services.showing.renew()
            await asyncio.wait_for(stuck.wait(), 60)
            assert await stage.app.broker.shadows.look()
        await end.picture(*size)
        while (await stage.now(waiting))["state"] == "asked":
            await asyncio.sleep(0.02)


async def test_a_fault_of_the_look_ends_what_is_open_and_nothing_else(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bugs: list[BaseException] = []
    stage.app.broker.shadows.on_bug = bugs.append
    async with stage.desktop() as own, stage.opened() as end:
        documents = stage.app.services.kit.store.documents

        async def wrong(*args: object, **named: object) -> None:
            raise ValueError("a fault")

        with monkeypatch.context() as fault:
            fault.setattr(documents, "document", wrong)
            assert await end.ended() == "shadow.unchecked"
            await eventually(lambda: len(bugs) > 1)
        await eventually(lambda: stage.app.broker.shadows.open_count == 0)
        assert not own.closed


def test_what_could_not_be_checked_ends_within_five_seconds() -> None:
    assert limits.SHADOW_UNCHECKED_S + limits.SHADOW_RETRY_S < 5
    assert limits.SHADOW_CHECK_S + 2 * limits.SHADOW_LOOK_S <= limits.SHADOW_UNCHECKED_S, (
        "one look that is not answered leaves time for another"
    )


async def test_a_database_that_hangs_does_not_keep_the_place_of_what_has_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.desktop(), stage.opened() as end:
        documents = stage.app.services.kit.store.documents

        async def hangs(*args: object, **named: object) -> None:
            await asyncio.Event().wait()

        with monkeypatch.context() as slow:
            slow.setattr(documents, "save", hangs)
            slow.setattr(limits, "DISPLAY_OPEN_S", 0.05)
            stage.app.broker.shadows.end((await only_shadow(stage))["id"], "shadow.signed_out")
            await over(stage, end)


async def test_the_trail_says_why_it_really_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.desktop():
        shadows, shadow_id = stage.app.services.shadows, await stage.asked()
        ann = await stage.app.services.accounts.identify(stage.who("ann").token)
        documents = stage.app.services.kit.store.documents

        async def away(*args: object, **named: object) -> None:
            raise UnavailableError("the database is away")

        with monkeypatch.context() as outage:
            outage.setattr(documents, "save", away)
            with pytest.raises(UnavailableError):
                await shadows.end(ann, stage.session_id, shadow_id)
        assert [action for action, _, _ in await stage.written()] == ["shadow.ask"]
        (stale,) = await shadows.of_session(ann, stage.session_id)
        await stage.end(shadow_id, "oliver")
        ended = await shadows._end(stale, ShadowEnd.STOPPED, ann.user_id)
        assert ended.why is ShadowEnd.ENDED
        path = f"/audit?limit=200&session_id={stage.session_id}&action=shadow.end"
        (entry,) = (await stage.app.call("GET", path, stage.who("alice"))).json["items"]
        assert entry["details"]["code"] == "shadow.ended"
        assert entry["actor"]["id"] == stage.who("oliver").id


async def test_a_trail_that_is_away_stops_nobody_from_ending_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.desktop(), stage.opened() as end:
        shadow_id = (await only_shadow(stage))["id"]
        ann = await stage.app.services.accounts.identify(stage.who("ann").token)

        async def away(*args: object, **named: object) -> None:
            raise UnavailableError("the trail is away")

        with monkeypatch.context() as outage:
            outage.setattr(stage.app.services.kit.store.audit, "append", away)
            ended = await stage.app.services.shadows.end(ann, stage.session_id, shadow_id)
            assert ended.why is ShadowEnd.STOPPED
            await over(stage, end)
        async with asyncio.timeout(60):
            while ("shadow.end", "done", "ann") not in await stage.written():
                await asyncio.sleep(0.02)


async def test_it_ends_with_its_broker(stage: Stage) -> None:
    async with stage.desktop(), stage.opened() as end:
        stage.app.broker.shadows.stop()
        await over(stage, end)
        assert (await only_shadow(stage))["code"] == "shadow.broker_stops"
        shadow_id = await stage.allowed()
        async with stage.shadow(shadow_id, await stage.ticket(shadow_id)) as socket:
            refused = await said(socket)
        assert isinstance(refused, wire.DisplayRefused)
        assert refused.code == "server.busy"


async def test_one_whose_broker_is_gone_is_not_shown_as_open_for_ever(stage: Stage) -> None:
    async with stage.desktop(), stage.opened():
        shadow_id = (await only_shadow(stage))["id"]
        # as if another broker had it: nobody renews what is not open here
        stage.app.broker.shadows._open.pop(shadow_id)
        stage.app.clock.shift_s += limits.SHADOW_LEASE_S + 1
        while (found := await stage.now(shadow_id))["state"] == "open":
            await asyncio.sleep(0.02)
        assert found["code"] == "shadow.broker_gone"


async def test_consent_does_not_outlive_the_broker_that_showed_the_desktop(stage: Stage) -> None:
    async with stage.desktop(), stage.opened() as end:
        waiting = await stage.asked(who="alice")
        await stage.app.services.showing.stop()  # as if that one had died with the person's browser
        assert await end.ended() == "shadow.moved"
        assert (await stage.now(waiting))["code"] == "shadow.moved"


async def test_one_that_is_open_here_gives_its_sign_of_life(stage: Stage) -> None:
    async with stage.desktop(), stage.opened() as end:
        size = await end.greet()
        for _ in range(4):
            before = (await only_shadow(stage))["until"]
            stage.app.clock.shift_s += limits.SHADOW_LEASE_S * 0.6
            await stage.app.services.showing.renew()
            while (await only_shadow(stage))["until"] == before:
                await asyncio.sleep(0.02)
        await end.picture(*size)
        assert (await only_shadow(stage))["state"] == "open"

"""Admission as a service: rules from the store, holders of a session, refusals written down."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    DeniedByRuleError,
    NotEntitledError,
    NotFoundError,
    OverQuotaError,
    SiteClosedError,
)
from broker.domain.lifecycle import SessionEvent
from broker.domain.model import Architecture, Endpoint, SessionState, User
from broker.domain.policy.rules import Effect, QuotaScope
from broker.limits import PLACES_FRESH_S, RULES_MAX
from broker.ports import PageQuery
from broker.services.copies import Copies
from broker.services.origin import Origin
from broker.services.policies import POLICIES_FRESH_S
from broker.services.preview import PoolPreview
from broker.services.rulebook import QuotaWish, RuleWish
from broker.services.telling import WORDS, reasons, sentence
from tests.support.builders import make_host
from tests.support.policies import deny
from tests.support.world import World, make_world

HERE = Origin(source="10.1.2.3", request_id="req_1")


async def ready(world: World) -> None:
    """Desktops of the library, ready."""
    await world.look(3)


async def refusals(world: World) -> list[AuditEntry]:
    query = PageQuery(filters={"action": "session.connect", "outcome": "refused"})
    return list((await world.kit.store.audit.entries(query)).items)


async def preview_of(world: World, username: str, pool: str, **asked: Any) -> PoolPreview:
    found = await world.services.previews.preview(world.users[username], **asked)
    return next(one for one in found.pools if one.pool.name == pool)


async def seat(world: World, name: str) -> Endpoint | None:
    return await world.kit.store.endpoints.endpoint_by_name(name)


# --------------------------------------------------------------------------------- admission


async def test_a_refusal_is_written_with_the_rules_that_applied_and_changes_nothing() -> None:
    async with make_world() as world:
        wish = RuleWish(name="exam", effect=Effect.DENY, networks=["10.1.0.0/16"])
        await world.services.rulebook.add_rule(wish)
        with pytest.raises(DeniedByRuleError):
            await world.connect.connect(world.who("pupil1"), "library", origin=HERE)
        (entry,) = await refusals(world)
        assert entry.why == "refused: the rule “exam” does not allow library here or now"
        assert entry.details["reasons"] == ["the rule “exam” denies it"]
        assert (entry.source, entry.request_id) == (HERE.source, HERE.request_id)
        assert (entry.user_id, entry.pool_id) == ("usr_pupil1", "pol_vdi")
        page = await world.kit.store.sessions.sessions(PageQuery())
        assert page.items == ()


async def test_a_rule_entitles_a_stranger_who_counts_for_the_rules_group() -> None:
    async with make_world() as world:
        stranger = world.who("stranger")
        with pytest.raises(NotEntitledError):
            await world.connect.connect(stranger, "library", origin=HERE)
        await world.services.rulebook.add_rule(
            RuleWish(name="guests", effect=Effect.ALLOW, groups=["strangers"], pools=["library"])
        )
        connected = await world.connect.connect(stranger, "library", origin=HERE)
        assert connected.session.group_id == "grp_2"


async def test_who_has_a_session_comes_back_to_it_while_the_site_drains() -> None:
    async with make_world() as world:
        await ready(world)
        pupil = world.who("pupil1")
        first = await world.connect.connect(pupil, "library", origin=HERE)
        await world.services.site.drain(actor="usr_1", why="repairs")
        again = await world.connect.connect(pupil, "library", origin=HERE)
        assert again.session.id == first.session.id
        with pytest.raises(SiteClosedError):
            await world.connect.connect(world.who("pupil2"), "library", origin=HERE)


async def test_who_is_still_logging_off_does_not_hold_a_session() -> None:
    async with make_world() as world:
        await ready(world)
        pupil, store, now = world.who("pupil1"), world.kit.store, world.clock.now()
        session = (await world.connect.connect(pupil, "library", origin=HERE)).session
        for event in (SessionEvent.REPORTED_LIVE, SessionEvent.LOG_OFF):
            session = await store.sessions.advance(session.id, event, now, why="x")
        assert session.state is SessionState.ENDING
        await world.services.site.drain(actor="usr_1", why="repairs")
        with pytest.raises(SiteClosedError):
            await world.connect.connect(pupil, "library", origin=HERE)


async def test_a_full_quota_refuses_and_ends_with_a_session() -> None:
    async with make_world() as world:
        await ready(world)
        book = world.services.rulebook
        await book.add_quota(
            QuotaWish(name="one", scope=QuotaScope.POOL, sessions_max=1, pools=["library"])
        )
        first = await world.connect.connect(world.who("pupil1"), "library", origin=HERE)
        with pytest.raises(OverQuotaError, match="one"):
            await world.connect.connect(world.who("pupil2"), "library", origin=HERE)
        assert len(await refusals(world)) == 1
        assert (await preview_of(world, "pupil2", "library")).may is False
        await world.kit.store.sessions.advance(
            first.session.id, SessionEvent.FAILED, world.clock.now(), why="x"
        )
        await world.connect.connect(world.who("pupil2"), "library", origin=HERE)


async def test_another_process_rules_hold_after_two_seconds_or_at_once_with_its_hint() -> None:
    async with make_world() as world:
        pupil, store, policies = world.who("pupil1"), world.kit.store, world.services.policies
        await world.connect.connect(pupil, "library", origin=HERE)
        await store.directory.save_rule(deny("a"), new=True)
        await world.connect.connect(pupil, "library", origin=HERE)
        world.clock.advance(POLICIES_FRESH_S + 0.1)
        with pytest.raises(DeniedByRuleError):
            await world.connect.connect(pupil, "library", origin=HERE)
        await store.directory.delete_rule(deny("a").id)
        services = world.services
        copies = Copies(world.kit, services.pools, policies, services.site)
        await with_hint(world, copies, "policy")
        await world.connect.connect(pupil, "library", origin=HERE)


async def with_hint(world: World, copies: Copies, topic: str) -> None:
    """Let the listener hear one hint."""
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(copies.run())
        await world.settle()
        world.kit.events.publish(topic)
        await world.settle()
        listening.cancel()


# --------------------------------------------------------------------------------- the rulebook


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (RuleWish(effect=Effect.DENY), "name"),
        (RuleWish(name="x"), "effect"),
        (RuleWish(name="a/b", effect=Effect.DENY), "name"),
        (RuleWish(name="x", effect=Effect.ALLOW), "users"),
        (RuleWish(name="x", effect=Effect.DENY, users=["nobody"]), "users"),
        (RuleWish(name="x", effect=Effect.DENY, groups=["nobody"]), "groups"),
        (RuleWish(name="x", effect=Effect.DENY, pools=["nothing"]), "pools"),
        (RuleWish(name="x", effect=Effect.DENY, endpoints=["nothing"]), "endpoints"),
        (RuleWish(name="x", effect=Effect.DENY, networks=["10.0.0.1/8"]), "networks"),
        (RuleWish(name="x", effect=Effect.DENY, networks=["ten"]), "networks"),
        (RuleWish(name="x", effect=Effect.DENY, note="\x07"), "note"),
    ],
)
async def test_a_rule_that_cannot_be_is_refused_by_its_field(wish: RuleWish, field: str) -> None:
    async with make_world() as world:
        with pytest.raises(BadRequestError) as refused:
            await world.services.rulebook.add_rule(wish)
        assert refused.value.fields["field"] == field
        assert await world.services.rulebook.rules() == ()


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (QuotaWish(name="x", scope=QuotaScope.GROUP, sessions_max=1), "group"),
        (QuotaWish(name="x", scope=QuotaScope.POOL, sessions_max=1), "pools"),
        (
            QuotaWish(
                name="x", scope=QuotaScope.POOL, sessions_max=1, pools=["library"], group="pupils"
            ),
            "group",
        ),
        (QuotaWish(name="x", scope=QuotaScope.USER, sessions_max=-1), "sessions_max"),
        (QuotaWish(name="x", scope=QuotaScope.USER), "sessions_max"),
        (QuotaWish(name="x", sessions_max=1), "scope"),
    ],
)
async def test_a_quota_that_cannot_be_is_refused_by_its_field(wish: QuotaWish, field: str) -> None:
    async with make_world() as world:
        with pytest.raises(BadRequestError) as refused:
            await world.services.rulebook.add_quota(wish)
        assert refused.value.fields["field"] == field


async def test_rules_are_changed_in_what_was_said_and_removed() -> None:
    async with make_world() as world:
        book = world.services.rulebook
        made = await book.add_rule(
            RuleWish(
                name="exam", effect=Effect.DENY, users=["pupil1", "usr_pupil1"], pools=["library"]
            )
        )
        assert made.user_ids == ("usr_pupil1",)
        changed = await book.change_rule("exam", RuleWish(pools=[], note=" why "))
        assert changed == replace(made, pool_ids=(), note="why")
        with pytest.raises(AlreadyExistsError):
            await book.add_rule(RuleWish(name="exam", effect=Effect.DENY))
        assert (await book.remove_rule(made.id)).name == "exam"
        with pytest.raises(NotFoundError):
            await book.rule("exam")


async def test_quotas_are_changed_in_what_was_said() -> None:
    async with make_world() as world:
        book = world.services.rulebook
        made = await book.add_quota(
            QuotaWish(name="one", scope=QuotaScope.USER, sessions_max=1, group="pupils")
        )
        assert made.group_id == "grp_1"
        changed = await book.change_quota("one", QuotaWish(group="", sessions_max=4))
        assert (changed.group_id, changed.sessions_max) == (None, 4)
        await book.remove_quota("one")
        assert await book.quotas() == ()


async def test_there_is_room_for_so_many_rules() -> None:
    async with make_world() as world:
        for number in range(RULES_MAX):
            await world.kit.store.directory.save_rule(deny(f"r{number:04d}"), new=True)
        with pytest.raises(ConflictError):
            await world.services.rulebook.add_rule(RuleWish(name="x", effect=Effect.DENY))


# --------------------------------------------------------------------------------- the preview


async def test_a_preview_says_for_each_pool_what_a_connect_would_do() -> None:
    async with make_world() as world:
        await ready(world)
        book = world.services.rulebook
        await book.add_rule(RuleWish(name="no art", effect=Effect.DENY, pools=["art"]))
        await book.add_quota(QuotaWish(name="one", scope=QuotaScope.USER, sessions_max=1))
        before = await preview_of(world, "pupil1", "library")
        assert (before.may, before.place, before.session) == (True, None, None)
        assert before.ready == 2
        assert [(use.quota.name, use.used) for use in before.quotas] == [("one", 0)]
        art = await preview_of(world, "pupil1", "art", endpoint=await seat(world, "ART-0"))
        assert isinstance(art.refusal, DeniedByRuleError)
        assert [reason.text for reason in art.decision.reasons] == ["the rule “no art” denies it"]

        session = (await world.connect.connect(world.who("pupil1"), "library", origin=HERE)).session
        after = await preview_of(world, "pupil1", "library")
        assert after.session is not None
        assert (after.may, after.session.id) == (True, session.id)
        lab = await preview_of(world, "pupil1", "lab", endpoint=await seat(world, "LAB-0"))
        assert isinstance(lab.refusal, OverQuotaError)
        assert lab.why == "the quota “one” is full: 1 of 1"


async def test_a_preview_counts_the_place_behind_those_who_wait() -> None:
    async with make_world() as world:
        for name in ("pupil1", "pupil2"):
            await world.connect.connect(world.who(name), "library", origin=HERE)
        last = await preview_of(world, "pupil3", "library")
        assert (last.place, last.wait_s) == (3, None)


async def test_a_preview_tells_about_how_long_the_wait_would_be() -> None:
    async with make_world() as world:
        world.engine.silent = True
        world.tally.took("boot", Architecture.VDI, 40.0)
        await world.connect.connect(world.who("pupil1"), "library", origin=HERE)
        await world.look(3)
        world.clock.advance(PLACES_FRESH_S + 0.1)
        told = await preview_of(world, "pupil2", "library")
        assert told.place == 2
        # two machines are on their way, and one took 40 s before
        assert told.wait_s is not None
        assert 0 < told.wait_s <= 40


async def test_a_preview_of_ones_own_tells_of_no_other_pools() -> None:
    async with make_world() as world:
        own = await world.services.previews.preview(world.users["stranger"], own=True)
        assert own.pools == ()
        desk = await world.services.previews.preview(world.users["stranger"])
        assert [one.pool.name for one in desk.pools] == ["art", "lab", "library"]
        assert not any(one.may for one in desk.pools)


# --------------------------------------------------------------------------------- why


async def told(world: World, user: User, session_id: str) -> list[str]:
    page = await world.services.explanations.of_session(
        world.who(user.username), session_id, PageQuery()
    )
    return [one.sentence for one in page.items]


async def test_a_session_tells_the_person_why_it_has_its_desktop() -> None:
    async with make_world() as world:
        await ready(world)
        pupil = world.users["pupil1"]
        session = (await world.connect.connect(world.who("pupil1"), "library", origin=HERE)).session
        desktop = await world.kit.store.desktops.desktop(session.desktop_id or "")
        assert desktop is not None
        title = world.services.pools
        shown = (await title.find("library")).title
        expected = f"given {desktop.name} because it was the first ready desktop of {shown} by name"
        assert await told(world, pupil, session.id) == [f"You were {expected}."]
        desk = await world.services.explanations.of_session(
            world.who("operator"), session.id, PageQuery()
        )
        assert desk.items[0].sentence == f"Pupil1 was {expected}."
        with pytest.raises(NotFoundError):
            await told(world, world.users["pupil2"], session.id)


async def test_who_waited_is_told_of_the_hosts_that_had_no_room() -> None:
    async with make_world() as world:
        for name in ("H3", "H4"):
            host = make_host(id=f"hst_{name}", name=name)
            await world.kit.store.directory.save_host(host, new=True)
        session = (await world.connect.connect(world.who("pupil1"), "library", origin=HERE)).session
        world.clock.advance(1)
        lack = AuditEntry(
            id="aud_x",
            at=world.clock.now(),
            actor="broker",
            action="pool.no_room",
            outcome=Outcome.DONE,
            why="no host fits: H3 lacks 2 GiB of memory; H4 drains",
            details={"reasons": ["H3 lacks 2 GiB of memory", "H4 drains"]},
            pool_id="pol_vdi",
        )
        await world.kit.store.audit.append([lack])
        world.clock.advance(1)
        first, second = await told(world, world.users["pupil1"], session.id)
        assert first == (
            "No desktop could be made: no host fits: a host lacks 2 GiB of memory; a host drains."
        )
        assert second.startswith("You had to wait: ")
        desk = await world.services.explanations.of_session(
            world.who("operator"), session.id, PageQuery()
        )
        assert desk.items[0].sentence == (
            "No desktop could be made: no host fits: H3 lacks 2 GiB of memory; H4 drains."
        )
        assert desk.items[0].reasons == ("H3 lacks 2 GiB of memory", "H4 drains")
        pool = await world.services.explanations.of("pool_id", "pol_vdi", PageQuery(limit=1))
        assert pool.items[0].reasons == ("H3 lacks 2 GiB of memory", "H4 drains")
        assert pool.items[0].by == "broker"
        assert pool.next_after is not None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"action": "session.connect", "why": "given LAB-1: it is yours"},
            "Ann was given LAB-1 because it is yours.",
        ),
        (
            {"action": "session.connect", "why": "refused: 1000 wait for Library already"},
            "Ann got no desktop: 1000 wait for Library already.",
        ),
        (
            {"action": "session.connect", "why": "back at LAB-1: it was kept for this session"},
            "Ann asked for a desktop: back at LAB-1: it was kept for this session.",
        ),
        ({"action": "pool.change", "why": "done"}, "The pool was changed."),
        (
            {"action": "pool.change", "why": "refused: no", "outcome": Outcome.REFUSED},
            "The pool was changed, but that was refused: no.",
        ),
        (
            {"action": "host.drain", "why": "repairs", "outcome": Outcome.UNKNOWN},
            "The host takes nothing new, as far as is known: repairs.",
        ),
        ({"action": "moon.rise_up", "why": "late"}, "Moon: rise up: late."),
    ],
)
def test_entries_are_told_in_sentences(changes: dict[str, Any], text: str) -> None:
    values: dict[str, Any] = {"id": "a", "at": 1, "actor": "", "outcome": Outcome.DONE, **changes}
    assert sentence(AuditEntry(**values), "Ann") == text


def test_every_move_of_a_session_has_words() -> None:
    assert {f"session.{event}" for event in SessionEvent} <= WORDS.keys()


def test_reasons_that_are_no_list_are_none() -> None:
    entry = AuditEntry(
        id="a", at=1, actor="", action="x.y", outcome=Outcome.DONE, details={"reasons": "x"}
    )
    assert reasons(entry) == ()

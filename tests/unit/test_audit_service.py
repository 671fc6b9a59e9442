"""The sealer, checks and exports, over the memory store and a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.domain.audit import GENESIS, AuditEntry, Outcome, SealedEntry
from broker.domain.errors import BadRequestError
from broker.limits import AUDIT_SEAL_MAX, AUDIT_SETTLE_S, LEASE_S, LEASE_SKEW_S
from broker.ports import PageQuery
from broker.services.audit import NEVER_SETTLED, Anchor, Audit
from broker.services.shared_work import SharedWork, Work
from broker.store.memory import MemoryStore
from broker.store.memory.state import State
from tests.support.world import World, make_world


def entry(number: int = 1, **changes: Any) -> AuditEntry:
    values: dict[str, Any] = {
        "id": f"aud_{number:05d}",
        "at": 1000 + number,
        "actor": "usr_1",
        "action": "pool.change",
        "outcome": Outcome.DONE,
    }
    return AuditEntry(**(values | changes))


def another(world: World) -> Audit:
    """A second process' service on the same store."""
    return Audit(world.kit, SharedWork(world.kit))


async def written(world: World, count: int) -> Audit:
    """A trail of sealed entries."""
    await world.kit.store.audit.append([entry(number) for number in range(count)])
    assert await world.services.audit.seal() == count
    return world.services.audit


async def open_trail(world: World, count: int) -> tuple[Audit, list[SealedEntry]]:
    """A trail of its own, and the list of its sealed entries, for tampering."""
    state = State()
    store = MemoryStore(state)
    await store.open()
    kit = replace(world.kit, store=store)
    await store.audit.append([entry(number) for number in range(count)])
    audit = Audit(kit, SharedWork(kit))
    assert await audit.seal() == count
    return audit, state.audit.chain


async def test_entries_are_sealed_in_order_and_the_chain_holds() -> None:
    async with make_world() as world:
        audit = await written(world, 5)
        checked = await audit.check()
        assert (checked.sealed, checked.last_number, checked.broken) == (5, 5, None)
        assert checked.unsealed == 0
        chain = await world.kit.store.audit.chain(0, 10)
        assert [one.entry.id for one in chain] == [f"aud_{n:05d}" for n in range(5)]
        assert await audit.seal() == 0


async def test_an_open_entry_waits_and_is_then_sealed_as_unknown() -> None:
    async with make_world() as world:
        audit, now = world.services.audit, world.clock.now()
        await audit.ask(entry(at=now))
        assert await audit.seal() == 0
        assert (await audit.check()).unsealed == 1
        world.clock.advance(AUDIT_SETTLE_S + 1)
        assert await audit.seal() == 1
        (one,) = await world.kit.store.audit.chain(0, 10)
        assert one.entry.outcome is Outcome.UNKNOWN
        assert one.entry.why == NEVER_SETTLED


async def test_what_ends_after_it_was_sealed_as_unknown_is_told_by_a_second_entry() -> None:
    async with make_world() as world:
        audit, first = world.services.audit, entry(at=world.clock.now())
        await audit.ask(first)
        world.clock.advance(AUDIT_SETTLE_S + 1)
        await audit.seal()
        await audit.settle(first, Outcome.DONE, "done", {"status": 200}, {"pool_id": "pol_1"})
        await audit.seal()
        late = (await world.kit.store.audit.chain(1, 10))[0].entry
        assert (late.outcome, late.pool_id) == (Outcome.DONE, "pol_1")
        assert late.details["began"] == first.id
        assert (await audit.check()).broken is None


async def test_one_process_seals_and_another_takes_over_when_it_is_gone() -> None:
    async with make_world() as world:
        first = await written(world, 1)
        second = another(world)
        await world.kit.store.audit.append([entry(7)])
        assert await second.seal() == 0
        world.clock.advance(LEASE_S + LEASE_SKEW_S + 1)
        assert await second.seal() == 1
        await world.kit.store.audit.append([entry(8)])
        assert await first.seal() == 0
        assert await second.seal() == 1
        assert (await first.check()).broken is None


async def test_a_sealer_that_lost_its_lease_unknowingly_seals_nothing() -> None:
    """A process that was stopped in the middle and goes on after another has taken over."""
    async with make_world() as world:
        first = await written(world, 1)
        await world.kit.store.audit.append([entry(7)])
        leases, now = world.kit.store.leases, world.clock.now()
        (mine,) = await leases.leases()
        await leases.release(mine)
        assert await leases.acquire(Work.SEALER, "brk_other", now, now + 10_000) is not None
        assert await first.seal() == 0
        assert len(await world.kit.store.audit.chain(0, 10)) == 1


async def test_the_sealer_works_off_what_has_piled_up_in_batches() -> None:
    async with make_world() as world:
        count = AUDIT_SEAL_MAX + 3
        await world.kit.store.audit.append([entry(number) for number in range(count)])
        assert [await world.services.audit.seal() for _ in range(3)] == [AUDIT_SEAL_MAX, 3, 0]
        assert (await world.services.audit.check()).last_number == count


async def test_a_break_is_told_with_what_is_around_it() -> None:
    async with make_world() as world:
        audit, chain = await open_trail(world, 6)
        chain[3] = replace(chain[3], entry=entry(3, why="somebody else's"))
        checked = await audit.check()
        assert checked.broken is not None
        assert checked.broken.number == 4
        assert checked.last_number == 3
        assert checked.before is not None
        assert checked.before.number == 3
        assert checked.here is not None
        assert checked.here.entry.why == "somebody else's"


async def test_an_anchor_finds_a_trail_that_was_rewritten_or_cut() -> None:
    async with make_world() as world, make_world() as rewritten:
        audit = await written(world, 4)
        last = await audit.check()
        kept = Anchor(number=last.last_number, seal=last.last_seal)
        assert (await audit.check(anchor=kept)).broken is None
        assert (await audit.check(since=kept)).broken is None

        other = rewritten.services.audit
        await rewritten.kit.store.audit.append([entry(n, why="new") for n in range(4)])
        await other.seal()
        assert (await other.check()).broken is None
        broken = (await other.check(anchor=kept)).broken
        assert broken is not None
        assert broken.number == 4

        gone = (await audit.check(anchor=Anchor(number=9, seal=kept.seal))).broken
        assert gone is not None
        assert (gone.number, "missing" in gone.why) == (9, True)


async def test_a_check_behind_an_anchor_sees_only_what_comes_after() -> None:
    async with make_world() as world:
        audit, chain = await open_trail(world, 4)
        chain[0] = replace(chain[0], entry=entry(0, why="changed"))
        since = Anchor(number=2, seal=chain[1].seal)
        assert (await audit.check(since=since)).broken is None
        assert (await audit.check()).broken is not None
        start = Anchor(number=0, seal=GENESIS)
        assert (await audit.check(since=start)).broken is not None


@pytest.mark.parametrize(
    "text", ["", "1", "1:ab", "x:" + "0" * 64, "-1:" + "0" * 64, "1:" + "g" * 64]
)
def test_an_anchor_is_a_number_and_a_seal(text: str) -> None:
    with pytest.raises(BadRequestError):
        Anchor.parse(text)
    assert Anchor.parse("7:" + "ab" * 32) == Anchor(number=7, seal=b"\xab" * 32)


async def test_an_export_is_the_whole_chain_and_goes_on_from_any_number() -> None:
    async with make_world() as world:
        audit = await written(world, 1500)
        batches = [batch async for batch in audit.export(0)]
        numbers = [one.number for batch in batches for one in batch]
        assert numbers == list(range(1, 1501))
        rest = [one.number async for batch in audit.export(1400) for one in batch]
        assert rest == numbers[1400:]


async def test_sign_ins_and_outs_are_written_without_what_was_typed() -> None:
    async with make_world() as world:
        accounts, store = world.services.accounts, world.kit.store
        user = world.users["pupil1"]
        await accounts.set_passwords({user.id: "a long enough pass phrase"})
        signed_in = await accounts.sign_in(
            "pupil1", "a long enough pass phrase", "10.0.0.1", request_id="req_1"
        )
        await accounts.sign_out(await accounts.identify(signed_in.token))
        for name in ("pupil1", "my secret pass phrase"):
            with pytest.raises(Exception, match="wrong"):
                await accounts.sign_in(name, "my secret pass phrase", "10.0.0.2")
        page = await store.audit.entries(PageQuery())
        found = sorted((one.action, one.outcome, one.user_id, one.source) for one in page.items)
        assert found == [
            ("user.sign_in", "done", user.id, "10.0.0.1"),
            ("user.sign_in", "refused", "", "10.0.0.2"),
            ("user.sign_in", "refused", user.id, "10.0.0.2"),
            ("user.sign_out", "done", user.id, ""),
        ]
        assert "secret" not in repr(page.items)
        assert "phrase" not in repr(page.items)

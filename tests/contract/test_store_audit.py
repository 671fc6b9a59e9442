"""The audit trail: written once, settled once, sealed in order by who holds the lease."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from broker.domain.audit import GENESIS, Outcome, SealedEntry, first_break, sealed
from broker.domain.errors import ConflictError
from broker.domain.model import WorkLease
from broker.limits import AUDIT_DETAILS_BYTES_MAX, LEASE_SKEW_S
from broker.ports import PageQuery, Store
from broker.store.trail import ENTRY_FILTERS
from tests.support.builders import NOW
from tests.support.trail import FOREVER, make_entry, seal_all, sealer


async def listed(store: Store, **filters: str) -> list[str]:
    page = await store.audit.entries(PageQuery(filters=filters))
    return [entry.id for entry in page.items]


async def test_an_entry_comes_back_as_it_was_written(store: Store) -> None:
    entry = make_entry(
        details={"host": "H3", "lacks": {"memory_mib": 2048}, "tried": ["H3", 4, None, 0.5, True]},
        user_id="usr_1",
        session_id="ses_1",
        desktop_id="dsk_1",
        pool_id="pol_1",
        host_id="hst_1",
        endpoint_id="ept_1",
        request_id="req_1",
        source="2001:db8::7",
        why='„warum" – 因为',
    )
    await store.audit.append([entry])
    assert (await store.audit.entries(PageQuery())).items == (entry,)


async def test_an_entry_that_is_known_stays_as_it_is(store: Store) -> None:
    await store.audit.append([make_entry(1), make_entry(1, why="again")])
    await store.audit.append([make_entry(1, why="once more"), make_entry(2)])
    found = (await store.audit.entries(PageQuery())).items
    assert [(one.id, one.why) for one in found] == [
        ("aud_0002", "because"),
        ("aud_0001", "because"),
    ]


async def test_nothing_is_appended_without_entries(store: Store) -> None:
    await store.audit.append([])
    assert await listed(store) == []


# ------------------------------------------------------------------------------- settling


async def test_an_asked_entry_is_settled_once(store: Store) -> None:
    await store.audit.append([make_entry(outcome=Outcome.ASKED, why="", details={"pool": "pol_1"})])
    assert await store.audit.settle("aud_0001", Outcome.REFUSED, "full", {"limit": 3})
    assert not await store.audit.settle("aud_0001", Outcome.DONE, "no", {})
    (entry,) = (await store.audit.entries(PageQuery())).items
    assert entry.outcome is Outcome.REFUSED
    assert entry.why == "full"
    assert entry.details == {"pool": "pol_1", "limit": 3}


async def test_only_what_was_asked_is_settled(store: Store) -> None:
    await store.audit.append([make_entry(outcome=Outcome.FAILED)])
    assert not await store.audit.settle("aud_0001", Outcome.DONE, "", {})
    assert not await store.audit.settle("aud_9999", Outcome.DONE, "", {})


async def test_one_of_two_that_settle_at_once_does(store: Store) -> None:
    await store.audit.append([make_entry(outcome=Outcome.ASKED)])
    outcomes = (Outcome.DONE, Outcome.FAILED) * 4
    answers = await asyncio.gather(
        *(store.audit.settle("aud_0001", outcome, outcome, {}) for outcome in outcomes)
    )
    assert sum(answers) == 1
    (entry,) = (await store.audit.entries(PageQuery())).items
    assert entry.outcome is outcomes[answers.index(True)]
    assert entry.why == entry.outcome


# ------------------------------------------------------------------------------- details


async def test_details_that_are_too_long_are_cut_and_say_so(store: Store) -> None:
    details: dict[str, Any] = {
        "first": "kept",
        "hosts": [f"H{number}: lacks memory" for number in range(2000)],
        "text": "é" * AUDIT_DETAILS_BYTES_MAX,
        "tree": {str(number): number for number in range(2000)},
        "last": 7,
    }
    await store.audit.append([make_entry(details=details)])
    (entry,) = (await store.audit.entries(PageQuery())).items
    assert entry.details["first"] == "kept"
    hosts = entry.details["hosts"]
    assert isinstance(hosts, list)
    assert 100 < len(hosts) < 2000
    assert hosts == details["hosts"][: len(hosts)]
    assert entry.details["cut"] == 4
    size = len(msgspec.json.encode(entry.details))
    assert AUDIT_DETAILS_BYTES_MAX * 0.9 < size <= AUDIT_DETAILS_BYTES_MAX


async def test_what_is_added_when_it_is_settled_is_cut_too(store: Store) -> None:
    await store.audit.append([make_entry(outcome=Outcome.ASKED, details={"asked": 1})])
    await store.audit.settle("aud_0001", Outcome.DONE, "", {"text": "x" * 10**5})
    (entry,) = (await store.audit.entries(PageQuery())).items
    assert entry.details["asked"] == 1
    assert entry.details["cut"] == 1
    assert len(msgspec.json.encode(entry.details)) <= AUDIT_DETAILS_BYTES_MAX


# --------------------------------------------------------------------------------- sealing


async def test_what_is_due_to_be_sealed_comes_oldest_first(store: Store) -> None:
    await store.audit.append(
        [
            make_entry(3, at=NOW + 5),
            make_entry(2, at=NOW + 5),
            make_entry(1, at=NOW + 9),
            make_entry(4, at=NOW + 1, outcome=Outcome.ASKED),
            make_entry(5, at=NOW + 4, outcome=Outcome.ASKED),
        ]
    )
    due = await store.audit.unsealed(NOW + 4, 10)
    assert [entry.id for entry in due] == ["aud_0004", "aud_0002", "aud_0003", "aud_0001"]
    assert [entry.id for entry in await store.audit.unsealed(NOW + 4, 2)] == [
        "aud_0004",
        "aud_0002",
    ]


async def test_a_chain_grows_and_holds(store: Store) -> None:
    lease = await sealer(store)
    assert await store.audit.last_seal() == (0, GENESIS)
    for first in (1, 11, 21):
        await store.audit.append(
            [make_entry(n, details={"n": n, "part": n / 3}) for n in range(first, first + 10)]
        )
        await seal_all(store, lease)
    chain = await store.audit.chain(0, 100)
    assert [one.number for one in chain] == list(range(1, 31))
    assert first_break(GENESIS, 0, chain)[0] is None
    assert await store.audit.last_seal() == (30, chain[-1].seal)
    assert await store.audit.chain(7, 2) == chain[7:9]
    assert await store.audit.unsealed(FOREVER, 10) == ()
    assert len((await store.audit.entries(PageQuery())).items) == 30


async def test_a_sealed_entry_cannot_be_changed(store: Store) -> None:
    lease = await sealer(store)
    await store.audit.append([make_entry(1)])
    await seal_all(store, lease)
    await store.audit.append([make_entry(1, why="never said")])
    assert not await store.audit.settle("aud_0001", Outcome.FAILED, "never", {})
    assert first_break(GENESIS, 0, await store.audit.chain(0, 10))[0] is None
    assert [one.entry.why for one in await store.audit.chain(0, 10)] == ["because"]


async def refused(store: Store, chain: tuple[SealedEntry, ...], lease: WorkLease) -> None:
    before = await store.audit.last_seal()
    with pytest.raises(ConflictError):
        await store.audit.seal(chain, lease)
    assert await store.audit.last_seal() == before


async def test_a_chain_that_starts_elsewhere_is_refused_whole(store: Store) -> None:
    lease = await sealer(store)
    await store.audit.append([make_entry(number) for number in range(1, 5)])
    entries = await store.audit.unsealed(NOW, 2)
    await refused(store, sealed(GENESIS, 1, entries), lease)
    await refused(store, sealed(bytes(31) + b"x", 0, entries), lease)
    good = sealed(GENESIS, 0, entries)
    await refused(store, (good[0], replace(good[1], number=3)), lease)
    await store.audit.seal(good, lease)
    await refused(store, good, lease)
    assert len(await store.audit.unsealed(NOW, 10)) == 2


async def test_an_entry_that_is_not_settled_is_not_sealed(store: Store) -> None:
    lease = await sealer(store)
    await store.audit.append([make_entry(1), make_entry(2, outcome=Outcome.ASKED)])
    await refused(store, sealed(GENESIS, 0, await store.audit.unsealed(FOREVER, 10)), lease)
    assert len(await store.audit.unsealed(FOREVER, 10)) == 2


async def test_an_entry_is_sealed_once(store: Store) -> None:
    lease = await sealer(store)
    await store.audit.append([make_entry(1)])
    (entry,) = await store.audit.unsealed(NOW, 10)
    await refused(store, sealed(GENESIS, 0, [entry, entry]), lease)
    await seal_all(store, lease)
    number, before = await store.audit.last_seal()
    await refused(store, sealed(before, number, [entry]), lease)


async def test_who_lost_the_lease_seals_nothing(store: Store) -> None:
    old = await store.leases.acquire("audit", "a", NOW, NOW + 1000)
    assert old is not None
    await store.audit.append([make_entry(1)])
    chain = sealed(GENESIS, 0, await store.audit.unsealed(NOW, 10))
    later = NOW + 1000 + LEASE_SKEW_S * 1000
    new = await store.leases.acquire("audit", "b", later, FOREVER)
    assert new is not None
    await refused(store, chain, old)
    await refused(store, chain, replace(new, fence=new.fence + 1))
    await refused(store, chain, replace(new, name="nothing"))
    await store.audit.seal(chain, new)


async def test_of_many_that_seal_at_once_one_does(store: Store) -> None:
    lease = await sealer(store)
    await store.audit.append([make_entry(number) for number in range(1, 6)])
    chain = sealed(GENESIS, 0, await store.audit.unsealed(NOW, 10))
    answers = await asyncio.gather(
        *(store.audit.seal(chain, lease) for _ in range(6)), return_exceptions=True
    )
    assert [isinstance(one, ConflictError) for one in answers].count(True) == 5
    assert answers.count(None) == 1
    assert await store.audit.chain(0, 10) == chain


# -------------------------------------------------------------------------------- the list


async def test_the_newest_entries_come_first_page_by_page(store: Store) -> None:
    """Some have one instant: the id decides."""
    await store.audit.append([make_entry(number, at=NOW + number // 3) for number in range(1, 11)])
    pages: list[list[str]] = []
    after = None
    while True:
        page = await store.audit.entries(PageQuery(limit=3, after=after))
        pages.append([entry.id for entry in page.items])
        after = page.next_after
        if after is None:
            break
    assert [len(page) for page in pages] == [3, 3, 3, 1]
    assert list(itertools.chain(*pages)) == [f"aud_{number:04d}" for number in range(10, 0, -1)]


@pytest.mark.parametrize("name", ENTRY_FILTERS)
async def test_every_filter_filters(store: Store, name: str) -> None:
    wanted = Outcome.REFUSED if name == "outcome" else "x"
    await store.audit.append([make_entry(number) for number in (1, 2, 3)])
    await store.audit.append([make_entry(4, **{name: wanted}), make_entry(5, **{name: wanted})])
    assert await listed(store, **{name: str(wanted)}) == ["aud_0005", "aud_0004"]
    page = await store.audit.entries(PageQuery(limit=1, filters={name: str(wanted)}))
    assert page.next_after == f"{NOW + 5}:aud_0005"
    page = await store.audit.entries(
        PageQuery(limit=1, after=page.next_after, filters={name: str(wanted)})
    )
    assert ([entry.id for entry in page.items], page.next_after) == (["aud_0004"], None)


async def test_a_span_of_time_is_from_its_beginning_to_before_its_end(store: Store) -> None:
    await store.audit.append([make_entry(number) for number in range(1, 6)])
    since, until = str(NOW + 2), str(NOW + 4)
    assert await listed(store, since=since) == ["aud_0005", "aud_0004", "aud_0003", "aud_0002"]
    assert await listed(store, until=until) == ["aud_0003", "aud_0002", "aud_0001"]
    assert await listed(store, since=since, until=until) == ["aud_0003", "aud_0002"]
    assert await listed(store, since=since, actor="usr_1", action="x.y") == []


async def test_what_the_list_does_not_take_is_refused(store: Store) -> None:
    for query in (
        PageQuery(filters={"colour": "red"}),
        PageQuery(filters={"user_id": ""}),
        PageQuery(filters={"since": "yesterday"}),
        PageQuery(text="x"),
        PageQuery(after="aud_1"),
        PageQuery(after="soon:aud_1"),
        PageQuery(limit=0),
    ):
        with pytest.raises(ValueError, match=r"."):
            await store.audit.entries(query)

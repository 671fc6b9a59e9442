"""The chain of seals: whatever is done to sealed entries is noticed, and where."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.audit import (
    GENESIS,
    AuditEntry,
    Break,
    Outcome,
    SealedEntry,
    canonical,
    first_break,
    seal_of,
    sealed,
)

Chain = tuple[SealedEntry, ...]

words = st.text(max_size=8)
details = st.dictionaries(
    words,
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words | st.lists(words),
    max_size=3,
)
entries = st.builds(
    AuditEntry,
    id=words,
    at=st.integers(0, 2**53),
    actor=words,
    action=words,
    outcome=st.sampled_from([one for one in Outcome if one is not Outcome.ASKED]),
    why=words,
    details=details,
    user_id=words,
    session_id=words,
    request_id=words,
    source=words,
)
chains = st.lists(entries, min_size=1, max_size=8).map(lambda some: sealed(GENESIS, 0, some))


def break_of(chain: Any) -> Break | None:
    return first_break(GENESIS, 0, chain)[0]


def place(data: Any, chain: Chain) -> int:
    """An index into the chain."""
    index: int = data.draw(st.integers(0, len(chain) - 1))
    return index


@given(chains)
def test_an_untouched_chain_holds_to_its_end(chain: Chain) -> None:
    last = chain[-1]
    assert first_break(GENESIS, 0, chain) == (None, last.seal, last.number)
    assert [one.number for one in chain] == list(range(1, len(chain) + 1))


@given(st.lists(entries, min_size=2, max_size=8), st.data())
def test_sealing_in_parts_makes_the_same_chain(some: list[AuditEntry], data: Any) -> None:
    cut = data.draw(st.integers(1, len(some) - 1))
    first = sealed(GENESIS, 0, some[:cut])
    rest = sealed(first[-1].seal, first[-1].number, some[cut:])
    assert (*first, *rest) == sealed(GENESIS, 0, some)


@given(chains, st.data())
def test_a_changed_entry_is_found_where_it_is(chain: Chain, data: Any) -> None:
    at = place(data, chain)
    other = data.draw(entries.filter(lambda one: one != chain[at].entry))
    touched = (*chain[:at], replace(chain[at], entry=other), *chain[at + 1 :])
    broken = break_of(touched)
    assert broken is not None
    assert broken.number == at + 1


@pytest.mark.parametrize("field", AuditEntry.__slots__)
def test_a_change_of_any_field_breaks_the_chain(field: str) -> None:
    entry = AuditEntry(id="a", at=1, actor="b", action="c.d", outcome=Outcome.DONE)
    others: dict[str, Any] = {"at": 2, "outcome": Outcome.REFUSED, "details": {"x": 1}}
    changed = replace(entry, **{field: others.get(field, "other")})
    (one,) = sealed(GENESIS, 0, [entry])
    assert break_of([replace(one, entry=changed)]) is not None


def test_of_a_changed_entry_it_is_told_that_it_or_one_before_it_was_changed() -> None:
    entry = AuditEntry(id="a", at=1, actor="b", action="c.d", outcome=Outcome.DONE)
    (one,) = sealed(GENESIS, 0, [entry])
    changed = replace(one, entry=replace(entry, at=2))
    assert break_of([changed]) == Break(number=1, why="changed, or one before it was")


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_what_json_has_no_figure_for_is_not_sealed(figure: float) -> None:
    details = {"x": figure}
    entry = AuditEntry(id="a", at=1, actor="b", action="c.d", outcome=Outcome.DONE, details=details)
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(entry)


@given(chains, st.data())
def test_a_changed_seal_is_found_where_it_is(chain: Chain, data: Any) -> None:
    at = place(data, chain)
    bad = bytes([chain[at].seal[0] ^ 1]) + chain[at].seal[1:]
    broken = break_of((*chain[:at], replace(chain[at], seal=bad), *chain[at + 1 :]))
    assert broken is not None
    assert broken.number == at + 1


@given(chains.filter(lambda chain: len(chain) > 1), st.data(), st.booleans())
def test_a_removed_entry_is_found_where_it_was(chain: Chain, data: Any, renumber: bool) -> None:
    at = data.draw(st.integers(0, len(chain) - 2))
    rest = chain[at + 1 :]
    if renumber:
        rest = tuple(replace(one, number=one.number - 1) for one in rest)
    broken = break_of((*chain[:at], *rest))
    assert broken is not None
    assert broken.number == at + 1
    if not renumber:
        assert "missing" in broken.why


@given(chains, entries, st.data())
def test_an_inserted_entry_is_found_where_it_is(chain: Chain, extra: AuditEntry, data: Any) -> None:
    """With the others renumbered, and whatever seal but the right one."""
    at = place(data, chain)
    new = SealedEntry(
        number=at + 1, seal=data.draw(st.binary(min_size=32, max_size=32)), entry=extra
    )
    rest = tuple(replace(one, number=one.number + 1) for one in chain[at:])
    broken = break_of((*chain[:at], new, *rest))
    assert broken is not None
    assert broken.number == at + 1


@given(chains, entries, st.data())
def test_an_inserted_entry_with_a_seal_of_its_own_breaks_the_next(
    chain: Chain, extra: AuditEntry, data: Any
) -> None:
    at = place(data, chain)
    before = chain[at - 1].seal if at else GENESIS
    new = SealedEntry(number=at + 1, seal=seal_of(before, at + 1, extra), entry=extra)
    rest = tuple(replace(one, number=one.number + 1) for one in chain[at:])
    broken = break_of((*chain[:at], new, *rest))
    assert broken is not None
    assert broken.number == at + 2


@given(chains.filter(lambda chain: len(chain) > 1), st.data())
def test_swapped_entries_are_found_at_the_first_of_them(chain: Chain, data: Any) -> None:
    first = data.draw(st.integers(0, len(chain) - 2))
    second = data.draw(st.integers(first + 1, len(chain) - 1))
    one, other = chain[first], chain[second]
    if one.entry == other.entry:
        return
    touched = list(chain)
    touched[first] = replace(one, entry=other.entry)
    touched[second] = replace(other, entry=one.entry)
    broken = break_of(touched)
    assert broken is not None
    assert broken.number == first + 1


@given(chains, entries)
def test_a_rewritten_end_does_not_fit_a_seal_that_was_kept(chain: Chain, other: AuditEntry) -> None:
    """Who can rewrite every seal is found by one that was kept elsewhere."""
    if other == chain[0].entry:
        return
    rewritten = sealed(GENESIS, 0, [other, *(one.entry for one in chain[1:])])
    assert break_of(rewritten) is None
    assert rewritten[-1].seal != chain[-1].seal


def test_what_is_sealed_is_the_same_bytes_everywhere() -> None:
    """A later version that writes it otherwise would break every chain there is."""
    entry = AuditEntry(
        id="aud_1",
        at=1_790_000_000_000,
        actor="usr_1",
        action="session.connect",
        outcome=Outcome.DONE,
        why="given LAB-12: 第一",
        details={"place": 1, "b": [True, None]},
        user_id="usr_1",
    )
    text = (
        '{"action":"session.connect","actor":"usr_1","at":1790000000000,"desktop_id":"",'
        '"details":{"b":[true,null],"place":1},"endpoint_id":"","host_id":"","id":"aud_1",'
        '"outcome":"done","pool_id":"","request_id":"","session_id":"","source":"",'
        '"user_id":"usr_1","why":"given LAB-12: 第一"}'
    ).encode()
    assert canonical(entry) == text
    begins = bytes(32) + bytes(7) + b"\x01"
    assert seal_of(GENESIS, 1, entry) == hashlib.sha256(begins + text).digest()

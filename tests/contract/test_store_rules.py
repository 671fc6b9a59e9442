"""Entitlement rules and quotas are kept by name, and come back as they were saved."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker.domain.calendar import OnHolidays, Window
from broker.domain.errors import AlreadyExistsError, ConflictError, NotFoundError
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.limits import RULES_MAX
from broker.ports import Store
from tests.support.stores import fill

RULE = EntitlementRule(
    id="rul_1",
    name="no library at night",
    effect=Effect.DENY,
    user_ids=("usr_1", "usr_2"),
    group_ids=("grp_1",),
    pool_ids=("pol_1",),
    endpoint_ids=("ept_2", "ept_1"),
    networks=("10.0.0.0/8", "2001:db8::/32"),
    windows=(
        Window(days=(0, 4), start_min=22 * 60, end_min=6 * 60, on_holidays=OnHolidays.ALSO),
        Window(),
    ),
    enabled=False,
    note="asked for by the caretaker",
)
QUOTA = Quota(
    id="quo_1",
    name="two each",
    scope=QuotaScope.USER,
    sessions_max=2,
    group_id="grp_1",
    pool_ids=("pol_2", "pol_1"),
    enabled=False,
)


def bare(number: int, **changes: Any) -> EntitlementRule:
    values = {"id": f"rul_{number}", "name": f"rule-{number:04d}", "effect": Effect.ALLOW}
    return EntitlementRule(**(values | changes))


async def test_a_rule_comes_back_as_it_was_saved(store: Store) -> None:
    await store.directory.save_rule(RULE, new=True)
    assert await store.directory.rules() == (RULE,)
    changed = replace(RULE, name="any", effect=Effect.ALLOW, windows=(), enabled=True, note="")
    await store.directory.save_rule(changed, new=False)
    assert await store.directory.rules() == (changed,)


async def test_rules_come_by_name(store: Store) -> None:
    for number in (3, 1, 2):
        await store.directory.save_rule(bare(number), new=True)
    assert [one.id for one in await store.directory.rules()] == ["rul_1", "rul_2", "rul_3"]


async def test_a_rule_keeps_its_name_to_itself(store: Store) -> None:
    await store.directory.save_rule(bare(1), new=True)
    await store.directory.save_rule(bare(2), new=True)
    with pytest.raises(AlreadyExistsError):
        await store.directory.save_rule(bare(3, name="rule-0001"), new=True)
    with pytest.raises(AlreadyExistsError):
        await store.directory.save_rule(bare(2, name="rule-0001"), new=False)
    with pytest.raises(AlreadyExistsError):
        await store.directory.save_rule(bare(1, name="other"), new=True)
    assert [one.name for one in await store.directory.rules()] == ["rule-0001", "rule-0002"]


async def test_a_rule_that_is_gone_leaves_its_name_free(store: Store) -> None:
    await store.directory.save_rule(bare(1), new=True)
    await store.directory.delete_rule("rul_1")
    assert await store.directory.rules() == ()
    with pytest.raises(NotFoundError):
        await store.directory.delete_rule("rul_1")
    with pytest.raises(NotFoundError):
        await store.directory.save_rule(bare(1), new=False)
    await store.directory.save_rule(bare(2, name="rule-0001"), new=True)


async def test_one_rule_more_than_an_installation_has_is_refused(store: Store) -> None:
    for number in range(RULES_MAX - 1):
        await store.directory.save_rule(bare(number), new=True)
    # whoever counted before could not know of the others
    late = (bare(RULES_MAX + number) for number in range(4))
    ended = await asyncio.gather(
        *(store.directory.save_rule(one, new=True) for one in late), return_exceptions=True
    )
    assert [type(one) for one in ended if one is not None] == [ConflictError] * 3
    assert len(await store.directory.rules()) == RULES_MAX
    await store.directory.save_rule(bare(0, note="changed"), new=False)
    await store.directory.delete_rule("rul_0")
    await store.directory.save_rule(bare(9999), new=True)


async def test_one_quota_more_than_an_installation_has_is_refused(store: Store) -> None:
    bare_quota = replace(QUOTA, group_id=None)
    for number in range(RULES_MAX):
        name = f"quota-{number:04d}"
        await store.directory.save_quota(
            replace(bare_quota, id=f"quo_{number}", name=name), new=True
        )
    with pytest.raises(ConflictError, match="room for no more"):
        await store.directory.save_quota(replace(bare_quota, id="quo_x", name="x"), new=True)
    assert len(await store.directory.quotas()) == RULES_MAX


async def test_a_quota_comes_back_as_it_was_saved(store: Store) -> None:
    await fill(store)
    await store.directory.save_quota(QUOTA, new=True)
    assert await store.directory.quotas() == (QUOTA,)
    changed = replace(
        QUOTA, scope=QuotaScope.POOL, sessions_max=9, group_id=None, pool_ids=(), enabled=True
    )
    await store.directory.save_quota(changed, new=False)
    assert await store.directory.quotas() == (changed,)


async def test_quotas_have_names_and_end_like_rules(store: Store) -> None:
    await fill(store)
    await store.directory.save_quota(QUOTA, new=True)
    await store.directory.save_quota(replace(QUOTA, id="quo_2", name="another"), new=True)
    assert [one.id for one in await store.directory.quotas()] == ["quo_2", "quo_1"]
    with pytest.raises(AlreadyExistsError):
        await store.directory.save_quota(replace(QUOTA, id="quo_3"), new=True)
    with pytest.raises(NotFoundError):
        await store.directory.save_quota(replace(QUOTA, id="quo_4"), new=False)
    await store.directory.delete_quota("quo_1")
    with pytest.raises(NotFoundError):
        await store.directory.delete_quota("quo_1")
    assert [one.id for one in await store.directory.quotas()] == ["quo_2"]


async def test_a_quota_is_of_a_group_that_exists(store: Store) -> None:
    with pytest.raises(ConflictError):
        await store.directory.save_quota(QUOTA, new=True)

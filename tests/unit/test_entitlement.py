"""Who may have a desktop: refused unless allowed, a denial wins, and every answer says why."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calendar import Holiday, OnHolidays, Window
from broker.domain.errors import (
    DeniedByRuleError,
    NotEntitledError,
    PoolClosedError,
    SiteClosedError,
    TriviumError,
    WrongEndpointError,
)
from broker.domain.model import EndpointKind, EndpointState, Role
from broker.domain.planning.effective import effective
from broker.domain.policy.entitlement import Asking, Decision, Policy, binding, evaluate
from broker.domain.policy.opening import closed_because
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.domain.roles import GRANTS, Permission, allows
from broker.domain.settings import PoolSettings, ScheduleEntry, ServiceState, SiteSettings
from tests.support.builders import NOW, make_endpoint, make_pool
from tests.support.policies import allow, deny, make_asking, make_quota


def decide(*rules: EntitlementRule, site: SiteSettings | None = None, **asking: Any) -> Decision:
    return evaluate(make_asking(**asking), Policy(rules=rules, site=site or SiteSettings()))


def kind(decision: Decision) -> type[TriviumError] | None:
    """The refusal's kind. Who is refused is told what the help desk reads."""
    if decision.refusal is None:
        return None
    assert decision.refusal.detail == decision.why
    return type(decision.refusal)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


# --------------------------------------------------------------------------------- the base


def test_a_member_of_an_entitled_group_is_admitted_for_that_group() -> None:
    decision = decide(group_ids=("grp_0", "grp_1"))
    assert decision.admitted
    assert decision.group_id == "grp_1"
    assert decision.why == "entitled to library through one of its groups"


@pytest.mark.parametrize("groups", [(), ("grp_2",)])
def test_anybody_else_is_refused(groups: tuple[str, ...]) -> None:
    decision = decide(deny(), group_ids=groups)
    assert kind(decision) is NotEntitledError
    assert decision.why == "none of your groups is entitled to library, and no rule allows it"
    assert [one.rule_id for one in decision.reasons] == ["rul_exam"]


def test_a_pool_without_groups_admits_nobody() -> None:
    assert kind(decide(pool=make_pool(group_ids=()))) is NotEntitledError


def test_a_rule_entitles_the_person_or_the_group_that_it_names() -> None:
    stranger: dict[str, Any] = {"group_ids": ("grp_8", "grp_9")}
    by_name = decide(allow(user_ids=("usr_1",)), **stranger)
    by_group = decide(allow(group_ids=("grp_9",)), **stranger)
    assert by_name.admitted
    assert by_name.group_id is None
    assert by_group.group_id == "grp_9"
    assert by_group.why == "entitled to library by the rule “guests”"
    assert kind(decide(allow(user_ids=("usr_2",)), **stranger)) is NotEntitledError
    assert kind(decide(allow(group_ids=("grp_7",)), **stranger)) is NotEntitledError


def test_a_rule_that_names_both_wants_the_person_in_the_group() -> None:
    rule = allow(user_ids=("usr_1",), group_ids=("grp_9",))
    assert decide(rule, group_ids=("grp_9",)).admitted
    assert not decide(rule, group_ids=("grp_8",)).admitted


def test_a_rule_that_allows_everybody_allows_nobody() -> None:
    decision = decide(allow(), group_ids=())
    assert kind(decision) is NotEntitledError
    assert [one.mismatch for one in decision.reasons] == ["it names nobody"]


def test_the_pools_own_group_is_the_one_that_counts() -> None:
    decision = decide(allow(group_ids=("grp_0",)), group_ids=("grp_0", "grp_1"))
    assert decision.group_id == "grp_1"


# --------------------------------------------------------------------------------- denying


def test_a_rule_that_denies_wins_and_is_named() -> None:
    decision = decide(allow(user_ids=("usr_1",)), deny())
    assert kind(decision) is DeniedByRuleError
    assert decision.why == "the rule “exam” does not allow library here or now"


def test_a_stranger_is_not_told_of_rules_nor_of_a_pools_state() -> None:
    decision = decide(deny(), pool=make_pool(enabled=False), group_ids=("grp_9",))
    assert kind(decision) is NotEntitledError


@pytest.mark.parametrize(
    ("fields", "mismatch"),
    [
        ({"enabled": False}, "it is switched off"),
        ({"user_ids": ("usr_2",)}, "it is for other people"),
        ({"group_ids": ("grp_2",)}, "it is for other groups"),
        ({"pool_ids": ("pol_2",)}, "it is for other pools"),
        ({"endpoint_ids": ("ept_2",)}, "it is for other endpoints"),
        ({"networks": ("10.2.0.0/16", "2001:db8::/32")}, "it is for other networks"),
        ({"windows": (Window(start_min=0, end_min=1), Window(days=(0,)))}, "it is for other times"),
    ],
)
def test_each_field_that_is_set_must_match(fields: dict[str, Any], mismatch: str) -> None:
    sunday_noon = at("2026-11-22T12:00")
    asking: dict[str, Any] = {"endpoint": make_endpoint(kind=EndpointKind.THIN), "now": sunday_noon}
    matching: dict[str, Any] = {
        "user_ids": ("usr_1",),
        "group_ids": ("grp_1",),
        "pool_ids": ("pol_1",),
        "endpoint_ids": ("ept_1",),
        "networks": ("10.1.0.0/16",),
        "windows": (Window(days=(6,), start_min=12 * 60, end_min=13 * 60),),
    }
    assert kind(decide(deny(**matching), **asking)) is DeniedByRuleError
    decision = decide(deny(**(matching | fields)), **asking)
    assert decision.admitted
    assert decision.reasons[0].mismatch == mismatch


def test_who_sits_at_no_endpoint_is_at_none_that_a_rule_names() -> None:
    assert decide(deny(endpoint_ids=("ept_1",)), endpoint=None).admitted


def test_every_rule_looked_at_has_a_reason() -> None:
    decision = decide(deny("b", enabled=False), allow("c", user_ids=("usr_2",)), deny("a"))
    assert [one.text for one in decision.reasons] == [
        "the rule “a” denies it",
        "the rule “b” does not apply: it is switched off",
        "the rule “c” does not apply: it is for other people",
    ]


# --------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("network", "address", "within"),
    [
        ("10.0.0.0/8", "10.255.255.255", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.0/8", "::ffff:10.1.1.1", True),
        ("::ffff:10.0.0.0/104", "10.1.1.1", True),
        ("::ffff:10.0.0.0/104", "11.1.1.1", False),
        ("::/0", "10.1.1.1", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("192.0.2.7", "192.0.2.7", True),
    ],
)
def test_networks_are_blocks_of_addresses(network: str, address: str, within: bool) -> None:
    assert decide(deny(networks=(network,)), address=address).admitted is not within


@pytest.mark.parametrize("address", ["", "unix:", "10.0.0", "10.0.0.1.5"])
def test_an_address_that_cannot_be_read_opens_nothing(address: str) -> None:
    network = ("10.0.0.0/8",)
    allowing = allow(user_ids=("usr_1",), networks=network)
    assert kind(decide(deny(networks=network), address=address)) is DeniedByRuleError
    decision = decide(allowing, address=address, group_ids=())
    assert kind(decision) is NotEntitledError
    assert decision.reasons[0].mismatch == "the client's address is not known"


def test_without_an_address_rules_about_networks_are_left_out_and_say_so() -> None:
    decision = decide(deny(networks=("10.0.0.0/8",)), address=None)
    assert decision.admitted
    mismatch = "it is for certain networks, and no address is given"
    assert decision.reasons[0].mismatch == mismatch


# --------------------------------------------------------------------------------- time


def test_windows_hold_in_the_sites_time_zone() -> None:
    rule = deny(windows=(Window(start_min=8 * 60, end_min=16 * 60),))
    shanghai = SiteSettings(time_zone="Asia/Shanghai")
    noon_there = at("2026-11-20T04:00")
    assert kind(decide(rule, site=shanghai, now=noon_there)) is DeniedByRuleError
    assert decide(rule, now=noon_there).admitted


def test_on_a_holiday_a_window_holds_only_if_it_says_so() -> None:
    site = SiteSettings(holidays=(Holiday(day=date(2026, 11, 20), name="Founders"),))
    noon = at("2026-11-20T12:00")
    assert decide(deny(windows=(Window(),)), site=site, now=noon).admitted
    on_holidays = deny(windows=(Window(on_holidays=OnHolidays.ONLY),))
    assert not decide(on_holidays, site=site, now=noon).admitted


# --------------------------------------------------------------------------------- open, closed


DRAINED = "takes nobody new: it is being drained"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ServiceState.DRAINING, DRAINED),
        (ServiceState.MAINTENANCE, "is under maintenance"),
    ],
)
def test_a_site_that_is_not_open_takes_nobody_new_and_says_its_message(
    state: ServiceState, words: str
) -> None:
    site = SiteSettings(state=state, message="back at noon")
    decision = decide(site=site)
    assert kind(decision) is SiteClosedError
    assert decision.why == f"the site {words}: back at noon"
    assert decide(site=replace(site, message="")).why == f"the site {words}"
    assert decide(site=site, holds_session=True).admitted


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        (make_pool(enabled=False), "library is closed by an administrator"),
        (
            make_pool(settings=PoolSettings(state=ServiceState.DRAINING)),
            f"library {DRAINED}",
        ),
        (
            make_pool(settings=PoolSettings(state=ServiceState.MAINTENANCE)),
            "library is under maintenance",
        ),
        (
            make_pool(
                settings=PoolSettings(
                    schedule=(ScheduleEntry(name="night", window=Window(), open=False),)
                )
            ),
            "library is closed now by its schedule (night)",
        ),
    ],
)
def test_a_closed_pool_takes_nobody_new_and_keeps_whom_it_has(pool: Any, why: str) -> None:
    decision = decide(pool=pool)
    assert kind(decision) is PoolClosedError
    assert decision.why == why
    assert decide(pool=pool, holds_session=True).admitted
    assert kind(decide(pool=pool, group_ids=("grp_9",))) is NotEntitledError


def test_holding_a_session_gets_nobody_past_a_rule_that_denies() -> None:
    assert kind(decide(deny(), holds_session=True)) is DeniedByRuleError


def test_the_last_entry_of_a_schedule_that_speaks_of_being_open_counts() -> None:
    shut = ScheduleEntry(name="shut", window=Window(), open=False)
    lessons = ScheduleEntry(
        name="lessons", window=Window(start_min=8 * 60, end_min=16 * 60), open=True
    )
    spares = ScheduleEntry(name="spares", window=Window(), spares_min=5)
    pool = make_pool(
        settings=PoolSettings(schedule=(shut, lessons, spares), time_zone="Asia/Shanghai")
    )
    assert decide(pool=pool, now=at("2026-11-20T00:00")).admitted
    assert decide(pool=pool, now=at("2026-11-20T07:59")).admitted
    decision = decide(pool=pool, now=at("2026-11-20T08:00"))
    assert decision.why == "library is closed now by its schedule (shut)"


def test_a_schedule_does_not_open_what_is_drained() -> None:
    always = ScheduleEntry(name="always", window=Window(), open=True)
    pool = make_pool(settings=PoolSettings(state=ServiceState.DRAINING, schedule=(always,)))
    assert kind(decide(pool=pool)) is PoolClosedError


# --------------------------------------------------------------------------------- endpoints


def test_a_desktop_that_is_the_endpoint_needs_an_endpoint_of_the_pool() -> None:
    stranger = make_endpoint(pool_ids=("pol_other",))
    fat: dict[str, Any] = {"endpoint_kind": EndpointKind.FAT, "runs_on_endpoint": True}
    refused = decide(endpoint=stranger, **fat)
    assert kind(refused) is WrongEndpointError
    assert refused.why == f"{stranger.name} does not belong to library"
    thin = make_endpoint(kind=EndpointKind.THIN, pool_ids=("pol_other",))
    assert decide(endpoint=thin).admitted
    assert decide(endpoint=make_endpoint(), **fat).admitted


def test_a_desktop_that_is_the_endpoint_is_not_given_to_somebody_who_names_none() -> None:
    """A rule that denies an endpoint is not got round by not saying where one sits."""
    fat: dict[str, Any] = {"endpoint_kind": EndpointKind.FAT, "runs_on_endpoint": True}
    refused = decide(endpoint=None, **fat)
    assert kind(refused) is WrongEndpointError
    assert refused.why == (
        "desktops of library run on their endpoints: the one where you sit must be named"
    )
    assert decide(endpoint=None, anywhere=True, **fat).admitted
    assert decide(endpoint=None).admitted


@pytest.mark.parametrize(
    ("needed", "there"),
    [(EndpointKind.THIN, EndpointKind.FAT), (EndpointKind.FAT, EndpointKind.THIN)],
)
def test_an_endpoint_of_the_other_kind_cannot_carry_the_desktop(
    needed: EndpointKind, there: EndpointKind
) -> None:
    endpoint = make_endpoint(kind=there)
    refused = decide(endpoint=endpoint, endpoint_kind=needed)
    assert kind(refused) is WrongEndpointError
    assert refused.why == f"{endpoint.name} is a {there} endpoint, and library needs a {needed} one"


def test_a_retired_endpoint_carries_nothing() -> None:
    retired = make_endpoint(state=EndpointState.RETIRED)
    refused = decide(endpoint=retired)
    assert kind(refused) is WrongEndpointError
    assert refused.why == f"{retired.name} is retired"


# --------------------------------------------------------------------------------- quotas


def test_the_quotas_that_count_this_session_go_with_it() -> None:
    each = make_quota("each")
    of_group = make_quota("of-group", group_id="grp_1", pool_ids=("pol_1",))
    group = make_quota("group", scope=QuotaScope.GROUP, group_id="grp_1")
    pool = make_quota("pool", scope=QuotaScope.POOL, pool_ids=("pol_0", "pol_1"))
    binds = (each, of_group, group, pool)
    others = (
        replace(each, id="x1", enabled=False),
        replace(of_group, id="x2", group_id="grp_2"),
        replace(of_group, id="x3", pool_ids=("pol_2",)),
        replace(group, id="x4", group_id="grp_2"),
        replace(pool, id="x5", pool_ids=("pol_2",)),
    )
    policy = Policy(quotas=(*others, *binds))
    decision = evaluate(make_asking(group_ids=("grp_1", "grp_3")), policy)
    assert set(decision.quotas) == set(binds)
    assert evaluate(make_asking(group_ids=()), policy).quotas == ()


def test_a_groups_quota_counts_those_whom_that_group_entitles() -> None:
    """Being in a group is not enough: the pool must be had through it."""
    quota = make_quota(scope=QuotaScope.GROUP, group_id="grp_2")
    assert binding([quota], ("grp_1", "grp_2"), "grp_1", "pol_1") == ()
    assert binding([quota], ("grp_1", "grp_2"), "grp_2", "pol_1") == (quota,)


def test_of_several_groups_that_entitle_the_one_with_the_most_room_counts() -> None:
    pool = make_pool(group_ids=("grp_1", "grp_2", "grp_3"))
    full = make_quota("full", scope=QuotaScope.GROUP, group_id="grp_1", sessions_max=0)
    few = make_quota("few", scope=QuotaScope.GROUP, group_id="grp_2", sessions_max=5)
    one = replace(few, id="quo_one", sessions_max=1, pool_ids=("pol_2",))

    def entitles(*groups: str) -> str | None:
        asking = make_asking(pool=pool, group_ids=groups)
        return evaluate(asking, Policy(quotas=(full, few, one))).group_id

    for groups in itertools.permutations(("grp_1", "grp_2", "grp_3")):
        assert entitles(*groups) == "grp_3"
    assert entitles("grp_1", "grp_2") == entitles("grp_2", "grp_1") == "grp_2"
    assert evaluate(make_asking(pool=pool, group_ids=("grp_2", "grp_1")), Policy()).group_id == (
        "grp_1"
    )


# --------------------------------------------------------------------------------- properties

IDS = [f"usr_{n}" for n in (1, 2)]
GROUPS = [f"grp_{n}" for n in (1, 2, 3)]


def some(values: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=2).map(tuple)


windows = st.builds(
    Window,
    days=st.lists(st.integers(0, 6), unique=True, max_size=3).map(tuple),
    start_min=st.integers(0, 1439),
    end_min=st.integers(0, 1440),
    on_holidays=st.sampled_from(OnHolidays),
)


def rules_of(effects: st.SearchStrategy[Effect]) -> st.SearchStrategy[EntitlementRule]:
    return st.builds(
        EntitlementRule,
        id=st.uuids().map(str),
        name=st.sampled_from(["a", "b", "c", "d"]),
        effect=effects,
        user_ids=some(IDS),
        group_ids=some(GROUPS),
        pool_ids=some(["pol_1", "pol_2"]),
        endpoint_ids=some(["ept_1", "ept_2"]),
        networks=some(["10.1.0.0/16", "10.2.0.0/16", "2001:db8::/32"]),
        windows=st.lists(windows, max_size=2).map(tuple),
        enabled=st.booleans(),
    )


any_rules = st.lists(rules_of(st.sampled_from(Effect)), max_size=6)
askings = st.builds(
    Asking,
    user_id=st.sampled_from(IDS),
    group_ids=some(GROUPS),
    pool=st.builds(
        make_pool,
        group_ids=some(GROUPS),
        enabled=st.booleans(),
        settings=st.builds(PoolSettings, state=st.sampled_from(ServiceState)),
    ),
    endpoint=st.none() | st.just(make_endpoint()),
    endpoint_kind=st.sampled_from(EndpointKind),
    runs_on_endpoint=st.booleans(),
    anywhere=st.booleans(),
    address=st.sampled_from([None, "", "10.1.2.3", "10.2.2.3", "2001:db8::1"]),
    now=st.integers(NOW, NOW + 14 * 86_400_000),
    holds_session=st.booleans(),
)


def admitted(asking: Asking, rules: list[EntitlementRule]) -> bool:
    return evaluate(asking, Policy(rules=rules)).admitted


some_quotas = st.lists(
    st.builds(
        make_quota,
        name=st.uuids().map(str),
        scope=st.sampled_from(QuotaScope),
        group_id=st.sampled_from(GROUPS),
        sessions_max=st.integers(0, 3),
    ),
    max_size=4,
)


@given(askings, any_rules, some_quotas, st.randoms(use_true_random=False))
def test_the_order_of_rules_quotas_and_groups_does_not_matter(
    asking: Asking, rules: list[EntitlementRule], quotas: list[Quota], chance: Any
) -> None:
    groups, other_rules, other_quotas = list(asking.group_ids), list(rules), list(quotas)
    for one in (groups, other_rules, other_quotas):
        chance.shuffle(one)
    first = evaluate(asking, Policy(rules=rules, quotas=quotas))
    second = evaluate(
        replace(asking, group_ids=tuple(groups)), Policy(rules=other_rules, quotas=other_quotas)
    )
    assert (first.why, first.group_id, kind(first)) == (second.why, second.group_id, kind(second))
    assert first.quotas == second.quotas
    assert set(first.reasons) == set(second.reasons)


def test_of_several_rules_that_apply_the_first_by_name_is_told() -> None:
    stranger: dict[str, Any] = {"group_ids": ("grp_8", "grp_9")}
    shut = [deny("b"), deny("a"), deny("c")]
    guests = [allow("z", group_ids=("grp_9",)), allow("y", group_ids=("grp_8",))]
    for some in (shut, shut[::-1]):
        assert "“a”" in decide(*some).why
    for some in (guests, guests[::-1]):
        decision = decide(*some, **stranger)
        assert "“y”" in decision.why
        assert decision.group_id == "grp_8"


@given(askings, any_rules, rules_of(st.just(Effect.ALLOW)))
def test_one_more_rule_that_allows_refuses_nobody(
    asking: Asking, rules: list[EntitlementRule], extra: EntitlementRule
) -> None:
    if admitted(asking, rules):
        assert admitted(asking, [*rules, extra])


@given(askings, any_rules, rules_of(st.just(Effect.DENY)))
def test_one_more_rule_that_denies_admits_nobody(
    asking: Asking, rules: list[EntitlementRule], extra: EntitlementRule
) -> None:
    if not admitted(asking, rules):
        assert not admitted(asking, [*rules, extra])


@given(askings, any_rules, st.integers(0, 6))
def test_a_rule_that_denies_and_applies_wins_wherever_it_stands(
    asking: Asking, rules: list[EntitlementRule], place: int
) -> None:
    shut = deny("shut", user_ids=(asking.user_id,))
    assert not admitted(asking, [*rules[:place], shut, *rules[place:]])


schedules = st.lists(
    st.builds(
        ScheduleEntry,
        name=st.just("entry"),
        window=windows,
        open=st.sampled_from([None, True, False]),
    ),
    max_size=4,
).map(tuple)


@given(
    st.builds(
        make_pool,
        enabled=st.booleans(),
        settings=st.builds(
            PoolSettings,
            state=st.sampled_from(ServiceState),
            schedule=schedules,
            time_zone=st.sampled_from(["", "Asia/Shanghai", "America/New_York"]),
        ),
    ),
    st.builds(SiteSettings, state=st.sampled_from(ServiceState)),
    st.integers(NOW, NOW + 14 * 86_400_000),
)
def test_admission_and_planner_agree_on_what_is_open(
    pool: Any, site: SiteSettings, now: int
) -> None:
    assert (closed_because(pool, site, now) is None) is effective(pool, site, now).open


# --------------------------------------------------------------------------------- roles


def test_roles_allow_what_is_listed_and_nothing_else() -> None:
    allowed = {
        (role, permission) for role in Role for permission in Permission if allows(role, permission)
    }
    assert {permission for role, permission in allowed if role is Role.USER} == {
        Permission.OWN_SESSIONS
    }
    assert {permission for role, permission in allowed if role is Role.AUDITOR} == {
        Permission.OWN_SESSIONS,
        Permission.READ,
        Permission.READ_AUDIT,
    }
    for permission in (
        Permission.MANAGE_USERS,
        Permission.MANAGE_POOLS,
        Permission.MANAGE_POLICIES,
        Permission.MANAGE_SITE,
        Permission.READ_AUDIT,
    ):
        assert (Role.OPERATOR, permission) not in allowed
    assert GRANTS[Role.ADMINISTRATOR] == frozenset(Permission)

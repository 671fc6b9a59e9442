"""Admission refuses unless a rule allows, and says why."""

from __future__ import annotations

import pytest

from broker.domain.errors import NotEntitledError, PoolClosedError, WrongEndpointError
from broker.domain.model import EndpointState, Role
from broker.domain.policy.admission import admit
from broker.domain.roles import GRANTS, Permission, allows
from tests.support.builders import make_endpoint, make_pool


def test_a_member_of_an_entitled_group_is_admitted_for_that_group() -> None:
    answer = admit(
        group_ids=("grp_0", "grp_1"), pool=make_pool(), endpoint=None, runs_on_endpoint=False
    )
    assert answer.refusal is None
    assert answer.group_id == "grp_1"


@pytest.mark.parametrize("groups", [(), ("grp_2",)])
def test_anybody_else_is_refused(groups: tuple[str, ...]) -> None:
    answer = admit(group_ids=groups, pool=make_pool(), endpoint=None, runs_on_endpoint=False)
    assert isinstance(answer.refusal, NotEntitledError)


def test_a_pool_without_groups_admits_nobody() -> None:
    answer = admit(
        group_ids=("grp_1",), pool=make_pool(group_ids=()), endpoint=None, runs_on_endpoint=False
    )
    assert isinstance(answer.refusal, NotEntitledError)


def test_a_closed_pool_is_told_only_to_those_entitled() -> None:
    pool = make_pool(enabled=False)
    entitled = admit(group_ids=("grp_1",), pool=pool, endpoint=None, runs_on_endpoint=False)
    other = admit(group_ids=("grp_9",), pool=pool, endpoint=None, runs_on_endpoint=False)
    assert isinstance(entitled.refusal, PoolClosedError)
    assert isinstance(other.refusal, NotEntitledError)


def test_a_desktop_that_is_the_endpoint_needs_an_endpoint_of_the_pool() -> None:
    stranger = make_endpoint(pool_ids=("pol_other",))
    pool = make_pool()
    refused = admit(group_ids=("grp_1",), pool=pool, endpoint=stranger, runs_on_endpoint=True)
    shown = admit(group_ids=("grp_1",), pool=pool, endpoint=stranger, runs_on_endpoint=False)
    assert isinstance(refused.refusal, WrongEndpointError)
    assert shown.refusal is None


def test_a_retired_endpoint_carries_nothing() -> None:
    answer = admit(
        group_ids=("grp_1",),
        pool=make_pool(),
        endpoint=make_endpoint(state=EndpointState.RETIRED),
        runs_on_endpoint=False,
    )
    assert isinstance(answer.refusal, WrongEndpointError)


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
    }
    assert (Role.OPERATOR, Permission.MANAGE_USERS) not in allowed
    assert (Role.OPERATOR, Permission.MANAGE_POOLS) not in allowed
    assert GRANTS[Role.ADMINISTRATOR] == frozenset(Permission)

"""The table of routes refuses what may not be served; query parameters are checked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiohttp import web
from multidict import MultiDict

from broker.domain.errors import BadRequestError
from broker.domain.model import Role
from broker.domain.roles import Permission
from broker.web.access import Access
from broker.web.audited import GIVEN, Audited, safe_fields
from broker.web.call import Call
from broker.web.params import PAGE, TEXT, choice, choices, integer, parse_query
from broker.web.routes import Route, RouteTable, Surface


async def nothing(call: Call) -> web.StreamResponse:
    return call.done()


def route(**changes: Any) -> Route:
    values: dict[str, Any] = {
        "method": "GET",
        "path": "/x",
        "handler": nothing,
        "need": Permission.READ,
        "summary": "x",
    }
    return Route(**(values | changes))


def test_a_route_without_a_need_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        Route(method="GET", path="/x", handler=nothing, summary="x")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "changes",
    [
        {"need": None},
        {"need": frozenset()},
        {"need": ""},
        {"method": "TRACE"},
        {"method": "get"},
        {"path": "x"},
        {"request": dict},
        {"surface": Surface.AGENT},
        {"need": Access.AGENT},
        {"method": "POST"},
        {"audit": Audited(action="x.change")},
    ],
)
def test_a_route_that_may_not_exist_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages differ
        route(**changes)


def test_two_routes_for_one_address_are_refused() -> None:
    table = RouteTable([route(path="/x/{id}")])
    table.add(route(path="/x/{id}", method="POST", audit=Audited(action="x.add")))
    with pytest.raises(ValueError, match="exists already"):
        table.add(route(path=r"/x/{id:\d+}"))


@pytest.mark.parametrize("action", ["x", "x.", ".x", ""])
def test_an_audit_action_is_a_noun_and_a_verb(action: str) -> None:
    with pytest.raises(ValueError, match=r"noun\.verb"):
        Audited(action=action)


def test_only_a_service_leaves_out_refusals() -> None:
    with pytest.raises(ValueError, match="only a service"):
        Audited(action="x.y", told=(BadRequestError,))


class Inner(msgspec.Struct):
    secret: str
    cpus: float


class Sent(msgspec.Struct):
    name: str
    password: str
    role: Role
    on: bool
    inner: Inner
    groups: list[str]
    tokens: list[str]
    passwords: dict[str, str]
    left_out: str | msgspec.UnsetType = msgspec.UNSET


def test_of_a_body_only_what_cannot_be_a_secret_is_kept() -> None:
    sent = Sent(
        name="x" * 500,
        password="p",
        role=Role.USER,
        on=True,
        inner=Inner(secret="s", cpus=2.0),
        groups=["a"] * 60,
        tokens=["t"],
        passwords={"ann": "p"},
    )
    assert safe_fields(sent) == {
        "name": "x" * 200,
        "password": GIVEN,
        "role": "user",
        "on": True,
        "inner": {"secret": GIVEN, "cpus": 2.0},
        "groups": ["a"] * 50,
        "tokens": [GIVEN],
        "passwords": GIVEN,
    }
    assert safe_fields(None) == {}


PARAMS = (
    *PAGE,
    TEXT,
    choice("role", Role, ""),
    choices("topics", ("a", "b"), ""),
    integer("n", 0, 30, ""),
)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {}),
        ({"limit": "500"}, {"limit": 500}),
        ({"text": "李"}, {"text": "李"}),
        ({"role": "user"}, {"role": "user"}),
        ({"topics": "b,a,b"}, {"topics": ("b", "a")}),
    ],
)
def test_good_parameters_are_parsed(given: dict[str, str], found: dict[str, Any]) -> None:
    assert dict(parse_query(PARAMS, MultiDict(given))) == found


@pytest.mark.parametrize(
    "given",
    [
        [("nope", "1")],
        [("limit", "0")],
        [("limit", "501")],
        [("limit", "")],
        [("limit", "+5")],
        [("limit", " 5")],
        [("limit", "٥")],
        [("limit", "9" * 5000)],
        [("limit", "5"), ("limit", "6")],
        [("text", "")],
        [("text", "x" * 121)],
        [("text", "a\0b")],
        [("role", "root")],
        [("topics", "a,,b")],
        [("topics", "a,c")],
        [("n" * 500, "1")],
    ],
)
def test_bad_parameters_are_refused_by_name(given: list[tuple[str, str]]) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_query(PARAMS, MultiDict(given))
    assert refused.value.fields["field"] == given[0][0][:120]

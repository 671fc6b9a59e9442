"""Every route against every role: what is refused, and that no route is missing from the list."""

from __future__ import annotations

import pytest
from yarl import URL

from broker.domain.model import Role
from broker.domain.roles import allows
from broker.web.access import Access, permissions_of
from broker.web.routes import Route, Surface
from tests.support.app import PASSWORD, App, Person, Reply

EVERYBODY = {Role.USER, Role.AUDITOR, Role.OPERATOR, Role.ADMINISTRATOR}
READERS = EVERYBODY - {Role.USER}
OPERATORS = {Role.OPERATOR, Role.ADMINISTRATOR}
ADMINISTRATORS = {Role.ADMINISTRATOR}
AUDITORS = {Role.AUDITOR, Role.ADMINISTRATOR}
PUBLIC: set[Role | None] = {None, *EVERYBODY}

ALLOWED: dict[str, set[Role] | set[Role | None]] = {
    "POST /api/v1/auth/login": PUBLIC,
    "POST /api/v1/auth/logout": EVERYBODY,
    "GET /api/v1/auth/me": EVERYBODY,
    "POST /api/v1/auth/password": EVERYBODY,
    "POST /api/v1/setup": PUBLIC,
    "GET /api/v1/users": READERS,
    "POST /api/v1/users": ADMINISTRATORS,
    "POST /api/v1/users/passwords": ADMINISTRATORS,
    "GET /api/v1/users/{id}": READERS,
    "PATCH /api/v1/users/{id}": ADMINISTRATORS,
    "POST /api/v1/users/{id}/password": ADMINISTRATORS,
    "GET /api/v1/groups": READERS,
    "GET /api/v1/pools": READERS,
    "POST /api/v1/pools": ADMINISTRATORS,
    "GET /api/v1/pools/{id}": READERS,
    "PATCH /api/v1/pools/{id}": ADMINISTRATORS,
    "GET /api/v1/me/pools": EVERYBODY,
    "GET /api/v1/desktops": READERS,
    "GET /api/v1/desktops/{id}": READERS,
    "GET /api/v1/desktops/{id}/drift": READERS,
    "GET /api/v1/hosts": READERS,
    "POST /api/v1/hosts": ADMINISTRATORS,
    "POST /api/v1/hosts/check": ADMINISTRATORS,
    "GET /api/v1/hosts/{id}/capabilities": READERS,
    "GET /api/v1/hosts/{id}/condition": READERS,
    "PATCH /api/v1/hosts/{id}": ADMINISTRATORS,
    "POST /api/v1/hosts/{id}/power": ADMINISTRATORS,
    "POST /api/v1/hosts/{id}/retire": ADMINISTRATORS,
    "GET /api/v1/breakers": READERS,
    "POST /api/v1/hosts/{id}/breakers/reset": ADMINISTRATORS,
    "POST /api/v1/desktops/{id}/assign": ADMINISTRATORS,
    "POST /api/v1/desktops/{id}/unassign": ADMINISTRATORS,
    "POST /api/v1/desktops/{id}/reset": ADMINISTRATORS,
    "POST /api/v1/desktops/{id}/restart": OPERATORS,
    "POST /api/v1/desktops/{id}/move": ADMINISTRATORS,
    "DELETE /api/v1/desktops/{id}": ADMINISTRATORS,
    "GET /api/v1/desktops/{id}/snapshots": READERS,
    "POST /api/v1/desktops/{id}/snapshots": ADMINISTRATORS,
    "POST /api/v1/desktops/{id}/snapshots/{snapshot}/revert": ADMINISTRATORS,
    "DELETE /api/v1/desktops/{id}/snapshots/{snapshot}": ADMINISTRATORS,
    "GET /api/v1/images": READERS,
    "POST /api/v1/images": ADMINISTRATORS,
    "DELETE /api/v1/images/{id}": ADMINISTRATORS,
    "GET /api/v1/jobs": READERS,
    "GET /api/v1/jobs/{id}": READERS,
    "POST /api/v1/sessions": EVERYBODY,
    "GET /api/v1/sessions": EVERYBODY,
    "GET /api/v1/sessions/{id}": EVERYBODY,
    "DELETE /api/v1/sessions/{id}": EVERYBODY,
    "POST /api/v1/sessions/{id}/disconnect": EVERYBODY,
    "POST /api/v1/sessions/{id}/consent": EVERYBODY,
    "POST /api/v1/sessions/{id}/extend": OPERATORS,
    "POST /api/v1/sessions/{id}/message": OPERATORS,
    "POST /api/v1/sessions/{id}/lock": OPERATORS,
    "POST /api/v1/sessions/{id}/connection": EVERYBODY,
    "GET /api/v1/sessions/{id}/display": EVERYBODY,
    "GET /api/v1/sessions/{id}/shadows": EVERYBODY,
    "POST /api/v1/sessions/{id}/shadows": OPERATORS,
    "GET /api/v1/sessions/{id}/shadows/{shadow_id}": EVERYBODY,
    "DELETE /api/v1/sessions/{id}/shadows/{shadow_id}": EVERYBODY,
    "POST /api/v1/sessions/{id}/shadows/{shadow_id}/answer": EVERYBODY,
    "POST /api/v1/sessions/{id}/shadows/{shadow_id}/ticket": OPERATORS,
    "GET /api/v1/sessions/{id}/shadows/{shadow_id}/display": OPERATORS,
    "GET /api/v1/endpoints": READERS,
    "POST /api/v1/endpoints/tokens": OPERATORS,
    "GET /api/v1/endpoints/{id}": READERS,
    "POST /api/v1/endpoints/{id}/retire": OPERATORS,
    "POST /api/v1/imports": ADMINISTRATORS,
    "GET /api/v1/campaigns": READERS,
    "POST /api/v1/campaigns": OPERATORS,
    "GET /api/v1/campaigns/{id}": READERS,
    "PATCH /api/v1/campaigns/{id}": OPERATORS,
    "GET /api/v1/campaigns/{id}/report": READERS,
    "GET /api/v1/overview": READERS,
    "GET /api/v1/events": EVERYBODY,
    "GET /api/v1/rules": READERS,
    "POST /api/v1/rules": ADMINISTRATORS,
    "GET /api/v1/rules/{id}": READERS,
    "PATCH /api/v1/rules/{id}": ADMINISTRATORS,
    "DELETE /api/v1/rules/{id}": ADMINISTRATORS,
    "GET /api/v1/quotas": READERS,
    "POST /api/v1/quotas": ADMINISTRATORS,
    "GET /api/v1/quotas/{id}": READERS,
    "PATCH /api/v1/quotas/{id}": ADMINISTRATORS,
    "DELETE /api/v1/quotas/{id}": ADMINISTRATORS,
    "GET /api/v1/site": READERS,
    "PATCH /api/v1/site": ADMINISTRATORS,
    "GET /api/v1/users/{id}/preview": READERS,
    "GET /api/v1/me/preview": EVERYBODY,
    "GET /api/v1/audit": AUDITORS,
    "GET /api/v1/audit/export": AUDITORS,
    "GET /api/v1/audit/check": AUDITORS,
    "GET /api/v1/sessions/{id}/why": EVERYBODY,
    "GET /api/v1/desktops/{id}/why": READERS,
    "GET /api/v1/pools/{id}/why": READERS,
    "GET /api/v1/hosts/{id}/why": READERS,
    "GET /api/openapi.json": PUBLIC,
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
}
"""who gets past the door; None stands for nobody signed in"""
OF_AGENTS = {
    "POST /agent/v1/enrol",
    "GET /agent/v1/link",
    "GET /agent/v1/guest",
    "GET /agent/v1/display",
    "GET /agent/v1/images/{image_id}/segments/{index}",
}
"""where people's tokens mean nothing"""
FROM_THIS_MACHINE = {"GET /metrics"}
"""tested in test_health"""
NAMES = {
    Role.USER: "ann",
    Role.AUDITOR: "audrey",
    Role.OPERATOR: "oliver",
    Role.ADMINISTRATOR: "alice",
}


def key(route: Route) -> str:
    return f"{route.method} {route.template}"


def served(app: App) -> list[Route]:
    return [route for route in app.broker.web.table if route.surface is not Surface.PAGE]


def some_path(route: Route) -> str:
    """The route's address with something that does not exist in it."""
    path = route.template
    for name in route.params:
        path = path.replace("{" + name + "}", "0" if name == "index" else "nothing_here")
    return path


async def ask(app: App, route: Route, person: Person | None) -> Reply:
    """Knock at a route: an empty object where it takes a body; only the head of a stream."""
    if not route.stream:
        body: dict[str, str] | None = {} if route.method in {"POST", "PATCH"} else None
        return await app.call(route.method, some_path(route), person, body=body)
    headers = person.headers if person is not None else {}
    async with app.http.get(URL(app.url + route.path), headers=headers) as answer:
        body_bytes = b"" if answer.status == 200 else await answer.read()
        return Reply(answer.status, answer.headers, body_bytes)


def refused(reply: Reply) -> bool:
    return reply.code in {"auth.required", "auth.forbidden"}


async def test_every_route_is_in_the_list(app: App) -> None:
    assert {key(route) for route in served(app)} == {
        *ALLOWED,
        *OF_AGENTS,
        *FROM_THIS_MACHINE,
    }


async def test_each_role_gets_past_the_doors_that_are_its_own_and_no_others(app: App) -> None:
    wrong: list[str] = []
    for route in served(app):
        roles = ALLOWED.get(key(route))
        if roles is None:
            continue
        for role in (None, *Role):
            person = None
            if role is not None:
                # a sign-in of its own each time: signing out is among the routes
                known = app.people[NAMES[role]]
                user = await app.services.kit.store.directory.user(known.id)
                assert user is not None
                person = await app.signed_in(user)
            reply = await ask(app, route, person)
            expected = role in roles
            broken = reply.status >= 500 and route.path != "/readyz"
            if refused(reply) == expected or broken:
                wrong.append(f"{key(route)} as {role}: {reply.status} {reply.code}")
    assert wrong == []


async def test_without_a_sign_in_nothing_is_told_about_what_exists(app: App) -> None:
    for route in served(app):
        if None in ALLOWED.get(key(route), {None}):
            continue
        reply = await ask(app, route, None)
        assert (reply.status, reply.code) == (401, "auth.required"), key(route)
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_persons_token_opens_nothing_of_the_agents(app: App) -> None:
    for route in served(app):
        if key(route) in OF_AGENTS:
            reply = await ask(app, route, app.people["alice"])
            assert 400 <= reply.status < 500, key(route)


async def test_head_needs_what_get_needs_and_tells_as_little(app: App) -> None:
    for route in served(app):
        if route.method != "GET" or route.socket or route.stream:
            continue
        for name in (None, "ann", "alice"):
            person = app.people[name] if name is not None else None
            got = await app.call("GET", some_path(route), person)
            head = await app.call("HEAD", some_path(route), person)
            if "/metrics" not in route.path:
                assert head.status == got.status, (key(route), name)
            assert head.body == b""


async def test_options_and_other_methods_do_nothing_and_name_what_is_allowed(app: App) -> None:
    alice = app.people["alice"]
    for route in served(app):
        options = await app.call("OPTIONS", some_path(route), alice)
        assert options.status == 204, key(route)
        assert route.method in options.headers["Allow"]
        assert not any(name.startswith("Access-Control") for name in options.headers)
        for method in ("PUT", "TRACE", "PROPFIND"):
            reply = await app.call(method, some_path(route), alice)
            assert (reply.status, reply.code) == (405, "request.method"), (method, key(route))
            assert route.method in reply.headers["Allow"]


async def test_a_method_in_a_header_changes_nothing(app: App) -> None:
    ann = app.people["ann"]
    made = await app.call("POST", "/sessions", ann, body={"pool": "library"})
    session_id = made.json["session"]["id"]
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        await app.call("GET", f"/sessions/{session_id}", ann, headers={name: "DELETE"})
        reply = await app.call("GET", f"/sessions/{session_id}?_method=DELETE", ann)
        assert reply.status == 400
    after = await app.call("GET", f"/sessions/{session_id}", ann)
    assert after.json["state"] == "delivering"


@pytest.mark.parametrize("role", list(Role))
async def test_no_role_but_the_administrator_can_make_itself_more(app: App, role: Role) -> None:
    if role is Role.ADMINISTRATOR:
        return
    person = app.people[NAMES[role]]
    tries = [
        ("PATCH", f"/users/{person.id}", {"role": "administrator"}),
        ("PATCH", f"/users/{person.id}", {"groups": ["class-b"]}),
        ("POST", "/users", {"username": "me2", "role": "administrator"}),
        ("POST", "/imports", {"files": {"users.csv": "username,role\nann,administrator\n"}}),
        ("POST", "/setup", {"secret": "x", "username": "me3", "password": PASSWORD}),
    ]
    for method, path, body in tries:
        reply = await app.call(method, path, person, body=body)
        assert reply.status in {403, 404}, path
    user = await app.services.kit.store.directory.user(person.id)
    assert user is not None
    assert user.role is role


async def test_pages_of_the_console_ask_for_what_they_declare(app: App) -> None:
    for route in app.broker.web.table:
        if route.surface is not Surface.PAGE or route.need is Access.PUBLIC:
            continue
        for role in Role:
            may = all(allows(role, one) for one in permissions_of(route.need))
            body: dict[str, str] | None = {} if route.method != "GET" else None
            reply = await app.call(
                route.method, some_path(route), app.people[NAMES[role]], body=body, base=""
            )
            assert may or reply.status in {401, 403, 303}, (key(route), role)


TRICKS = (
    "/{0}",
    "/./{0}",
    "{0}/",
    "{0}/.",
    "{0}//",
    "{0};x=1",
    "{0}%2f",
    "{0}%00",
    "{0}%20",
    "{0}.",
    "{0}.json",
    "{0}?",
    "{0}#x",
    "/api/v1/..{0}",
    "/api/v1/%2e%2e/..{0}",
    "/healthz/..{0}",
    "/healthz/%2e%2e{0}",
    "/healthz;{0}",
    "/static/..{0}",
    "/agent/v1/..{0}",
)


async def test_no_spelling_of_an_address_gets_past_its_door(app: App) -> None:
    for route in served(app):
        if None in ALLOWED.get(key(route), {None}):
            continue
        for trick in TRICKS:
            target = trick.format(some_path(route))
            sent = (
                f"{route.method} {target} HTTP/1.1\r\nHost: {app.address}\r\n"
                "Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
            answer = await app.raw(sent.encode())
            status = int(answer.split(b" ", 2)[1])
            assert status in {400, 401, 404, 405}, (target, answer[:200])


@pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path"])
async def test_an_address_in_a_header_is_not_looked_at(app: App, name: str) -> None:
    reply = await app.call("GET", "/healthz", headers={name: "/api/v1/users"})
    assert reply.json == {"status": "alive"}


async def test_the_matrix_would_see_a_door_left_open(app: App) -> None:
    """The plant: the pipeline without its permission check."""
    route = next(one for one in served(app) if key(one) == "GET /api/v1/users")
    object.__setattr__(route, "need", Access.PUBLIC)
    with pytest.raises(AssertionError):
        await test_each_role_gets_past_the_doors_that_are_its_own_and_no_others(app)

"""Signing in and out, and for how long a token opens anything."""

from __future__ import annotations

import asyncio
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from broker import limits
from broker.domain.model import Role
from tests.support.app import PASSWORD, App, Person, Reply, running_app

CONSOLE = {"X-Trivium": "1"}


async def login(app: App, username: str = "ann", password: str = PASSWORD) -> Reply:
    return await app.call("POST", "/auth/login", body={"username": username, "password": password})


def bearer(reply: Reply) -> Person:
    user = reply.json["user"]
    return Person(id=user["id"], username=user["username"], token=reply.json["token"])


async def test_a_sign_in_gives_a_token_that_opens_the_api(app: App) -> None:
    reply = await login(app)
    assert reply.status == 200
    assert reply.json["user"]["groups"] == ["class-a"]
    assert "Set-Cookie" not in reply.headers
    me = await app.call("GET", "/auth/me", bearer(reply))
    assert (me.json["username"], me.json["permissions"]) == ("ann", ["own-sessions"])


async def test_names_are_the_same_in_any_case(app: App) -> None:
    assert (await login(app, " ANN ")).status == 200


async def test_a_wrong_name_and_a_wrong_password_look_alike(app: App) -> None:
    one = await login(app, "ann", "wrong")
    other = await login(app, "nobody", "wrong")
    assert (one.status, one.code) == (other.status, other.code) == (401, "auth.bad_credentials")
    differing = {"request_id"}
    assert {k: v for k, v in one.json.items() if k not in differing} == {
        k: v for k, v in other.json.items() if k not in differing
    }


async def test_guessing_is_slowed_down_with_the_time_to_wait(app: App) -> None:
    for _ in range(limits.SIGN_IN_FAILURES_MAX):
        assert (await login(app, "ann", "wrong")).status == 401
    braked = await login(app)
    assert (braked.status, braked.code) == (429, "auth.too_many_attempts")
    wait_s = int(braked.headers["Retry-After"])
    assert wait_s >= 1
    # another account is not held up
    assert (await login(app, "bob")).status == 200
    app.clock.shift_s += wait_s
    assert (await login(app)).status == 200


async def test_a_thousand_guesses_at_once_are_not_all_looked_at(app: App) -> None:
    replies = await asyncio.gather(*(login(app, "ann", f"guess {n}") for n in range(100)))
    looked_at = sum(reply.status == 401 for reply in replies)
    assert looked_at <= limits.SIGN_IN_FAILURES_MAX
    assert all(reply.status in {401, 429} for reply in replies)


async def test_signing_out_ends_that_token_at_once_and_no_other(app: App) -> None:
    one, other = bearer(await login(app)), bearer(await login(app))
    assert (await app.call("GET", "/auth/me", one)).status == 200
    assert (await app.call("POST", "/auth/logout", one)).status == 204
    assert (await app.call("GET", "/auth/me", one)).status == 401
    assert (await app.call("GET", "/auth/me", other)).status == 200


async def test_a_disabled_account_is_out_at_once_and_cannot_come_back(app: App) -> None:
    ann = bearer(await login(app))
    await app.call("GET", "/auth/me", ann)
    changed = await app.call(
        "PATCH", f"/users/{ann.id}", app.people["alice"], body={"enabled": False}
    )
    assert changed.json["enabled"] is False
    assert (await app.call("GET", "/auth/me", ann)).status == 401
    assert (await login(app)).code == "auth.bad_credentials"


async def test_a_lost_role_is_lost_with_the_next_request(app: App) -> None:
    oliver = app.people["oliver"]
    assert (await app.call("GET", "/users", oliver)).status == 200
    await app.call("PATCH", f"/users/{oliver.id}", app.people["alice"], body={"role": "user"})
    assert (await app.call("GET", "/users", oliver)).status == 401


async def test_another_process_is_believed_for_a_second_at_most(app: App) -> None:
    ann = bearer(await login(app))
    await app.call("GET", "/auth/me", ann)
    # as another broker process does it: past this process's memory
    await app.services.kit.store.credentials.revoke_user_tokens(ann.id)
    app.clock.shift_s += 1.1
    assert (await app.call("GET", "/auth/me", ann)).status == 401


async def test_a_token_ends_when_it_says_so(app: App) -> None:
    ann = bearer(await login(app))
    app.clock.shift_s += limits.TOKEN_S - 5
    assert (await app.call("GET", "/auth/me", ann)).status == 200
    app.clock.shift_s += 6
    assert (await app.call("GET", "/auth/me", ann)).status == 401


async def test_a_changed_password_ends_every_sign_in_and_the_old_password(app: App) -> None:
    ann, elsewhere = bearer(await login(app)), bearer(await login(app))
    new = "quite another pass phrase"
    wrong = await app.call("POST", "/auth/password", ann, body={"old": "no", "new": new})
    assert wrong.status == 401
    short = await app.call("POST", "/auth/password", ann, body={"old": PASSWORD, "new": "x"})
    assert short.status == 400
    done = await app.call("POST", "/auth/password", ann, body={"old": PASSWORD, "new": new})
    assert done.status == 204
    for person in (ann, elsewhere):
        assert (await app.call("GET", "/auth/me", person)).status == 401
    assert (await login(app)).status == 401
    assert (await login(app, "ann", new)).status == 200


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Basic YW5uOng=", "Bearer x y", "bearer\tx", "Token x", "é",
     "Bearer " + "x" * 7000],
)  # fmt: skip
async def test_a_strange_authorization_is_no_sign_in(app: App, value: str) -> None:
    reply = await app.call("GET", "/auth/me", headers={"Authorization": value})
    assert (reply.status, reply.code) == (401, "auth.required")


async def test_two_tokens_are_none(app: App) -> None:
    token = app.people["ann"].token
    answer = await app.raw(
        f"GET /api/v1/auth/me HTTP/1.1\r\nHost: {app.address}\r\nConnection: close\r\n"
        f"Authorization: Bearer {token}\r\nAuthorization: Bearer other\r\n\r\n".encode()
    )
    assert answer.split(b" ", 2)[1] == b"401"


# ------------------------------------------------------------------ the cookie


async def console_login(app: App) -> tuple[Reply, SimpleCookie]:
    reply = await app.call(
        "POST", "/auth/login", body={"username": "ann", "password": PASSWORD}, headers=CONSOLE
    )
    return reply, SimpleCookie(reply.headers["Set-Cookie"])


async def test_the_console_is_given_a_cookie_that_scripts_and_strangers_cannot_use(
    app: App,
) -> None:
    _, cookies = await console_login(app)
    [cookie] = cookies.values()
    assert cookie.key == "trivium"
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert cookie["path"] == "/"
    assert not cookie["domain"]
    assert int(cookie["max-age"]) <= limits.TOKEN_S


async def test_over_https_the_cookie_is_bound_to_the_host(tmp_path: Path) -> None:
    env = {"TRIVIUM_PUBLIC_URL": "https://desk.example"}
    async with running_app(tmp_path, env=env) as app:
        await app.person("root", Role.ADMINISTRATOR, password=True)
        reply = await app.call(
            "POST",
            "/auth/login",
            body={"username": "root", "password": PASSWORD},
            headers=CONSOLE,
        )
        [cookie] = SimpleCookie(reply.headers["Set-Cookie"]).values()
        assert cookie.key == "__Host-trivium"
        assert cookie["secure"]
        assert reply.headers["Strict-Transport-Security"].startswith("max-age=63072000")
        sent = {"Cookie": f"__Host-trivium={cookie.value}"}
        assert (await app.call("GET", "/auth/me", headers=sent)).status == 200
        plain = {"Cookie": f"trivium={cookie.value}"}
        assert (await app.call("GET", "/auth/me", headers=plain)).status == 401


async def test_two_cookies_of_that_name_are_none(app: App) -> None:
    token = app.people["ann"].token
    one = {"Cookie": f"a=b; trivium={token}"}
    assert (await app.call("GET", "/auth/me", headers=one)).status == 200
    for cookie in (f"trivium={token}; trivium=other", f"trivium=other; trivium={token}"):
        assert (await app.call("GET", "/auth/me", headers={"Cookie": cookie})).status == 401


async def test_signing_out_takes_the_cookie_away_and_kills_it_in_other_windows(app: App) -> None:
    _, cookies = await console_login(app)
    sent = {"Cookie": f"trivium={cookies['trivium'].value}", **CONSOLE}
    out = await app.call("POST", "/auth/logout", headers=sent)
    assert out.status == 204
    [cookie] = SimpleCookie(out.headers["Set-Cookie"]).values()
    assert cookie.value == ""
    assert (await app.call("GET", "/auth/me", headers=sent)).status == 401


# ------------------------------------------------------------------ the first administrator


def setup_body(secret: str, username: str = "root") -> dict[str, str]:
    return {"secret": secret, "username": username, "password": PASSWORD}


async def test_the_first_administrator_is_made_once_and_is_signed_in(bare: App) -> None:
    secret = await bare.services.accounts.setup_secret()
    assert secret is not None
    made = await bare.call("POST", "/setup", body=setup_body(secret))
    assert (made.status, made.json["user"]["role"]) == (201, "administrator")
    assert (await bare.call("GET", "/users", bearer(made))).status == 200
    again = await bare.call("POST", "/setup", body=setup_body(secret, "other"))
    assert (again.status, again.code) == (404, "setup.closed")
    assert await bare.services.accounts.setup_secret() is None


async def test_two_at_once_make_one_administrator(bare: App) -> None:
    secret = await bare.services.accounts.setup_secret()
    assert secret is not None
    replies = await asyncio.gather(
        *(bare.call("POST", "/setup", body=setup_body(secret, f"root{n}")) for n in range(20))
    )
    assert sorted(reply.status for reply in replies) == [201] + [404] * 19


async def test_a_refused_name_or_password_does_not_use_the_link_up(bare: App) -> None:
    secret = await bare.services.accounts.setup_secret()
    assert secret is not None
    await bare.person("taken")
    for body in (
        {**setup_body(secret), "password": "short"},
        setup_body(secret, "two words"),
        setup_body(secret, "taken"),
    ):
        assert (await bare.call("POST", "/setup", body=body)).status in {400, 409}
    assert (await bare.call("POST", "/setup", body=setup_body(secret))).status == 201


async def test_a_wrong_or_late_link_makes_nobody(bare: App) -> None:
    secret = await bare.services.accounts.setup_secret()
    assert secret is not None
    assert (await bare.call("POST", "/setup", body=setup_body("x" * 43))).status == 404
    bare.clock.shift_s += limits.SETUP_S + 1
    assert (await bare.call("POST", "/setup", body=setup_body(secret))).status == 404

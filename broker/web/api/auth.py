"""Signing in and out, the own account, and the first administrator."""

from __future__ import annotations

from aiohttp import web

from broker.domain import errors
from broker.domain.roles import GRANTS
from broker.services.accounts import SignedIn
from broker.web.access import Access
from broker.web.api import render
from broker.web.api.inputs import Body, Label, Name, Password, Secret
from broker.web.api.shapes import MeShape, SignedInShape, UserShape
from broker.web.audited import SET_UP, SIGN_IN, SIGN_OUT, Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.cookies import clear_cookie, set_cookie
from broker.web.encoding import stamp
from broker.web.middleware import CSRF_HEADER
from broker.web.routes import HeaderParam, Route

_FOR_CONSOLE = HeaderParam(
    name=CSRF_HEADER, says="sent by the console: the answer sets its cookie too"
)


class Credentials(Body, frozen=True, kw_only=True):
    username: Name
    password: Password


class NewPassword(Body, frozen=True, kw_only=True):
    old: Password
    new: Password


class Setup(Body, frozen=True, kw_only=True):
    """The first administrator, by the one-time secret that the broker printed at its start."""

    secret: Secret
    username: Name
    password: Password
    display_name: Label = ""


class AuthApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def login(self, call: Call) -> web.StreamResponse:
        body: Credentials = call.body
        kind = "web" if CSRF_HEADER in call.request.headers else "api"
        signed_in = await self._web.services.accounts.sign_in(
            body.username, body.password, call.address, kind, request_id=call.id
        )
        return await self._signed_in(call, signed_in, 200)

    async def setup(self, call: Call) -> web.StreamResponse:
        body: Setup = call.body
        signed_in = await self._web.services.accounts.set_up(
            body.secret, body.username, body.password, body.display_name, call.origin
        )
        return await self._signed_in(call, signed_in, 201)

    async def _signed_in(self, call: Call, signed_in: SignedIn, status: int) -> web.Response:
        [user] = await render.users(self._web, [signed_in.user])
        answer = SignedInShape(
            token=signed_in.token, expires_at=stamp(signed_in.expires_at), user=user
        )
        response = call.answer(answer, status)
        if CSRF_HEADER in call.request.headers:
            set_cookie(response, signed_in.token, https=self._web.https)
        return response

    async def logout(self, call: Call) -> web.StreamResponse:
        await self._web.services.accounts.sign_out(call.who, call.origin)
        response = call.done()
        clear_cookie(response, https=self._web.https)
        return response

    async def me(self, call: Call) -> web.StreamResponse:
        user = await self._web.services.directory.user(call.who.user_id)
        [shape] = await render.users(self._web, [user])
        return call.answer(_me(shape, call))

    async def password(self, call: Call) -> web.StreamResponse:
        body: NewPassword = call.body
        await self._web.services.accounts.change_password(
            call.who, body.old, body.new, call.address
        )
        return call.done()

    def routes(self) -> tuple[Route, ...]:
        signing_in = (errors.BadCredentialsError, errors.TooManyAttemptsError, errors.BusyError)
        return (
            Route(
                method="POST",
                path="/api/v1/auth/login",
                audit=SIGN_IN,
                handler=self.login,
                need=Access.PUBLIC,
                summary="Sign in with a user name and a password",
                request=Credentials,
                answers={200: SignedInShape},
                errors=signing_in,
                headers=(_FOR_CONSOLE,),
            ),
            Route(
                method="POST",
                path="/api/v1/auth/logout",
                audit=SIGN_OUT,
                handler=self.logout,
                need=Access.SIGNED_IN,
                summary="End the token that came along",
                answers={204: None},
            ),
            Route(
                method="GET",
                path="/api/v1/auth/me",
                handler=self.me,
                need=Access.SIGNED_IN,
                summary="Who I am and what I may do",
                answers={200: MeShape},
            ),
            Route(
                method="POST",
                path="/api/v1/auth/password",
                audit=Audited(action="user.change_password"),
                handler=self.password,
                need=Access.SIGNED_IN,
                summary="Change my password; ends all my sign-ins",
                request=NewPassword,
                answers={204: None},
                errors=signing_in,
            ),
            Route(
                method="POST",
                path="/api/v1/setup",
                audit=SET_UP,
                handler=self.setup,
                need=Access.PUBLIC,
                summary="Make the first administrator, once",
                request=Setup,
                answers={201: SignedInShape},
                errors=(errors.SetupClosedError, errors.AlreadyExistsError, errors.BusyError),
                headers=(_FOR_CONSOLE,),
            ),
        )


def _me(user: UserShape, call: Call) -> MeShape:
    return MeShape(
        id=user.id,
        username=user.username,
        display_name=user.display_name,
        role=user.role,
        enabled=user.enabled,
        groups=user.groups,
        created_at=user.created_at,
        permissions=sorted(GRANTS[call.who.role]),
    )

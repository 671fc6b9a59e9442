"""People and their groups."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from broker.domain import errors
from broker.domain.errors import BadRequestError, ConflictError
from broker.domain.model import Role
from broker.domain.roles import Permission
from broker.limits import PASSWORDS_MAX
from broker.web.api import render
from broker.web.api.inputs import Body, Label, Name, Names, Password, given, given_fields
from broker.web.api.shapes import CountShape, GroupShape, UserShape
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.lists import Listed, listed, page_query
from broker.web.params import PAGE, TEXT, choice, text
from broker.web.routes import Route

PASSWORDS_BYTES_MAX = 256 * 1024
"""body of a call that sets many passwords"""


class NewUser(Body, frozen=True, kw_only=True):
    username: Name
    display_name: Label = ""
    role: Role = Role.USER
    groups: Names = msgspec.field(default_factory=list)
    password: Password | None = None


class UserChanges(Body, frozen=True, kw_only=True):
    """What is left out stays as it is."""

    enabled: bool | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    display_name: Label | UnsetType = UNSET
    groups: Names | UnsetType = UNSET


class OnePassword(Body, frozen=True, kw_only=True):
    password: Password


class ManyPasswords(Body, frozen=True, kw_only=True):
    """User name -> password."""

    passwords: Annotated[dict[Name, Password], Meta(min_length=1, max_length=PASSWORDS_MAX)]


class UsersApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def users(self, call: Call) -> web.StreamResponse:
        query = page_query(call, "users")
        page = await self._web.services.kit.store.directory.users(query)
        shapes = await render.users(self._web, page.items)
        return call.answer(listed("users", shapes, page.next_after))

    async def user(self, call: Call) -> web.StreamResponse:
        user = await self._web.services.directory.user(call.part("id"))
        return call.answer((await render.users(self._web, [user]))[0])

    async def add(self, call: Call) -> web.StreamResponse:
        body: NewUser = call.body
        user = await self._web.services.directory.add_user(
            username=body.username,
            display_name=body.display_name,
            role=body.role,
            groups=body.groups,
            password=body.password,
        )
        return call.answer((await render.users(self._web, [user]))[0], 201)

    async def change(self, call: Call) -> web.StreamResponse:
        body: UserChanges = call.body
        directory = self._web.services.directory
        user = await directory.user(call.part("id"))
        if user.id == call.who.user_id and {"role", "enabled"} & given_fields(body).keys():
            raise ConflictError("nobody changes the own role or disables the own account")
        changed = await directory.change_user(
            user.id,
            display_name=given(body.display_name),
            role=given(body.role),
            enabled=given(body.enabled),
            groups=given(body.groups),
        )
        return call.answer((await render.users(self._web, [changed]))[0])

    async def set_password(self, call: Call) -> web.StreamResponse:
        body: OnePassword = call.body
        directory = self._web.services.directory
        user = await directory.user(call.part("id"))
        try:
            await directory.set_passwords({user.username: body.password})
        except BadRequestError as error:
            raise BadRequestError(error.detail, fields={"field": "password"}) from error
        return call.done()

    async def set_passwords(self, call: Call) -> web.StreamResponse:
        body: ManyPasswords = call.body
        done = await self._web.services.directory.set_passwords(body.passwords)
        return call.answer(CountShape(set=done))

    async def groups(self, call: Call) -> web.StreamResponse:
        page = await self._web.services.kit.store.directory.groups(page_query(call, "groups"))
        return call.answer(
            listed("groups", [render.group(one) for one in page.items], page.next_after)
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/users",
                handler=self.users,
                need=Permission.READ,
                summary="People, by user name",
                answers={200: Listed[UserShape]},
                query=(
                    *PAGE,
                    TEXT,
                    choice("role", Role, "only in this role"),
                    text("group_id", "only of this group"),
                ),
            ),
            Route(
                method="POST",
                path="/api/v1/users",
                audit=Audited(action="user.create", about="user_id"),
                handler=self.add,
                need=Permission.MANAGE_USERS,
                summary="Add a person",
                request=NewUser,
                answers={201: UserShape},
                errors=(errors.AlreadyExistsError,),
            ),
            Route(
                method="POST",
                path="/api/v1/users/passwords",
                audit=Audited(action="user.set_passwords"),
                handler=self.set_passwords,
                need=Permission.MANAGE_USERS,
                summary="Set many people's passwords, all or none; ends their sign-ins",
                request=ManyPasswords,
                request_bytes_max=PASSWORDS_BYTES_MAX,
                answers={200: CountShape},
                errors=(errors.NotFoundError, errors.BusyError),
            ),
            Route(
                method="GET",
                path="/api/v1/users/{id}",
                handler=self.user,
                need=Permission.READ,
                summary="One person, by id or user name",
                answers={200: UserShape},
                errors=(errors.NotFoundError,),
            ),
            Route(
                method="PATCH",
                path="/api/v1/users/{id}",
                audit=Audited(action="user.change", about="user_id"),
                handler=self.change,
                need=Permission.MANAGE_USERS,
                summary="Change a person; a new role or a disabled account ends the sign-ins",
                request=UserChanges,
                answers={200: UserShape},
                errors=(errors.NotFoundError, errors.ConflictError),
            ),
            Route(
                method="POST",
                path="/api/v1/users/{id}/password",
                audit=Audited(action="user.set_password", about="user_id"),
                handler=self.set_password,
                need=Permission.MANAGE_USERS,
                summary="Set a person's password; ends the sign-ins",
                request=OnePassword,
                answers={204: None},
                errors=(errors.NotFoundError, errors.BusyError),
            ),
            Route(
                method="GET",
                path="/api/v1/groups",
                handler=self.groups,
                need=Permission.READ,
                summary="Groups, by name",
                answers={200: Listed[GroupShape]},
                query=(*PAGE, TEXT),
            ),
        )

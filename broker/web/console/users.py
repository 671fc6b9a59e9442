"""People: the list, and how each is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from broker.domain.model import Role, User
from broker.domain.roles import Permission
from broker.services.accounts import LOCAL_USERNAME
from broker.web.call import Call
from broker.web.console.lists import AFTER, Filters, filter_choice, filter_text, options
from broker.web.console.render import Pages
from broker.web.routes import Route, Surface

_FILTERS: Final = (
    filter_text("text", "part of a user name or display name"),
    filter_choice("role", Role, "only in this role"),
    filter_text("group_id", "only of this group"),
    AFTER,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """`fixed`: nobody may change it here: oneself, and the account of the commands."""

    user: User
    groups: tuple[tuple[str, str], ...]
    fixed: bool


class UserPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def users(self, call: Call) -> web.StreamResponse:
        services = call.web.services
        filters = Filters.of(call, _FILTERS)
        page = await services.kit.store.directory.users(filters.query())
        groups = {group.id: group.title for group in await services.directory.groups()}
        rows = [
            UserRow(
                user=user,
                groups=tuple((one, groups.get(one, "?")) for one in user.group_ids),
                fixed=user.id == call.who.user_id or user.username == LOCAL_USERNAME,
            )
            for user in page.items
        ]
        context = {
            **filters.context(page, rows),
            "roles": options(Role),
            "groups": tuple(groups.items()),
        }
        return self._pages.answer(
            call, "users.html", context, here="/users", parts=("list",), topics="user"
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/users",
                handler=self.users,
                need=Permission.READ,
                summary="Users",
                query=_FILTERS,
                surface=Surface.PAGE,
            ),
        )

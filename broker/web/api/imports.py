"""Importing a roster: all of it, or nothing and why."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from broker.domain import errors
from broker.domain.roles import Permission
from broker.limits import ROSTER_BYTES_MAX
from broker.web.api.inputs import Body, Name
from broker.web.api.shapes import ChangesShape, ImportedShape
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.routes import Route

FILES_MAX = 16


class NewImport(Body, frozen=True, kw_only=True):
    """`files`: name (users.csv, …) -> its text. With `check_only` nothing is changed."""

    files: Annotated[dict[Name, str], Meta(min_length=1, max_length=FILES_MAX)]
    check_only: bool = False


class ImportsApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def import_(self, call: Call) -> web.StreamResponse:
        body: NewImport = call.body
        counts = await self._web.services.directory.import_roster(
            body.files, check_only=body.check_only, profiles=self._web.profiles
        )
        return call.answer(
            ImportedShape(
                counts={
                    kind: ChangesShape(new=one.new, changed=one.changed, same=one.same)
                    for kind, one in counts.items()
                }
            )
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="POST",
                path="/api/v1/imports",
                audit=Audited(action="roster.import"),
                handler=self.import_,
                # a roster touches all of these
                need=frozenset(
                    {
                        Permission.MANAGE_USERS,
                        Permission.MANAGE_POOLS,
                        Permission.MANAGE_HOSTS,
                        Permission.MANAGE_ENDPOINTS,
                    }
                ),
                summary="Import a roster of CSV files, whole or not at all",
                request=NewImport,
                request_bytes_max=ROSTER_BYTES_MAX,
                answers={200: ImportedShape},
                errors=(errors.RosterError, errors.BusyError),
            ),
        )

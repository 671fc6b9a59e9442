"""A desktop's snapshots: looked at, taken, reverted to, dropped."""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta

from broker.domain import errors
from broker.domain.roles import Permission
from broker.domain.snapshots import Snapshot
from broker.limits import NOTE_CHARS_MAX, SNAPSHOTS_PER_DESKTOP_MAX
from broker.web.api import render
from broker.web.api.inputs import Body, Name
from broker.web.api.shapes import DesktopShape, Ref, SnapshotShape, SnapshotsShape
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import stamp
from broker.web.routes import Route

_SNAPSHOTS: Final = "/api/v1/desktops/{id}/snapshots"
_REFUSED: Final = (
    errors.NotFoundError,
    errors.SnapshotRefusedError,
    errors.IllegalTransitionError,
)


class NewSnapshot(Body, frozen=True, kw_only=True):
    """`name`: of its own among the desktop's. `note`: why it is taken."""

    name: Name
    note: Annotated[str, Meta(max_length=NOTE_CHARS_MAX)] = ""


class SnapshotsApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def list_(self, call: Call) -> web.StreamResponse:
        album = await self._web.services.snapshots.album(call.part("id"))
        shape = SnapshotsShape(
            desktop=Ref(id=album.desktop.id, name=album.desktop.name),
            items=[_shape(one) for one in album.snapshots],
            most=SNAPSHOTS_PER_DESKTOP_MAX,
            refusal=album.refusal,
        )
        return call.answer(shape)

    async def take(self, call: Call) -> web.StreamResponse:
        body: NewSnapshot = call.body
        snapshot = await self._web.services.snapshots.take(
            call.part("id"), body.name, body.note, actor=call.who.user_id, origin=call.origin
        )
        return call.answer(_shape(snapshot), 202)

    async def revert(self, call: Call) -> web.StreamResponse:
        desktop = await self._web.services.snapshots.revert(
            call.part("id"), call.part("snapshot"), actor=call.who.user_id, origin=call.origin
        )
        return call.answer((await render.desktops(self._web, [desktop]))[0], 202)

    async def drop(self, call: Call) -> web.StreamResponse:
        snapshot = await self._web.services.snapshots.drop(
            call.part("id"), call.part("snapshot"), actor=call.who.user_id, origin=call.origin
        )
        return call.answer(_shape(snapshot), 202)

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path=_SNAPSHOTS,
                handler=self.list_,
                need=Permission.READ,
                summary="A desktop's snapshots, oldest first, and why it takes none if it does not",
                answers={200: SnapshotsShape},
                errors=(errors.NotFoundError,),
            ),
            Route(
                method="POST",
                path=_SNAPSHOTS,
                audit=Audited(action="desktop.snapshot", about="desktop_id", by_service=True),
                handler=self.take,
                need=Permission.MANAGE_POOLS,
                summary="Keep a desktop as it is, disk and memory: the snapshot is on its way then",
                request=NewSnapshot,
                answers={202: SnapshotShape},
                errors=(*_REFUSED, errors.AlreadyExistsError),
            ),
            Route(
                method="POST",
                path=f"{_SNAPSHOTS}/{{snapshot}}/revert",
                audit=Audited(action="desktop.revert", about="desktop_id", by_service=True),
                handler=self.revert,
                need=Permission.MANAGE_POOLS,
                summary="Bring a desktop back to a snapshot: what was done in it since is gone",
                answers={202: DesktopShape},
                errors=(*_REFUSED, errors.DesktopInUseError),
            ),
            Route(
                method="DELETE",
                path=f"{_SNAPSHOTS}/{{snapshot}}",
                audit=Audited(action="desktop.drop_snapshot", about="desktop_id", by_service=True),
                handler=self.drop,
                need=Permission.MANAGE_POOLS,
                summary="Drop a snapshot: it is on its way out then, the desktop stays as it is",
                answers={202: SnapshotShape},
                errors=(errors.NotFoundError, errors.IllegalTransitionError),
            ),
        )


def _shape(one: Snapshot) -> SnapshotShape:
    return SnapshotShape(
        id=one.id,
        name=one.name,
        note=one.note,
        state=one.state,
        why=one.why,
        resources=render.resources(one.resources),
        size_bytes=one.size_bytes,
        created_at=stamp(one.created_at),
        changed_at=stamp(one.changed_at),
    )

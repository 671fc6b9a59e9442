"""The audit trail: looking, exporting, checking that nobody changed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from broker.domain import errors
from broker.domain.audit import AuditEntry, Break, Outcome, SealedEntry
from broker.domain.errors import BadRequestError
from broker.domain.roles import Permission
from broker.services.audit import Anchor, Checked
from broker.web.api.shapes import Ref
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import encode, stamp
from broker.web.lists import Listed, listed, page_query
from broker.web.names import GONE
from broker.web.params import PAGE, choice, integer, moment, text
from broker.web.routes import Route

NUMBER_MAX: Final = 2**53
ANCHOR_CHARS_MAX: Final = 100
EXPORT_TYPE: Final = "application/x-ndjson"
_IDS: Final = ("user_id", "session_id", "desktop_id", "pool_id", "host_id", "endpoint_id")


class EntryShape(msgspec.Struct, frozen=True, kw_only=True):
    """`actor`: null for a request of nobody known. Ids are "" where it is not about such a
    thing."""

    id: str
    at: str
    actor: Ref | None
    action: str
    outcome: Outcome
    why: str
    details: dict[str, Any]
    user_id: str
    session_id: str
    desktop_id: str
    pool_id: str
    host_id: str
    endpoint_id: str
    request_id: str
    source: str


class KnownShape(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed entry as it is stored now."""

    number: int
    seal: str
    entry: EntryShape


class BreakShape(msgspec.Struct, frozen=True, kw_only=True):
    """Where the chain does not hold, with the entries before and at that number, if any."""

    number: int
    why: str
    before: KnownShape | None
    here: KnownShape | None


class CheckShape(msgspec.Struct, frozen=True, kw_only=True, rename={"broken": "break"}):
    """`last_number`, `last_seal`: up to there the chain holds; keep them elsewhere as an anchor.
    `unsealed`: entries that wait for their seal (at most those of one run are counted)."""

    sealed: int
    last_number: int
    last_seal: str
    unsealed: int
    broken: BreakShape | None


class AuditApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def entries(self, call: Call) -> web.StreamResponse:
        page = await self._web.services.kit.store.audit.entries(page_query(call, "audit"))
        return call.answer(listed("audit", await self._shown(page.items), page.next_after))

    async def export(self, call: Call) -> web.StreamResponse:
        """Lines of {number, seal, entry}; the last is {end: {last_number, last_seal}}, without
        which an export was cut short."""
        after = call.query.get("after", 0)
        response = web.StreamResponse(headers={"Content-Type": EXPORT_TYPE})
        last: SealedEntry | None = None
        batches = self._web.services.audit.export(after)
        # read before the answer begins, so that a store that is away can still be told
        batch = await anext(batches, None)
        await call.stream(response)
        while batch:
            await response.write(b"".join(encode(_line(one)) + b"\n" for one in batch))
            last = batch[-1]
            batch = await anext(batches, None)
        end = {
            "last_number": last.number if last is not None else after,
            "last_seal": last.seal.hex() if last is not None else "",
        }
        await response.write(encode({"end": end}) + b"\n")
        await response.write_eof()
        return response

    async def check(self, call: Call) -> web.StreamResponse:
        checked = await self._web.services.audit.check(
            since=_anchor(call, "since"), anchor=_anchor(call, "anchor")
        )
        return call.answer(await self._checked(checked))

    async def _checked(self, checked: Checked) -> CheckShape:
        return CheckShape(
            sealed=checked.sealed,
            last_number=checked.last_number,
            last_seal=checked.last_seal.hex(),
            unsealed=checked.unsealed,
            broken=await self._break(checked, checked.broken),
        )

    async def _break(self, checked: Checked, broken: Break | None) -> BreakShape | None:
        if broken is None:
            return None
        return BreakShape(
            number=broken.number,
            why=broken.why,
            before=await self._known(checked.before),
            here=await self._known(checked.here),
        )

    async def _known(self, one: SealedEntry | None) -> KnownShape | None:
        if one is None:
            return None
        [shape] = await self._shown([one.entry])
        return KnownShape(number=one.number, seal=one.seal.hex(), entry=shape)

    async def _shown(self, entries: Sequence[AuditEntry]) -> list[EntryShape]:
        actors = {one.actor for one in entries}
        names = await self._web.names.learn(
            users=[one for one in actors if one.startswith("usr_")],
            endpoints=[one for one in actors if one.startswith("ept_")],
        )
        return [_entry(one, names) for one in entries]

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/audit",
                handler=self.entries,
                need=Permission.READ_AUDIT,
                summary="Entries of the audit trail, newest first",
                answers={200: Listed[EntryShape]},
                query=(
                    *PAGE,
                    text("actor", "only by this user or endpoint (id), or by the broker"),
                    text("action", "only of this kind, such as session.connect"),
                    choice("outcome", Outcome, "only with this outcome"),
                    *(text(name, f"only with this {name}") for name in _IDS),
                    text("request_id", "only of this request"),
                    moment("since", "only from this time on"),
                    moment("until", "only before this time"),
                ),
            ),
            Route(
                method="GET",
                path="/api/v1/audit/export",
                handler=self.export,
                need=Permission.READ_AUDIT,
                summary="Sealed entries as JSON lines, oldest first",
                answers={200: None},
                query=(integer("after", 0, NUMBER_MAX, "only those with a higher number"),),
                stream=True,
            ),
            Route(
                method="GET",
                path="/api/v1/audit/check",
                handler=self.check,
                need=Permission.READ_AUDIT,
                summary="Hold the chain of seals against the entries",
                answers={200: CheckShape},
                query=(
                    text(
                        "anchor",
                        "number:seal that was kept elsewhere and must still be so",
                        chars_max=ANCHOR_CHARS_MAX,
                    ),
                    text(
                        "since",
                        "begin behind this number:seal instead of at the first entry",
                        chars_max=ANCHOR_CHARS_MAX,
                    ),
                ),
                errors=(errors.BusyError,),
            ),
        )


def _anchor(call: Call, name: str) -> Anchor | None:
    given = call.query.get(name)
    if given is None:
        return None
    try:
        return Anchor.parse(given)
    except BadRequestError as error:
        raise BadRequestError(error.detail, fields={"field": name}) from error


def _line(one: SealedEntry) -> Mapping[str, object]:
    """The entry as it is sealed, so that the chain can be checked without the broker."""
    return {"number": one.number, "seal": one.seal.hex(), "entry": one.entry}


def _entry(one: AuditEntry, names: Mapping[str, str]) -> EntryShape:
    actor = Ref(id=one.actor, name=names.get(one.actor, one.actor or GONE)) if one.actor else None
    return EntryShape(
        id=one.id,
        at=stamp(one.at),
        actor=actor,
        action=one.action,
        outcome=one.outcome,
        why=one.why,
        details=dict(one.details),
        user_id=one.user_id,
        session_id=one.session_id,
        desktop_id=one.desktop_id,
        pool_id=one.pool_id,
        host_id=one.host_id,
        endpoint_id=one.endpoint_id,
        request_id=one.request_id,
        source=one.source,
    )

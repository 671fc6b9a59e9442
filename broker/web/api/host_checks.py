"""What hosts can do, and looking at one before it is added."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Final

import msgspec
from aiohttp import hdrs, web

from broker.domain import errors
from broker.domain.inspection import Abilities, Ability, Condition, Step, Verdict
from broker.domain.model import Host
from broker.domain.roles import Permission
from broker.web.api.inputs import Body, Name, Profile
from broker.web.api.shapes import Ref
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import encode
from broker.web.routes import Route

LINES: Final = "application/x-ndjson"
"""a step a line, as soon as it is done, for whoever accepts that"""


class AbilityShape(msgspec.Struct, frozen=True, kw_only=True):
    """`says`: why the host can, or cannot."""

    name: str
    says: str


class FactShape(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    is_: str = msgspec.field(name="is")


class CapabilitiesShape(msgspec.Struct, frozen=True, kw_only=True):
    """A host as it was found at this moment."""

    host: Ref
    engine: str
    facts: list[FactShape]
    can: list[AbilityShape]
    cannot: list[AbilityShape]


class PressureShape(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of the time, 0 to 1, over 10, 60 and 300 seconds, in which tasks waited for the
    resource: some of them, or all (`full`)."""

    resource: str
    some: tuple[float, float, float]
    full: tuple[float, float, float]


class PageSharingShape(msgspec.Struct, frozen=True, kw_only=True):
    """`on`: null where it cannot be told. `kept` and `saved` are bytes."""

    on: bool | None
    kept: int
    saved: int


class StorageClassShape(msgspec.Struct, frozen=True, kw_only=True):
    """`place`: the host's own name for it; `kind`: as the host says it. Bytes; null is not known.
    `shared`: hosts that have the same have the same disks. `refuses`: why no disk is made there;
    empty: one is."""

    name: str
    place: str
    kind: str
    cost: float
    capacity: int | None
    available: int | None
    shared: bool
    refuses: str


class ConditionShape(msgspec.Struct, frozen=True, kw_only=True):
    """A host at this moment; null is not known, and `unknown` says why. Disk in bytes."""

    host: Ref
    pressure: list[PressureShape] | None
    page_sharing: PageSharingShape | None
    memory_mib: int | None
    memory_free_mib: int | None
    disk_total: int | None
    disk_free: int | None
    storage: list[StorageClassShape]
    unknown: dict[str, str]


class HostCheck(Body, frozen=True, kw_only=True):
    """A host that is to be added, as far as looking at it goes."""

    name: Name
    engine: Name
    profile: Profile


class StepShape(msgspec.Struct, frozen=True, kw_only=True):
    """`advice`: what to do about it. `found`: what a person may confirm or take over, as a host
    key's fingerprint."""

    name: str
    verdict: str
    says: str
    advice: str
    found: dict[str, str]


class HostCheckShape(msgspec.Struct, frozen=True, kw_only=True):
    """`fits`: nothing is missing, and nothing that must be confirmed is left."""

    fits: bool
    steps: list[StepShape]


class HostChecksApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def capabilities(self, call: Call) -> web.StreamResponse:
        host, found = await self._web.services.host_checks.abilities(call.part("id"))
        return call.answer(_capabilities(host, found))

    async def condition(self, call: Call) -> web.StreamResponse:
        host, found = await self._web.services.host_checks.condition(call.part("id"))
        return call.answer(_condition(host, found))

    async def check(self, call: Call) -> web.StreamResponse:
        body: HostCheck = call.body
        steps = self._web.services.host_checks.check(body.name, body.engine, body.profile)
        if LINES in call.request.headers.get(hdrs.ACCEPT, ""):
            return await _stream(call, steps)
        shapes = [_step(one) async for one in steps]
        return call.answer(HostCheckShape(fits=fits(shapes), steps=shapes))

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/hosts/{id}/capabilities",
                handler=self.capabilities,
                need=Permission.READ,
                summary="What a host can and cannot do, each with its reason",
                answers={200: CapabilitiesShape},
                errors=(
                    errors.NotFoundError,
                    errors.EngineError,
                    errors.BadProfileError,
                    errors.UnsupportedError,
                ),
            ),
            Route(
                method="GET",
                path="/api/v1/hosts/{id}/condition",
                handler=self.condition,
                need=Permission.READ,
                summary="How a host is at this moment: pressure, page sharing, what is free",
                answers={200: ConditionShape},
                errors=(
                    errors.NotFoundError,
                    errors.EngineError,
                    errors.BadProfileError,
                    errors.UnsupportedError,
                ),
            ),
            Route(
                method="POST",
                path="/api/v1/hosts/check",
                audit=Audited(action="host.check"),
                handler=self.check,
                need=Permission.MANAGE_HOSTS,
                summary="Look, step by step, whether a host would do; nothing is added",
                request=HostCheck,
                answers={200: HostCheckShape},
                errors=(errors.NotFoundError, errors.UnsupportedError, errors.BusyError),
            ),
        )


def fits(steps: list[StepShape]) -> bool:
    """A key that nobody has confirmed is as good as missing."""
    return bool(steps) and not any(
        one.verdict == Verdict.MISSING or (one.verdict == Verdict.UNKNOWN and one.found)
        for one in steps
    )


async def _stream(call: Call, steps: AsyncGenerator[Step, None]) -> web.StreamResponse:
    """A step a line; the last line says whether it fits."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: LINES})
    told: list[StepShape] = []
    async with contextlib.aclosing(steps):
        await call.stream(response)
        async for one in steps:
            told.append(_step(one))
            await response.write(encode(told[-1]) + b"\n")
        await response.write(encode({"fits": fits(told)}) + b"\n")
    await response.write_eof()
    return response


def _capabilities(host: Host, found: Abilities) -> CapabilitiesShape:
    return CapabilitiesShape(
        host=Ref(id=host.id, name=host.name),
        engine=host.engine,
        facts=[FactShape(name=name, is_=text) for name, text in found.facts],
        can=[_ability(one) for one in found.can],
        cannot=[_ability(one) for one in found.cannot],
    )


def _condition(host: Host, found: Condition) -> ConditionShape:
    pressure, sharing = found.pressure, found.page_sharing
    return ConditionShape(
        host=Ref(id=host.id, name=host.name),
        pressure=None
        if pressure is None
        else [
            PressureShape(resource=name, some=one.some, full=one.full)
            for name, one in pressure.items()
        ],
        page_sharing=None
        if sharing is None
        else PageSharingShape(on=sharing.on, kept=sharing.kept, saved=sharing.saved),
        memory_mib=found.memory_mib,
        memory_free_mib=found.memory_free_mib,
        disk_total=found.disk_total,
        disk_free=found.disk_free,
        storage=[
            StorageClassShape(
                name=one.name,
                place=one.place,
                kind=one.kind,
                cost=one.cost,
                capacity=one.capacity,
                available=one.available,
                shared=bool(one.shared),
                refuses=one.refusal() or "",
            )
            for one in found.storage
        ],
        unknown=dict(found.unknown),
    )


def _ability(one: Ability) -> AbilityShape:
    return AbilityShape(name=one.name, says=one.says)


def _step(one: Step) -> StepShape:
    return StepShape(
        name=one.name,
        verdict=one.verdict.value,
        says=one.says,
        advice=one.advice,
        found=dict(one.found),
    )

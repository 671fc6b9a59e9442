"""What a person can do now: for the person, and for whoever helps."""

from __future__ import annotations

import msgspec
from aiohttp import web

from broker.domain import errors
from broker.domain.errors import BadRequestError, NotFoundError
from broker.domain.model import Architecture, Endpoint, SessionState
from broker.domain.policy.networks import parse_address
from broker.domain.policy.rules import Effect, QuotaScope
from broker.domain.roles import Permission
from broker.services.preview import PoolPreview, Preview, QuotaUse
from broker.web.api.shapes import Ref, UserRef
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import stamp
from broker.web.params import moment, text
from broker.web.routes import Route

ADDRESS_CHARS_MAX = 64
_ENDPOINT = text("endpoint", "as if asked at this endpoint, by name or id")
_AT = moment("at", "rules and schedules as of this time; now if not given")


class ReasonShape(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that was looked at."""

    rule: Ref
    effect: Effect
    applies: bool
    text: str


class QuotaUseShape(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    scope: QuotaScope
    used: int
    sessions_max: int


class LiveShape(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    state: SessionState


class PoolPreviewShape(msgspec.Struct, frozen=True, kw_only=True):
    """`code` is the error that a connect would answer, "" if it would not. `place`: in the queue
    if asked now; null where a desktop would be given at once, or nothing. `wait_s`: about how many
    seconds that would take; null where nobody can say."""

    pool: Ref
    title: str
    architecture: Architecture
    may: bool
    why: str
    code: str
    ready: int
    place: int | None
    wait_s: int | None
    session: LiveShape | None
    quotas: list[QuotaUseShape]
    reasons: list[ReasonShape]


class PreviewShape(msgspec.Struct, frozen=True, kw_only=True):
    """`address` null: rules about networks were left out."""

    user: UserRef
    enabled: bool
    at: str
    endpoint: Ref | None
    address: str | None
    pools: list[PoolPreviewShape]


class PreviewApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def of_user(self, call: Call) -> web.StreamResponse:
        services = self._web.services
        address = call.query.get("address")
        if address is not None and parse_address(address) is None:
            raise BadRequestError(f"{address!r} is no address", fields={"field": "address"})
        user = await services.directory.user(call.part("id"))
        preview = await services.previews.preview(
            user,
            endpoint=await self._endpoint(call),
            address=address,
            at=call.query.get("at"),
        )
        return call.answer(_shown(preview, own=False))

    async def mine(self, call: Call) -> web.StreamResponse:
        services = self._web.services
        user = await services.directory.user(call.who.user_id)
        preview = await services.previews.preview(
            user,
            endpoint=await self._endpoint(call),
            address=call.address,
            at=call.query.get("at"),
            own=True,
            browser=call.who.token_id,
        )
        return call.answer(_shown(preview, own=True))

    async def _endpoint(self, call: Call) -> Endpoint | None:
        ref = call.query.get("endpoint")
        if ref is None:
            return None
        endpoints = self._web.services.kit.store.endpoints
        found = await endpoints.endpoint_by_name(ref) or await endpoints.endpoint(ref)
        if found is None:
            raise NotFoundError(f"there is no endpoint {ref!r}")
        return found

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/users/{id}/preview",
                handler=self.of_user,
                need=Permission.READ,
                summary="What this person can do now, pool by pool, and why",
                answers={200: PreviewShape},
                errors=(errors.NotFoundError,),
                query=(
                    _ENDPOINT,
                    text(
                        "address",
                        "as if asked from this IP address; without it rules about networks are "
                        "left out",
                        chars_max=ADDRESS_CHARS_MAX,
                    ),
                    _AT,
                ),
            ),
            Route(
                method="GET",
                path="/api/v1/me/preview",
                handler=self.mine,
                need=Permission.OWN_SESSIONS,
                summary="What I can do now, in the pools that are for me",
                answers={200: PreviewShape},
                errors=(errors.NotFoundError,),
                query=(_ENDPOINT, _AT),
            ),
        )


def _shown(preview: Preview, *, own: bool) -> PreviewShape:
    """`own`: for the person, who is not shown rules that are about others."""
    user, endpoint = preview.user, preview.endpoint
    return PreviewShape(
        user=UserRef(id=user.id, username=user.username),
        enabled=user.enabled,
        at=stamp(preview.at),
        endpoint=Ref(id=endpoint.id, name=endpoint.name) if endpoint is not None else None,
        address=preview.address,
        pools=[_pool(one, own=own) for one in preview.pools],
    )


def _pool(one: PoolPreview, *, own: bool) -> PoolPreviewShape:
    session = one.session
    return PoolPreviewShape(
        pool=Ref(id=one.pool.id, name=one.pool.name),
        title=one.pool.title,
        architecture=one.pool.architecture,
        may=one.may,
        why=one.why,
        code=one.refusal.code if one.refusal is not None else "",
        ready=one.ready,
        place=one.place,
        wait_s=one.wait_s,
        session=LiveShape(id=session.id, state=session.state) if session is not None else None,
        quotas=[_quota(use) for use in one.quotas],
        reasons=[
            ReasonShape(
                rule=Ref(id=reason.rule_id, name=reason.name),
                effect=reason.effect,
                applies=reason.applies,
                text=reason.text,
            )
            for reason in one.decision.reasons
            if not own
        ],
    )


def _quota(use: QuotaUse) -> QuotaUseShape:
    return QuotaUseShape(
        name=use.quota.name,
        scope=use.quota.scope,
        used=use.used,
        sessions_max=use.quota.sessions_max,
    )

"""Who sees a session, or asks to: as its person's page says it, and the staff's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from broker.domain.lifecycle import SESSION
from broker.domain.model import Session
from broker.domain.roles import Permission, allows
from broker.domain.shadowing import ENDS, Shadow, ShadowMode
from broker.web.call import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """A shadow, with the name of whoever asked. `mine`: that is the caller. `why`: in words, once
    it is over."""

    shadow: Shadow
    name: str
    mine: bool
    why: str


async def named(call: Call, shadows: Collection[Shadow]) -> tuple[Watcher, ...]:
    directory = call.web.services.kit.store.directory
    people = await directory.names_of("people", {one.staff_id for one in shadows})
    return tuple(
        Watcher(
            shadow=one,
            name=people.get(one.staff_id) or one.staff_name,
            mine=one.staff_id == call.who.user_id,
            why=ENDS[one.why] if one.why is not None else "",
        )
        for one in shadows
    )


async def watchers(call: Call, session: Session) -> tuple[Watcher, ...]:
    """Who asks to see the session, or sees it, oldest first."""
    if session.state in SESSION.terminal:
        return ()
    found = await call.web.services.shadows.of_session(call.who, session.id)
    return await named(call, [one for one in found if one.live])


async def shadowing(call: Call, session: Session) -> dict[str, object]:
    """What the staff's page of a session says: who sees it, and what may be asked."""
    services, who = call.web.services, call.who
    may = allows(who.role, Permission.SHADOW_SESSIONS) and session.user_id != who.user_id
    pool = await services.pools.find(session.pool_id)
    refused = await services.shadows.refusal(session, ShadowMode.VIEW)
    return {
        "shadows": await watchers(call, session),
        "may_ask": may and session.state not in SESSION.terminal,
        "shadowing": pool.settings.shadowing.value,
        "unasked": refused.detail if refused is not None else "",
    }

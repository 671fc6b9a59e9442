"""Sessions as shapes: with everybody's place in the queue, and what the pool's settings add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.domain.lifecycle import SESSION_HOLDS_DESKTOP
from broker.domain.measures import DisplayMeasure
from broker.domain.model import Instant, Notice, Pool, Role, Session, Wish
from broker.domain.session_time import ends_at
from broker.services.guest_news import GuestNews
from broker.services.queues import Expected
from broker.web.api.render import guest
from broker.web.api.shapes import (
    DisplayShape,
    NoticeShape,
    PhaseShape,
    Ref,
    SessionShape,
    TrafficShape,
    UserRef,
    WishShape,
)
from broker.web.context import Web
from broker.web.encoding import stamp, stamp_or_none
from broker.web.names import GONE


async def sessions(web_: Web, some: Sequence[Session], role: Role) -> list[SessionShape]:
    """As somebody of this role is told them."""
    services = web_.services
    names = await web_.names.learn(
        users=[one.user_id for one in some],
        desktops=[one.desktop_id for one in some],
        endpoints=[
            endpoint_id
            for one in some
            for endpoint_id in (one.endpoint_id, one.wish.endpoint_id if one.wish else None)
        ],
    )
    pools = {pool.id: pool for pool in await services.pools.all()}
    now = services.kit.clock.now()
    return [
        session(
            one,
            names,
            pools.get(one.pool_id),
            await services.queues.expected(one),
            now,
            services.measures.of(one.id),
            services.guests.news(one.desktop_id, one.generation),
        )
        for one in await services.discretion.sessions(list(some), role)
    ]


def session(
    one: Session,
    names: Mapping[str, str],
    pool: Pool | None,
    expected: Expected | None,
    now: Instant,
    measure: DisplayMeasure | None = None,
    news: GuestNews | None = None,
) -> SessionShape:
    """`names`: user, desktop and endpoint ids. `expected`: of a session that waits. `measure`:
    of its open display. `news`: of the agent in its desktop."""
    traffic = one.traffic
    return SessionShape(
        id=one.id,
        user=UserRef(id=one.user_id, username=names.get(one.user_id, GONE)),
        pool=Ref(id=one.pool_id, name=pool.name if pool is not None else GONE),
        architecture=one.architecture,
        state=one.state,
        why=one.why,
        place=expected.place if expected is not None else None,
        expected_wait_s=expected.wait_s if expected is not None else None,
        desktop=_ref(one.desktop_id, names),
        endpoint=_ref(one.endpoint_id, names),
        generation=one.generation,
        revision=one.revision,
        requested_at=stamp(one.requested_at),
        assigned_at=stamp_or_none(one.assigned_at),
        live_at=stamp_or_none(one.live_at),
        ended_at=stamp_or_none(one.ended_at),
        lease_until=stamp_or_none(one.lease_until),
        deadline_at=stamp_or_none(one.deadline_at),
        active_at=stamp_or_none(one.active_at),
        ends_at=stamp_or_none(ends_at(one, pool.settings) if pool is not None else one.ends_at),
        wish=_wish(one.wish, names, now),
        notice=_notice(one.notice),
        phases=[
            PhaseShape(
                name=phase.name,
                took_ms=phase.took_ms,
                bytes_down=phase.bytes_down,
                bytes_up=phase.bytes_up,
            )
            for phase in one.phases
        ],
        traffic=TrafficShape(control=traffic.control, display=traffic.display, image=traffic.image),
        display=_display(measure),
        guest=guest(news if one.state in SESSION_HOLDS_DESKTOP else None),
    )


def _display(measure: DisplayMeasure | None) -> DisplayShape | None:
    if measure is None:
        return None
    return DisplayShape(
        at=stamp(measure.at),
        seconds=measure.seconds,
        bytes_down=measure.bytes_down,
        bytes_up=measure.bytes_up,
        round_trip_ms=measure.round_trip_ms,
    )


def _ref(thing_id: str | None, names: Mapping[str, str]) -> Ref | None:
    return None if thing_id is None else Ref(id=thing_id, name=names.get(thing_id, GONE))


def _wish(wish: Wish | None, names: Mapping[str, str], now: Instant) -> WishShape | None:
    """One that was not answered in time was a no."""
    if wish is None or wish.until <= now:
        return None
    return WishShape(id=wish.id, endpoint=_ref(wish.endpoint_id, names), until=stamp(wish.until))


def _notice(notice: Notice | None) -> NoticeShape | None:
    if notice is None:
        return None
    return NoticeShape(id=notice.id, text=notice.text, sender=notice.sender, at=stamp(notice.at))

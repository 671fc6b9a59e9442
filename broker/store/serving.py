"""Who of a queue gets which ready desktop, and whose turn that was: pure decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.architectures import rules_of
from broker.domain.audit import AuditEntry
from broker.domain.lifecycle import SESSION, SessionEvent
from broker.domain.model import Desktop, Instant, Pool, PoolKind, Session
from broker.domain.policy.opening import closed_because
from broker.domain.queueing import after
from broker.domain.settings import ServiceState, SiteSettings
from broker.store import reasons
from broker.store.claiming import claimed_desktop
from broker.store.ready import Ready


def queue_bound_to(session: Session, pool: Pool) -> str | None:
    """The endpoint whose desktop a waiting session needs, if it needs a certain one."""
    return session.endpoint_id if rules_of(pool.architecture).runs_on_endpoint else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A session that waited, its desktop, and why it got that one. `turn`: others could have had
    the desktop, so it counts as a turn of the person's group."""

    session: Session
    desktop: Desktop
    entry: AuditEntry
    turn: bool


def round_after(before: frozenset[str], served: Sequence[Served]) -> frozenset[str]:
    """The pool's round once these were served, in this order."""
    for one in served:
        if one.turn:
            before = after(before, one.session.group_id)
    return before


def owners_only(pool: Pool, site: SiteSettings, now: Instant) -> bool | None:
    """Whether only those who own a desktop are served: where nobody new gets one. None: nobody is,
    for there are no owners, or the machines are worked on."""
    if closed_because(pool, site, now) is None:
        return False
    maintained = ServiceState.MAINTENANCE in {pool.settings.state, site.state}
    return None if maintained or pool.kind is not PoolKind.DEDICATED else True


def serve(
    pool: Pool,
    queued: Sequence[Session],
    ready: Ready,
    deadline_at: Instant,
    now: Instant,
    *,
    owned: bool,
) -> list[Served]:
    """Give ready desktops to the queued sessions, in their order; see SessionStore.serve_queue.
    `owned`: only to those whose own they are."""
    served: list[Served] = []
    for session in queued:
        bound = queue_bound_to(session, pool)
        found = ready.take(pool, session.user_id, bound, owned=owned)
        if found is None:
            continue
        reason = reasons.given(found, pool, session.user_id, bound)
        desktop = claimed_desktop(found, pool, session.user_id, now)
        moved = replace(
            session,
            state=SESSION.advance(session.state, SessionEvent.CLAIMED),
            desktop_id=desktop.id,
            endpoint_id=desktop.endpoint_id or session.endpoint_id,
            deadline_at=deadline_at,
            generation=desktop.generation,
            revision=session.revision + 1,
            why=reason.told,
            assigned_at=now,
        )
        entry = reasons.moved_entry(
            moved,
            SessionEvent.CLAIMED,
            now,
            why=reason.why,
            came_from=session.state,
            actor="broker",
        )
        turn = found.owner_id is None and found.endpoint_id is None
        served.append(Served(session=moved, desktop=desktop, entry=entry, turn=turn))
    return served

"""Why a claim was decided so: in words for the help desk, and for the person.

The audit entry has the short form ("given LAB-12: the first ready desktop of Library by name"),
the session the long one ("you were given LAB-12 because it was the first …").
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import TriviumError
from broker.domain.model import Desktop, Instant, Pool, Session
from broker.domain.policy.rules import Quota
from broker.ports import ClaimOutcome, ClaimRequest

MOVED = "your session moved to where you are now"
ASKED = "the person at the first place is asked whether the session may move"


@dataclass(frozen=True, slots=True)
class Reason:
    """`told` is what the session keeps; "" where it does not change."""

    why: str
    told: str = ""


def _named(pool: Pool) -> str:
    return pool.title or pool.name


def given(desktop: Desktop, pool: Pool, user_id: str, endpoint_id: str | None) -> Reason:
    """A ready desktop was found; `desktop` as it was before, `endpoint_id` if it had to be its."""
    name = desktop.name
    if desktop.owner_id == user_id:
        return Reason(f"given {name}: it is yours", f"you were given {name} because it is yours")
    if endpoint_id is not None:
        return Reason(
            f"given {name}: it is the desktop of this endpoint",
            f"you were given {name} because it is the desktop of this endpoint",
        )
    first = f"the first ready desktop of {_named(pool)} by name"
    return Reason(f"given {name}: {first}", f"you were given {name} because it was {first}")


def waits(pool: Pool, *, bound: bool, others: bool) -> Reason:
    """Nothing could be given. `bound`: to the endpoint's desktop; `others` wait before."""
    if bound:
        cause = f"the desktop of this endpoint in {_named(pool)} is not ready"
    elif others:
        cause = f"others wait for {_named(pool)} already"
    else:
        cause = f"no desktop of {_named(pool)} is ready"
    return Reason(f"waits: {cause}", f"you wait because {cause}")


def back(desktop: Desktop | None) -> Reason:
    name = desktop.name if desktop is not None else "the desktop"
    return Reason(
        f"back at {name}: it was kept for this session",
        f"you are back at {name}, which was kept for you",
    )


def live_already(session: Session, desktop: Desktop | None) -> Reason:
    if desktop is None:
        return Reason(f"answered with the session of before, which is {session.state}")
    return Reason(f"answered with {desktop.name}: the session is {session.state} already")


def moves(desktop: Desktop | None) -> Reason:
    name = desktop.name if desktop is not None else "the desktop"
    return Reason(f"moved with {name} to the place that asked", MOVED)


NEEDS_CONSENT = Reason("asked: the person at the first place must agree first", ASKED)
STAYS = Reason("refused: the session is in use at another place and does not move")
REPEATED = Reason("refused: a repeated request does not move a session that went elsewhere since")
MISMATCH = Reason("refused: the idempotency key was used for another request")


def queue_full(request: ClaimRequest) -> Reason:
    return Reason(f"refused: {request.queue_limit} wait for {_named(request.pool)} already")


def over(quota: Quota) -> Reason:
    return Reason(f"refused: quota {quota.name!r} allows {quota.sessions_max}")


def closed(refusal: TriviumError) -> Reason:
    return Reason(f"refused: {refusal.detail}")


def entry(request: ClaimRequest, outcome: ClaimOutcome, why: str, now: Instant) -> AuditEntry:
    """The audit entry of one request; see ClaimOutcome."""
    session, desktop = outcome.session, outcome.desktop
    details: dict[str, object] = {}
    if session is not None:
        details = {"state": session.state.value, "new": outcome.new}
        if outcome.place is not None:
            details["place"] = outcome.place
            why = f"{why}, place {outcome.place}"
    refused = session is None or outcome.elsewhere
    return AuditEntry(
        id=f"{request.session_id if session is None else session.id}:claim:{request.ticket_id}",
        at=now,
        actor=request.actor or request.user_id,
        action="session.connect",
        outcome=Outcome.REFUSED if refused else Outcome.DONE,
        why=why,
        details=details,
        user_id=request.user_id,
        session_id="" if session is None else session.id,
        desktop_id="" if desktop is None else desktop.id,
        pool_id=request.pool.id,
        host_id="" if desktop is None else desktop.host_id or "",
        endpoint_id=request.endpoint_id or "",
        request_id=request.request_id,
        source=request.source,
    )


def moved_entry(
    session: Session,
    event: str,
    now: Instant,
    *,
    why: str,
    came_from: str,
    actor: str,
    request_id: str = "",
    source: str = "",
) -> AuditEntry:
    """The audit entry of a session's move; see SessionStore.advance."""
    return AuditEntry(
        id=f"{session.id}:{session.revision}",
        at=now,
        actor=actor,
        action=f"session.{event}",
        outcome=Outcome.DONE,
        why=why,
        details={"from": came_from, "to": session.state.value},
        user_id=session.user_id,
        session_id=session.id,
        desktop_id=session.desktop_id or "",
        pool_id=session.pool_id,
        endpoint_id=session.endpoint_id or "",
        request_id=request_id,
        source=source,
    )

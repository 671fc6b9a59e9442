"""What must never happen, checked from what the clients saw and from the broker's own records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from loadtests.collect import BrokerSession
from loadtests.records import SessionRecord

EXAMPLES_MAX = 20


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A session holds something in [from_ms, until_ms), in ms since the Unix epoch."""

    session_id: str
    from_ms: float
    until_ms: float


class Invariants(msgspec.Struct, frozen=True, kw_only=True):
    """Counts; all but `unclaimed_sessions` must be 0.

    double_assignments: distinct pairs of sessions that held one desktop at the same time, or of
    one person live twice in one pool. lost_sessions: acknowledged to the client, but unknown to
    the broker or not ended after the settle time. unclaimed_sessions: known to the broker,
    asked for by a person of the campaign, but the answer never reached the client.
    broker_records: whether the broker's records could be read and were part of the check.
    """

    double_assignments: int
    lost_sessions: int
    unclaimed_sessions: int
    broker_records: bool
    examples: tuple[str, ...] = ()


def check_invariants(
    records: Sequence[SessionRecord], sessions: Sequence[BrokerSession] | None
) -> Invariants:
    """`sessions`: the broker's records of the campaign, None if they could not be read."""
    known = {session.id: session for session in sessions or ()}
    doubles = _doubles_seen(records) | _doubles_recorded(records, known)
    lost = [] if sessions is None else list(_lost(records, known))
    claimed = {record.session_id for record in records if record.session_id is not None}
    return Invariants(
        double_assignments=len(doubles),
        lost_sessions=len(lost),
        unclaimed_sessions=len(known.keys() - claimed),
        broker_records=sessions is not None,
        examples=tuple(
            [f"sessions {one} and {other} overlap" for one, other in sorted(doubles)] + lost
        )[:EXAMPLES_MAX],
    )


def overlaps(intervals: Iterable[Interval]) -> set[tuple[str, str]]:
    """Pairs of different sessions whose half-open intervals overlap."""
    found: set[tuple[str, str]] = set()
    open_now: list[Interval] = []
    for interval in sorted(intervals, key=lambda each: (each.from_ms, each.until_ms)):
        open_now = [each for each in open_now if each.until_ms > interval.from_ms]
        if interval.until_ms > interval.from_ms:
            found |= {
                (
                    min(each.session_id, interval.session_id),
                    max(each.session_id, interval.session_id),
                )
                for each in open_now
                if each.session_id != interval.session_id
            }
            open_now.append(interval)
    return found


def _doubles_seen(records: Sequence[SessionRecord]) -> set[tuple[str, str]]:
    """By the clients' own clock, while each surely held its desktop or its place in a pool."""
    held: dict[tuple[str, ...], list[Interval]] = {}
    for record in records:
        if record.session_id is None or record.held_from_at_ms is None:
            continue
        interval = Interval(
            session_id=record.session_id,
            from_ms=record.held_from_at_ms,
            until_ms=record.held_until_at_ms or record.held_from_at_ms,
        )
        if record.desktop_id is not None:
            held.setdefault(("desktop", record.desktop_id), []).append(interval)
        held.setdefault(("person", record.username, record.pool), []).append(interval)
    return set().union(*(overlaps(intervals) for intervals in held.values()))


def _doubles_recorded(
    records: Sequence[SessionRecord], known: dict[str, BrokerSession]
) -> set[tuple[str, str]]:
    """By the broker's records. A person's place in a pool is free once he began to log off, so
    there the client's word ends the interval."""
    left = {record.session_id: record.left_at_ms for record in records}
    held: dict[tuple[str, ...], list[Interval]] = {}
    for session in known.values():
        if session.assigned_at is None:
            continue
        ended = _ms(session.ended_at) if session.ended_at is not None else float("inf")
        from_ms = _ms(session.assigned_at)
        if session.desktop is not None:
            interval = Interval(session_id=session.id, from_ms=from_ms, until_ms=ended)
            held.setdefault(("desktop", session.desktop.id), []).append(interval)
        until = min(ended, left.get(session.id) or ended)
        interval = Interval(session_id=session.id, from_ms=from_ms, until_ms=until)
        held.setdefault(("person", session.user.id, session.pool.id), []).append(interval)
    return set().union(*(overlaps(intervals) for intervals in held.values()))


def _lost(records: Sequence[SessionRecord], known: dict[str, BrokerSession]) -> Iterable[str]:
    for record in records:
        if record.session_id is None:
            continue
        session = known.get(record.session_id)
        if session is None:
            yield f"session {record.session_id} is not known to the broker"
        elif record.log_off_acknowledged and not session.over:
            yield f"session {record.session_id} is still {session.state} after log-off"


def _ms(at: datetime) -> float:
    return at.timestamp() * 1000

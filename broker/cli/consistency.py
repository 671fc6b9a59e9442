"""What must never be true of desktops and sessions, whoever wrote them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from broker.domain.lifecycle import SESSION_HOLDS_DESKTOP, SESSION_HOLDS_PLACE
from broker.domain.model import Desktop, DesktopState, Session


def contradictions(desktops: Iterable[Desktop], sessions: Iterable[Session]) -> tuple[str, ...]:
    """Sentences, one for each; empty when all is well."""
    by_id = {desktop.id: desktop for desktop in desktops}
    every = tuple(sessions)
    holding = [one for one in every if one.state in SESSION_HOLDS_DESKTOP]
    holders = Counter(one.desktop_id for one in holding if one.desktop_id is not None)
    places = Counter(
        (one.user_id, one.pool_id) for one in every if one.state in SESSION_HOLDS_PLACE
    )
    return (
        *(
            f"session {one.id} is {one.state} and has no desktop"
            for one in holding
            if one.desktop_id is None
        ),
        *(
            f"user {user_id} has {count} live sessions in pool {pool_id}"
            for (user_id, pool_id), count in places.items()
            if count > 1
        ),
        *(_of_desktops(by_id, holders)),
    )


def _of_desktops(by_id: dict[str, Desktop], holders: Counter[str]) -> Iterable[str]:
    for desktop_id, count in holders.items():
        desktop = by_id.get(desktop_id)
        name = desktop_id if desktop is None else desktop.name
        if count > 1:
            yield f"desktop {name} has {count} sessions at once"
        if desktop is None or desktop.state is not DesktopState.ASSIGNED:
            yield f"desktop {name} has a session and is {desktop.state if desktop else 'gone'}"
    for desktop in by_id.values():
        if desktop.state is DesktopState.ASSIGNED and not holders[desktop.id]:
            yield f"desktop {desktop.name} is assigned and has no session"

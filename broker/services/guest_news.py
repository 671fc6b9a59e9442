"""What desktops' agents say, from every process: told by hints, kept for as long as it says much.

As with the measures of displays, the hint brings it itself: it is worth nothing a moment later,
so it is in no table. A process that hears none says nothing of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

from broker.domain.model import Instant
from broker.domain.session_time import Told
from broker.limits import GUEST_NEWS_MAX, GUEST_NEWS_PER_HINT, GUEST_NEWS_S
from broker.ports import Hint
from broker.services.kit import Kit

TOPIC: Final = "guest"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNews:
    """`policy`: "laid", "failed" (`policy_why` says of what), or empty where nothing is owed or it
    is under way."""

    desktop_id: str
    generation: int
    at: Instant
    user: str = ""
    idle_s: float | None = None
    addresses: tuple[str, ...] = ()
    policy: str = ""
    policy_why: str = ""
    idle_whole: bool = False


class GuestNewsBook:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._latest: OrderedDict[str, GuestNews] = OrderedDict()

    def of(self, desktop_id: str | None, generation: int) -> GuestNews | None:
        """What the agent of that generation said last, unless that is older than GUEST_NEWS_S."""
        found = self._latest.get(desktop_id or "")
        if found is None or found.generation != generation:
            return None
        return None if found.at < self._kit.clock.now() - GUEST_NEWS_S * 1000 else found

    def told(self, desktop_id: str, generation: int) -> Told | None:
        """As `of`, what it said of its person's idle time; None where it did not say."""
        news = self.of(desktop_id, generation)
        if news is None or news.idle_s is None:
            return None
        return Told(at=news.at, idle_ms=int(news.idle_s * 1000), whole=news.idle_whole)

    def note(self, news: Sequence[GuestNews]) -> None:
        """Agents that this process hears spoke; the other processes are told."""
        for one in news:
            self._keep(one)
        for first in range(0, len(news), GUEST_NEWS_PER_HINT):
            part = news[first : first + GUEST_NEWS_PER_HINT]
            self._kit.events.publish(TOPIC, news=[astuple(one) for one in part])

    def hear(self, hint: Hint) -> None:
        """What another process told; nothing of what was not understood."""
        for one in _told(hint):
            self._keep(one)

    def _keep(self, news: GuestNews) -> None:
        before = self._latest.get(news.desktop_id)
        if before is not None and before.at > news.at:
            return
        self._latest[news.desktop_id] = news
        self._latest.move_to_end(news.desktop_id)
        if len(self._latest) > GUEST_NEWS_MAX:
            self._latest.popitem(last=False)


def _told(hint: Hint) -> list[GuestNews]:
    rows: Any = hint.data.get("news", ())
    try:
        return [
            GuestNews(
                desktop_id=str(desktop_id),
                generation=int(generation),
                at=int(at),
                user=str(user),
                idle_s=None if idle_s is None else float(idle_s),
                addresses=tuple(map(str, addresses)),
                policy=str(policy),
                policy_why=str(why),
                # a process of an older version does not tell
                idle_whole=rest[:1] == [True],
            )
            for desktop_id, generation, at, user, idle_s, addresses, policy, why, *rest in rows
        ]
    except (TypeError, ValueError):
        return []

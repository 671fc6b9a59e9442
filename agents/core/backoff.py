"""How long to wait before the broker is asked again: for ever, but never in step with others."""

from __future__ import annotations

from agents import limits
from agents.chance import Chance


class Backoff:
    """Full jitter over a width that is as long as the trouble has lasted, between two bounds.

    So tries thin out exponentially (each pause is on average half of all the time before it),
    and a broker that comes back has everybody again within about the time that it was away:
    doubling by count would let a few quick failures at the start push an endpoint far out.
    Two things keep a fleet from gathering in one window (both happened to others): the first
    pause is drawn too, and a link must hold for a while before the trouble counts as over.
    """

    __slots__ = ("_chance", "_since")

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._since: float | None = None

    def held(self, seconds: float) -> None:
        """A link was up for so long before it was lost."""
        if seconds >= limits.BACKOFF_RESET_S:
            self._since = None

    def pause_s(self, now: float) -> float:
        """The pause before the next try, in seconds."""
        if self._since is None:
            self._since = now
        lasted = now - self._since
        width = min(max(lasted, limits.BACKOFF_FIRST_S), limits.BACKOFF_CAP_S)
        return self._chance.uniform(0.0, width)

    def asked_s(self, retry_after_s: float) -> float:
        """The pause when the broker named one: at least that, and up to twice it."""
        asked = min(max(retry_after_s, limits.RETRY_AFTER_S_MIN), limits.RETRY_AFTER_S_MAX)
        return asked + self._chance.uniform(0.0, asked)

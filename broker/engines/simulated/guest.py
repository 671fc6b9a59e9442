"""What is inside a simulated machine as far as its agent tells and changes it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from broker.ports import GuestAsk, GuestVerb

PERSON: Final = "person"
"""who is logged on in a simulated desktop once its display was open"""
_ANSWERS_MAX: Final = 32
_MESSAGES_MAX: Final = 4


@dataclass(slots=True, eq=False)
class SimulatedGuest:
    """`shown_at`: when its display was opened last, in simulated seconds. What a boot does not
    outlive is forgotten by it; answers are, too."""

    user: str = ""
    locked: bool = False
    shown_at: float = 0.0
    boots: int = 0
    policy: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    done: OrderedDict[str, GuestVerb] = field(default_factory=OrderedDict)

    def boot(self) -> None:
        self.user, self.locked = "", False
        self.policy.clear()
        self.messages.clear()
        self.done.clear()
        self.boots += 1

    def shown(self, now: float) -> None:
        """A person has its display, and logs on or unlocks it."""
        self.user, self.locked, self.shown_at = PERSON, False, now

    def do(self, ask: GuestAsk) -> None:
        """Once for each id."""
        if ask.id in self.done:
            return
        self.done[ask.id] = ask.what
        if len(self.done) > _ANSWERS_MAX:
            self.done.popitem(last=False)
        match ask.what:
            case GuestVerb.LOG_OFF:
                self.user, self.locked = "", False
            case GuestVerb.LOCK:
                self.locked = True
            case GuestVerb.MESSAGE:
                self.messages = [*self.messages, ask.text][-_MESSAGES_MAX:]
            case GuestVerb.POLICY:
                self.policy = dict(ask.settings)

"""The agents of the prompt engine's machines: they do at once what they are guest_asks."""

from __future__ import annotations

from broker.domain.errors import GuestRefusedError, GuestSilentError
from broker.domain.model import Desktop, Host
from broker.ports import GuestAsk, GuestState


class PromptGuests:
    """`speaks`: hosts have agents. `deaf`: desktop ids whose agents another process hears;
    `refusing` and `mute`: verbs that fail, and verbs that are done without an answer.
    `guest_asks`: what was done, once for each id."""

    speaks = False

    def __init__(self) -> None:
        self.deaf: set[str] = set()
        self.refusing: set[str] = set()
        self.mute: set[str] = set()
        self.guest_asks: dict[str, GuestAsk] = {}
        self.boots: dict[str, int] = {}
        self.users: dict[str, str] = {}
        """desktop id -> who is logged on"""

    known: dict[str, int]
    """desktop id -> generation"""

    def has_guests(self, host: Host) -> bool:
        del host
        return self.speaks

    def heard(self) -> tuple[str, ...]:
        return tuple(one for one in self.known if self.speaks and one not in self.deaf)

    def guest(self, desktop_id: str) -> GuestState | None:
        if desktop_id not in self.heard():
            return None
        return GuestState(
            desktop_id=desktop_id,
            generation=self.known[desktop_id],
            user=self.users.get(desktop_id, ""),
            idle_s=7.0,
            addresses=("10.0.0.5",),
            heard_at_ms=2**60,
            boot=str(self.boots.get(desktop_id, 0)),
        )

    async def ask_guest(self, desktop: Desktop, ask: GuestAsk, *, deadline_s: float) -> None:
        del deadline_s
        state = self.guest(desktop.id)
        if state is None or state.generation != desktop.generation:
            raise GuestSilentError("the agent is not heard here")
        if ask.what.value in self.refusing:
            raise GuestRefusedError("the agent could not")
        self.guest_asks.setdefault(ask.id, ask)
        if ask.what.value in self.mute:
            raise GuestSilentError("the agent gave no answer")
        if ask.what.value == "log_off":
            self.users.pop(desktop.id, None)

    def verbs(self) -> list[str]:
        return [one.what.value for one in self.guest_asks.values()]

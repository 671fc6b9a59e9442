"""Speaking with the agents inside desktops. An engine may do it beside making desktops; whoever
asks finds out first."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from broker.domain.model import Desktop, Host, Instant


class GuestVerb(StrEnum):
    """What an agent can be asked, as broker.guest_wire.Ask names it."""

    LOG_OFF = "log_off"
    LOCK = "lock"
    MESSAGE = "message"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestAsk:
    """One thing to do. `id`: an agent that is asked twice under one id does it once. `text` and
    `sender` are a message's, `settings` a policy's."""

    id: str
    what: GuestVerb
    text: str = ""
    sender: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestState:
    """What a desktop's agent said last for its present generation. The guest is not trusted: this
    is text to be shown, cut to GUEST_TEXT_MAX. `user`: who is logged on, empty for nobody.
    `idle_s`: since the last input, None if unknown; `idle_whole`: whatever way it came, not only
    through the machine's own devices. `boot`: another text after each start of the agent, empty
    where nobody can tell."""

    desktop_id: str
    generation: int
    user: str = ""
    idle_s: float | None = None
    addresses: tuple[str, ...] = ()
    heard_at_ms: Instant = 0
    boot: str = ""
    idle_whole: bool = False


@runtime_checkable
class GuestAgents(Protocol):
    def has_guests(self, host: Host) -> bool:
        """Whether machines on that host have an agent at all, as far as its profile tells. It
        raises nothing."""

    def heard(self) -> Collection[str]:
        """The desktops whose agents this process hears now: those of which `guest` tells. It
        raises nothing."""

    def guest(self, desktop_id: str) -> GuestState | None:
        """What its agent said last for the present generation, as this process heard it; None
        for one that this process does not hear. It raises nothing."""

    async def ask_guest(self, desktop: Desktop, ask: GuestAsk, *, deadline_s: float) -> None:
        """Returns when the agent of the desktop's present generation answered that it is done,
        within `deadline_s` seconds. It is asked again, under the same id, whenever it was reached
        anew meanwhile.

        Raises:
            GuestSilentError: it is not heard by this process, or gave no answer in time.
            GuestRefusedError: it answered that it could not.
            UnsupportedError: machines on that host have no agent.
            BusyError: GUEST_ASKS_MAX wait for that desktop's agent.
        """

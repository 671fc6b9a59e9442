"""The engine's side of broker.ports.GuestAgents: agents that link up over the network."""

from __future__ import annotations

from collections.abc import Callable

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.model import Desktop, Host
from broker.engines.linked_guests import LinkedGuests
from broker.engines.openstack.knobs import Agent
from broker.engines.openstack.verbs import HostLink
from broker.ports import GuestAsk, GuestState


class GuestSpeaking:
    """What an engine over OpenStack says to and hears of its servers' agents."""

    _guests: LinkedGuests
    _know: Callable[[Host], HostLink]
    _hosts: dict[str, HostLink]

    def has_guests(self, host: Host) -> bool:
        """See broker.ports.GuestAgents."""
        try:
            return self._know(host).place.agent is not Agent.NONE
        except EngineError:
            return False

    def heard(self) -> tuple[str, ...]:
        """See broker.ports.GuestAgents."""
        return self._guests.heard()

    def guest(self, desktop_id: str) -> GuestState | None:
        """See broker.ports.GuestAgents."""
        return self._guests.guest(desktop_id)

    async def ask_guest(self, desktop: Desktop, ask: GuestAsk, *, deadline_s: float) -> None:
        """See broker.ports.GuestAgents: over its link, where this process has it."""
        home = self._hosts.get(desktop.host_id or "")
        if home is not None and home.place.agent is Agent.NONE:
            raise UnsupportedError(f"the machine of {desktop.name} has no agent")
        await self._guests.ask(desktop, ask, deadline_s)

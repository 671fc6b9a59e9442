"""The engine's side of broker.ports.GuestAgents."""

from __future__ import annotations

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.model import Desktop, Host
from broker.engines.libvirt.guests import Guests
from broker.engines.libvirt.hosts import Hosts
from broker.engines.libvirt.kinds import Agent
from broker.ports import GuestAsk, GuestState


class GuestSpeaking:
    """What an engine over libvirt says to and hears of its machines' agents."""

    _guests: Guests
    _hosts: Hosts

    @property
    def guests(self) -> Guests:
        """What the machines' agents say, beyond being ready."""
        return self._guests

    def has_guests(self, host: Host) -> bool:
        """See broker.ports.GuestAgents."""
        try:
            return self._hosts.know(host).place.agent is not Agent.NONE
        except EngineError:
            return False

    def heard(self) -> tuple[str, ...]:
        """See broker.ports.GuestAgents."""
        return self._guests.heard()

    def guest(self, desktop_id: str) -> GuestState | None:
        """See broker.ports.GuestAgents."""
        return self._guests.guest(desktop_id)

    async def ask_guest(self, desktop: Desktop, ask: GuestAsk, *, deadline_s: float) -> None:
        """See broker.ports.GuestAgents: over the virtio-serial port, where this process has it."""
        guest = self._guests.get(desktop.id)
        if guest is not None and guest.host.place.agent is Agent.NONE:
            raise UnsupportedError(f"the machine of {desktop.name} has no agent")
        await self._guests.ask(desktop, ask, deadline_s)

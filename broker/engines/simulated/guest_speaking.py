"""The engine's side of broker.ports.GuestAgents: agents of hosts whose knob `guest` is on."""

from __future__ import annotations

from broker.domain.errors import (
    EngineError,
    GuestRefusedError,
    GuestSilentError,
    UnsupportedError,
)
from broker.domain.model import Desktop, Host
from broker.engines.simulated.plant import Plant, SimulatedMachine
from broker.ports import GuestAsk, GuestState

_TAKES_S = 0.05
"""simulated seconds"""


class GuestSpeaking:
    """Every process that shares the engine hears every agent."""

    plant: Plant

    def has_guests(self, host: Host) -> bool:
        """See broker.ports.GuestAgents."""
        try:
            return self.plant.host(host).knobs.guest > 0
        except EngineError:
            return False

    def heard(self) -> tuple[str, ...]:
        """See broker.ports.GuestAgents."""
        self.plant.settle()
        return tuple(one for one, machine in self.plant.machines.items() if self._speaks(machine))

    def _speaks(self, machine: SimulatedMachine) -> bool:
        place = self.plant.place_of(machine)
        up = machine.running and place.is_up(machine.desktop.id) and machine.outcome == "ready"
        return up and place.knobs.guest > 0

    def guest(self, desktop_id: str) -> GuestState | None:
        """See broker.ports.GuestAgents."""
        self.plant.settle()
        machine = self.plant.machines.get(desktop_id)
        if machine is None or not self._speaks(machine):
            return None
        inside, now = machine.guest, self.plant.now()
        return GuestState(
            desktop_id=desktop_id,
            generation=machine.generation,
            user=inside.user,
            idle_s=now - inside.shown_at,
            heard_at_ms=self.plant.clock.now(),
            boot=str(inside.boots),
        )

    async def ask_guest(self, desktop: Desktop, ask: GuestAsk, *, deadline_s: float) -> None:
        """See broker.ports.GuestAgents."""
        machine = self.plant.machines.get(desktop.id)
        if machine is None or machine.generation != desktop.generation:
            raise GuestSilentError(f"the guest agent of {desktop.name} is not heard here")
        knobs = self.plant.place_of(machine).knobs
        if not knobs.guest:
            raise UnsupportedError(f"the machine of {desktop.name} has no agent")
        await self.plant.wait(min(_TAKES_S, deadline_s * self.plant.speed))
        self.plant.settle()
        if not self._speaks(machine) or machine.generation != desktop.generation:
            raise GuestSilentError(f"the guest agent of {desktop.name} is not heard here")
        if self.plant.happens(knobs.guest_refuse):
            raise GuestRefusedError(f"the guest agent of {desktop.name} could not: it was told so")
        machine.guest.do(ask)
        if self.plant.happens(knobs.guest_silent):
            await self.plant.clock.sleep(deadline_s)
            raise GuestSilentError(
                f"the guest agent of {desktop.name} gave no answer within {deadline_s:g} s"
            )

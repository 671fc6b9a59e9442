"""One simulated host: who boots there, and when each boot ends, given all the others.

Boots share the host: each has work left (seconds alone), and all of it shrinks at one rate,
1 / slowdown. Every start, end and removal changes the rate, so time is settled up to that
moment first. Times are simulated seconds and come in as arguments.
"""

from __future__ import annotations

from broker.domain.model import Host
from broker.engines.simulated.knobs import Knobs
from broker.engines.simulated.profile import HostUse, Profile, slowdown

_SAME_S = 1e-9
"""boots whose work left differs by less end together"""
_CPUS_MIN = 0.1
"""CPUs of the smallest host"""


class SimulatedHost:
    """Machines by desktop id, the memory they hold, and the boots under way."""

    def __init__(self, host: Host, profile: Profile, knobs: Knobs, now: float) -> None:
        self.host = host
        self.profile = profile
        self.knobs = knobs
        self.down = False
        self._memory: dict[str, float] = {}
        self._held_mib = 0.0
        self._left: dict[str, float] = {}
        self._up: set[str] = set()
        self._at = now

    def update(self, host: Host, profile: Profile, knobs: Knobs) -> None:
        """The host's record changed: go on with the new figures."""
        self.host, self.profile, self.knobs = host, profile, knobs

    def use(self) -> HostUse:
        return HostUse(
            cpus=max(self.host.capacity.cpus, _CPUS_MIN),
            memory_total_mib=max(self.host.capacity.memory_mib, 1),
            memory_mib=self._held_mib,
            booting=len(self._left),
            running=len(self._up),
        )

    def add(self, desktop_id: str, memory_mib: int) -> None:
        """A machine of that size exists here, not running."""
        held = memory_mib * self.profile.memory_factor + self.profile.memory_overhead_mib
        self._memory[desktop_id] = held
        self._held_mib = sum(self._memory.values())

    def boot(self, desktop_id: str, work_s: float) -> None:
        """Power on; settle first. `work_s`: the boot's length alone on this host."""
        self._up.discard(desktop_id)
        self._left[desktop_id] = work_s

    def run(self, desktop_id: str) -> None:
        """It is up already (adopted)."""
        self._up.add(desktop_id)

    def stop(self, desktop_id: str) -> None:
        """Power off; settle first."""
        self._left.pop(desktop_id, None)
        self._up.discard(desktop_id)

    def remove(self, desktop_id: str) -> None:
        self.stop(desktop_id)
        self._memory.pop(desktop_id, None)
        self._held_mib = sum(self._memory.values())

    def next_at(self) -> float | None:
        """When the next boot ends if nothing changes before."""
        if not self._left:
            return None
        return self._at + max(0.0, min(self._left.values())) * slowdown(self.profile, self.use())

    def settle(self, now: float) -> list[str]:
        """Let time pass up to `now`; answers the desktops whose boots ended, in that order."""
        ended: list[str] = []
        while (at := self.next_at()) is not None and at <= now:
            # whoever has least left is done by definition: rounding must not keep him waiting
            least = min(self._left.values()) + _SAME_S
            done = sorted(one for one, left in self._left.items() if left <= least)
            self._pass(at)
            for desktop_id in done:
                del self._left[desktop_id]
                self._up.add(desktop_id)
            ended += done
        self._pass(max(now, self._at))
        return ended

    def _pass(self, until: float) -> None:
        if self._left:
            worked = (until - self._at) / slowdown(self.profile, self.use())
            self._left = {one: left - worked for one, left in self._left.items()}
        self._at = until

"""One simulated host: who boots there, and when each boot ends, given all the others.

Boots share the host: each has work left (seconds alone), and all of it shrinks at one rate,
1 / slowdown. Every start, end and removal changes the rate, so time is settled up to that
moment first. Times are simulated seconds and come in as arguments.
"""

from __future__ import annotations

import math

from broker.domain.features import Feature
from broker.domain.model import Host, HostState, Instant
from broker.engines.simulated.knobs import Knobs
from broker.engines.simulated.profile import HostUse, Profile, slowdown

_SAME_S = 1e-9
"""boots whose work left differs by less end together"""
_CPUS_MIN = 0.1
"""CPUs of the smallest host"""
_OFF_STATES = frozenset({HostState.OFF, HostState.POWERING_ON})
_ON_STATES = frozenset({HostState.UP, HostState.DRAINING, HostState.MAINTENANCE})


class SimulatedHost:
    """Machines by desktop id, the memory they hold, the boots under way, and the host's power."""

    def __init__(self, host: Host, profile: Profile, knobs: Knobs, now: float) -> None:
        self.host = host
        self.profile = profile
        self.knobs = knobs
        self.down = False
        self.off = host.state in _OFF_STATES
        self.on_at: float | None = None
        """when the host, which was switched on, will answer"""
        self.gone_at = now
        """when the host, which was switched off, is off"""
        self.off_since: Instant = 0
        """the clock when it was switched off, ms"""
        self.transfers = 0
        """memories on their way to or from this host's storage, or over its network"""
        self._memory: dict[str, float] = {}
        self._held_mib = 0.0
        self._promised: dict[str, int] = {}
        self._left: dict[str, float] = {}
        self._up: set[str] = set()
        self._coming: set[str] = set()
        self._at = now

    def update(self, host: Host, profile: Profile, knobs: Knobs) -> None:
        """The host's record changed: go on with the new figures. One that says that the host is
        on, later than it was switched off, is believed: somebody pressed the button."""
        self.host, self.profile, self.knobs = host, profile, knobs
        if self.off and host.state in _ON_STATES and host.changed_at > self.off_since:
            self.off, self.on_at = False, None

    def switch_off(self, gone_at: float, clock_ms: Instant) -> None:
        """It goes off: from now on it takes nothing; it is off at `gone_at`."""
        self.off, self.on_at = True, None
        self.gone_at, self.off_since = gone_at, clock_ms

    @property
    def features(self) -> frozenset[Feature]:
        return self.profile.features - self.knobs.turned_off

    def use(self) -> HostUse:
        return HostUse(
            cpus=max(self.host.capacity.cpus, _CPUS_MIN),
            memory_total_mib=max(self.host.capacity.memory_mib, 1),
            memory_mib=self._held_mib,
            booting=len(self._left),
            running=len(self._up),
        )

    def refusal(self) -> str | None:
        """Why it takes no work now; settle first."""
        if self.down:
            return f"{self.host.name} does not answer"
        return f"{self.host.name} is off" if self.off else None

    def lacks_mib(self, more_mib: int) -> int:
        """MiB that are missing for machines of `more_mib` beside those that are here; 0: none.

        Counted as promised to them, held against the host's memory and its overcommit."""
        limit = self.host.capacity.memory_mib * self.host.settings.overcommit_memory
        return max(0, math.ceil(sum(self._promised.values()) + more_mib - limit))

    def occupied(self) -> bool:
        """Whether a machine runs here, boots, or is on its way."""
        return bool(self._left or self._up or self._coming)

    def add(self, desktop_id: str, memory_mib: int) -> None:
        """A machine of that size exists here, not running; or has another size now."""
        held = memory_mib * self.profile.memory_factor + self.profile.memory_overhead_mib
        self._memory[desktop_id], self._promised[desktop_id] = held, memory_mib
        self._held_mib = sum(self._memory.values())

    def boot(self, desktop_id: str, work_s: float) -> None:
        """Power on; settle first. `work_s`: the boot's length alone on this host."""
        self._up.discard(desktop_id)
        self._left[desktop_id] = work_s

    def expect(self, desktop_id: str, memory_mib: int) -> None:
        """It comes from another host: its memory is taken already."""
        self.add(desktop_id, memory_mib)
        self._coming.add(desktop_id)

    def run(self, desktop_id: str) -> None:
        """It is up already (adopted, or came from another host)."""
        self._coming.discard(desktop_id)
        self._up.add(desktop_id)

    def is_up(self, desktop_id: str) -> bool:
        """Whether it runs and is past its boot."""
        return desktop_id in self._up

    def stop(self, desktop_id: str) -> None:
        """Power off; settle first."""
        self._left.pop(desktop_id, None)
        self._up.discard(desktop_id)

    def suspend(self, desktop_id: str) -> float:
        """Its memory is the host's again; settle first. Answers what is left of its boot, in
        seconds alone on this host."""
        left = self._left.get(desktop_id, 0.0)
        self.remove(desktop_id)
        return left

    def remove(self, desktop_id: str) -> None:
        self.stop(desktop_id)
        self._coming.discard(desktop_id)
        self._memory.pop(desktop_id, None)
        self._promised.pop(desktop_id, None)
        self._held_mib = sum(self._memory.values())

    def next_at(self) -> float | None:
        """When the next boot ends if nothing changes before."""
        if not self._left:
            return None
        return self._at + max(0.0, min(self._left.values())) * slowdown(self.profile, self.use())

    def settle(self, now: float) -> list[str]:
        """Let time pass up to `now`; answers the desktops whose boots ended, in that order."""
        if self.on_at is not None and self.on_at <= now:
            self.off, self.on_at = False, None
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

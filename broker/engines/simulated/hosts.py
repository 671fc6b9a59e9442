"""One simulated host: who boots there, and when each boot ends, given all the others.

Boots share the host: each has work left (seconds alone), which shrinks at 1 / slowdown, or, where
weights or guarantees differ, at its part of what all of them get (shares.py). Every start, end
and removal changes the rates, so time is settled up to that moment first. Times are simulated
seconds and come in as arguments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from broker.domain.features import Feature
from broker.domain.model import Host, HostState, Instant
from broker.engines.simulated.knobs import Knobs
from broker.engines.simulated.profile import HostUse, Profile, contention, pressure
from broker.engines.simulated.shares import USUAL, Claim, Resource, parts

_SAME_S = 1e-9
"""boots whose ends differ by less end together"""
_CPUS_MIN = 0.1
"""CPUs of the smallest host"""
_OFF_STATES = frozenset({HostState.OFF, HostState.POWERING_ON})
_ON_STATES = frozenset({HostState.UP, HostState.DRAINING, HostState.MAINTENANCE})


class SimulatedHost:
    """Machines by desktop id, the memory they hold, the boots under way, and the host's power."""

    def __init__(
        self,
        host: Host,
        profile: Profile,
        knobs: Knobs,
        now: float,
        claims: Mapping[str, Claim] | None = None,
    ) -> None:
        self.host = host
        self.profile = profile
        self.knobs = knobs
        self.down = False
        self.down_at: Instant = 0
        """the clock when it failed, ms"""
        self.off = host.state in _OFF_STATES
        self.on_at: float | None = None
        """when the host, which was switched on, will answer"""
        self.gone_at = now
        """when the host, which was switched off, is off"""
        self.off_since: Instant = 0
        """the clock when it was switched off, ms"""
        self.transfers: set[str] = set()
        """desktops whose memory is on its way to this host's storage, or over its network"""
        self._claims = claims if claims is not None else {}
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
        """MiB that are missing for machines of `more_mib` beside those that are on; 0: none.

        Counted as promised to them, held against the host's memory and its overcommit."""
        limit = self.host.capacity.memory_mib * self.host.settings.overcommit_memory
        on = self._left.keys() | self._up | self._coming
        promised = sum(self._promised.get(one, 0) for one in on)
        return max(0, math.ceil(promised + more_mib - limit))

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
        lasts = self._lasts()
        return self._at + min(lasts.values()) if lasts else None

    def sharing(self, desktop_id: str, resource: Resource) -> float:
        """How many times longer its transfer takes among those under way than alone."""
        claims = {
            one: self._claims.get(one, USUAL) for one in sorted({*self.transfers, desktop_id})
        }
        return 1 / parts(1.0, claims, resource)[desktop_id]

    def _rates(self) -> dict[str, float]:
        """Seconds of work that each boot gets done in one second."""
        use = self.use()
        factor, scarce = contention(self.profile, use)
        claims = {one: self._claims.get(one, USUAL) for one in self._left}
        given = parts(len(claims) / factor, claims, scarce)
        return {one: part / pressure(use) for one, part in given.items()}

    def _lasts(self) -> dict[str, float]:
        """Seconds that each boot still takes at the present rate."""
        rates = self._rates()
        return {one: max(0.0, left) / rates[one] for one, left in self._left.items()}

    def settle(self, now: float) -> list[str]:
        """Let time pass up to `now`; answers the desktops whose boots ended, in that order."""
        if self.on_at is not None and self.on_at <= now:
            self.off, self.on_at = False, None
        ended: list[str] = []
        while (at := self.next_at()) is not None and at <= now:
            # whoever is next is done by definition: rounding must not keep him waiting
            lasts = self._lasts()
            least = min(lasts.values()) + _SAME_S
            done = sorted(one for one, last in lasts.items() if last <= least)
            self._pass(at)
            for desktop_id in done:
                del self._left[desktop_id]
                self._up.add(desktop_id)
            ended += done
        self._pass(max(now, self._at))
        return ended

    def _pass(self, until: float) -> None:
        if self._left:
            rates, passed = self._rates(), until - self._at
            self._left = {one: left - passed * rates[one] for one, left in self._left.items()}
        self._at = until

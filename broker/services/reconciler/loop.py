"""The loop: looks, plans in the domain, acts through ports, for ever.

It reads the database each time, so hints only make it look sooner, and a restart resumes: every
transient state has its deadline in its row, and every engine call is a job row. Every process
looks; one of them, which holds the planner's lease, plans.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from broker import limits
from broker.domain.errors import TriviumError
from broker.domain.planning.plan import plan
from broker.domain.planning.view import Memory
from broker.ports import Engine
from broker.services.drifts import Drifts
from broker.services.engine_work import EngineWork
from broker.services.image_removal import ImageRemoval
from broker.services.kit import Kit
from broker.services.reconciler.acting import Acting, Look
from broker.services.reconciler.chores import Chores
from broker.services.reconciler.looking import Looking, more_is_late
from broker.services.shared_work import SharedWork, Work
from broker.services.strays import Strays

_log = logging.getLogger("trivium.reconciler")

LOOK_SHARE: Final = 0.2
"""of the time, that gathering and planning may take; what it begins is not counted"""


class Reconciler:
    def __init__(
        self,
        kit: Kit,
        *,
        shared: SharedWork,
        works: EngineWork,
        looking: Looking,
        acting: Acting,
        chores: Chores,
        strays: Strays,
        drifts: Drifts,
        removal: ImageRemoval,
    ) -> None:
        self._kit = kit
        self._shared = shared
        self._works = works
        self._looking = looking
        self._acting = acting
        self._chores = chores
        self._strays = strays
        self._drifts = drifts
        self._removal = removal
        self._wake = asyncio.Event()
        self._memory = Memory()
        self._fence: int | None = None
        self._looks_failed = 0
        self._thought_s = 0.0
        self.turn = asyncio.Lock()
        """who has it gives out hosts' room: one at a time in this process"""
        works.on_ready = self.wake
        self.looked_at_s: float | None = None
        """monotonic time of the last look that ended well; /readyz reads it"""

    # ------------------------------------------------------------------ the loops

    async def run(self, engines: Sequence[Engine]) -> None:
        """Look, hear hints, work on jobs and take engines' reports until cancelled."""
        await self._adopt()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(), name="reconciler hints")
            tasks.create_task(self._look_for_ever(), name="reconciler")
            tasks.create_task(self._strays.run(engines), name="strays")
            tasks.create_task(self._drifts.run(engines), name="drift")
            tasks.create_task(self._removal.run(engines), name="removed images")
            tasks.create_task(self._works.run(), name="jobs")
            for engine in engines:
                tasks.create_task(self._works.take_reports(engine), name=f"reports {engine.name}")

    async def _adopt(self) -> None:
        """Until it is done: a store that is away for a moment must not end the broker."""
        while True:
            try:
                await self._works.adopt()
            except TriviumError as error:
                _log.warning("the engines could not be told what there is: %s", error.detail)
                await self._kit.clock.sleep(limits.RECONCILE_S)
            else:
                return

    async def _hear(self) -> None:
        subscription = self._kit.events.subscribe("work")
        try:
            async for _ in subscription:
                self._wake.set()
                self._works.wake()
        finally:
            subscription.close()

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self.look()
                self.looked_at_s = self._kit.clock.monotonic()
            except TriviumError as error:
                # the store is away: the next look tries again, nothing is lost
                self._looks_failed += 1
                _log.warning("the reconciler could not look: %s", error.detail)
            except Exception as error:  # noqa: BLE001 - logged, counted, told; the rest goes on
                self._looks_failed += 1
                _log.exception("a look failed by a fault of the broker")
                self._acting.on_bug(error)
            await self._pause()

    async def _pause(self) -> None:
        """Until something hints, RECONCILE_S at the longest; and long enough that looking takes
        at most LOOK_SHARE of the time, for what it costs grows with the installation."""
        rest_s = self._thought_s * (1 / LOOK_SHARE - 1)
        await asyncio.sleep(min(rest_s, limits.RECONCILE_S))
        try:
            async with asyncio.timeout(limits.RECONCILE_S):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def look(self) -> None:
        """One look: gather, plan, act. A command that fails does not stop the others.

        Raises TriviumError when the store did not answer while it looked.
        """
        async with self.turn:
            await self._look()
        await self._chores.run_due()

    async def _look(self) -> None:
        began_s, stuck = self._kit.clock.monotonic(), self._acting.stuck
        await self._shared.renew()
        lease = await self._shared.hold(Work.PLANNER)
        if lease is None:
            self._memory, self._fence = Memory(), None
            view = await self._looking.due(stuck)
        else:
            if lease.fence != self._fence:
                self._memory, self._fence = Memory(), lease.fence
            view = await self._looking.everything(self._memory, stuck)
        planned = plan(view)
        self._thought_s = self._kit.clock.monotonic() - began_s
        if lease is not None:
            self._memory = planned.memory
        await self._acting.carry_out(planned.commands, Look(view=view, lease=lease))
        if more_is_late(view, stuck):
            self._wake.set()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    # ------------------------------------------------------------------ for those who watch

    @property
    def results(self) -> Mapping[tuple[str, str], int]:
        """(command, what became of it) -> how often, since the start of this process."""
        return self._acting.results

    @property
    def failures(self) -> Mapping[str, int]:
        """What failed beside commands -> how often: looks, chores, comparisons."""
        works = (self._chores, self._strays, self._drifts, self._removal)
        parts = [one.failures for one in works]
        return {"look": self._looks_failed} | {
            name: n for part in parts for name, n in part.items()
        }

    @property
    def strays_resolved(self) -> Mapping[str, int]:
        """What was put right about strays -> how often, since the start of this process."""
        return self._strays.resolved

    def tell_bugs(self, to: Callable[[BaseException], None]) -> None:
        """Have every fault of the broker that the reconciler survives told to `to`, too."""
        self._acting.on_bug = self._chores.on_bug = self._strays.on_bug = to
        self._drifts.on_bug = self._removal.on_bug = to
        self._works.on_bug = to

"""Many endpoints in one process, or one: builds them, keeps their identities, tells how it goes.

They share one HTTP session, one row of timers and one gate for handshakes. Keys are written down
before the first enrolment and identities soon after each, so a run that is cut off takes up
where it stopped, without new tokens.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from agents import limits
from agents.cache import DiskCache, ImageCache, SimulatedCache
from agents.chance import Chance, fraction_of, key_of
from agents.core import commands, events
from agents.core.endpoint import Endpoint
from agents.core.identity import Identity
from agents.model import Model
from agents.registry import ARCHITECTURES
from agents.roster import Place
from agents.runner import Runner
from agents.shared import Shared
from agents.state import StateError, StateFile
from agents.system import System
from agents.tally import Snapshot, Tally
from agents.tokens import TokenPool
from agents.transport import Transport
from agents.wheel import Wheel

_log = logging.getLogger("trivium.agent")
_KEY_BYTES = 32
_FILES_BESIDE = 64
"""open files that are not endpoints' sockets"""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class FleetError(Exception):
    """The fleet cannot run as it is asked for; the text says why."""


class _Over(Exception):  # noqa: N818 - not an error: how a group of tasks is ended
    """Ends the group that owns all tasks of all endpoints."""


async def _end_group() -> None:
    raise _Over


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a fleet is asked for.

    `ramp_s`: the first connections are spread over this many seconds. `warm` and `stale`: shares
    of fat endpoints whose simulated cache has each image from the beginning, and of those, the
    shares that have it one version behind. `cache`: a folder for real bytes instead. `every_s`:
    between two progress lines; 0 for none.
    """

    url: str
    places: Sequence[Place]
    state: Path
    tokens: Sequence[str] = ()
    model: Model = field(default_factory=Model)
    seed: int = 0
    ramp_s: float = 0.0
    warm: float = 0.0
    stale: float = 0.0
    cache: Path | None = None
    every_s: float = 0.0
    ca: ssl.SSLContext | None = None


class Fleet:
    """One run. `tell` gets progress, at the pace asked for and once at the end."""

    def __init__(
        self,
        settings: Settings,
        system: System,
        *,
        tell: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._system = system
        self._tell = tell
        self._identities: dict[str, Identity] = {}
        self._unsaved = asyncio.Event()
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self._disk: DiskCache | None = None
        self._began = system.monotonic()
        self.tally = Tally()
        self.runners: tuple[Runner, ...] = ()
        self.finals: list[tuple[str, commands.Finish]] = []
        """agents that a refusal ended, by name"""

    def stop(self) -> None:
        """Say goodbye and end. May be called again."""
        self._stopping.set()

    def snapshot(self) -> Snapshot:
        return self.tally.snapshot(self._system.monotonic() - self._began)

    async def run(self) -> None:
        """Until stopped, or until no agent is left.

        Raises:
            StateError: the state file cannot be used.
            FleetError: the address, or the size of the fleet for this machine, is impossible.
        """
        settings = self._settings
        self._check_size(len(settings.places))
        try:
            transport = Transport(settings.url, ca=settings.ca)
        except ValueError as error:
            raise FleetError(str(error)) from error
        async with AsyncExitStack() as stack:
            state = stack.enter_context(StateFile(settings.state))
            self._load(state)
            await asyncio.to_thread(state.save, tuple(self._identities.values()))
            if settings.cache is not None:
                self._disk = DiskCache(settings.cache)
                stack.callback(self._disk.close)
            self._listen(stack)
            await stack.enter_async_context(transport)
            wheel = Wheel(self._system.monotonic)
            stack.callback(wheel.close)
            async with asyncio.TaskGroup() as upkeep:
                upkeep.create_task(self._keep_saving(state))
                upkeep.create_task(self._keep_telling())
                await self._live(transport, wheel)
                self._over.set()
                self._unsaved.set()
            if self._unsaved.is_set():
                await asyncio.to_thread(state.save, tuple(self._identities.values()))
        self._tell(self.snapshot())

    # --------------------------------------------------------------------- life

    async def _live(self, transport: Transport, wheel: Wheel) -> None:
        """Own every task of every endpoint, from Begin to the last closed socket."""
        settings = self._settings
        try:
            async with asyncio.TaskGroup() as tasks:
                shared = Shared(
                    transport=transport,
                    wheel=wheel,
                    tally=self.tally,
                    tokens=TokenPool(settings.tokens),
                    tasks=tasks,
                    gate=asyncio.Semaphore(limits.CONNECTS_AT_ONCE_MAX),
                    monotonic=self._system.monotonic,
                    save=self._save,
                    finished=self._finished,
                )
                self.runners = tuple(self._runner(place, shared) for place in settings.places)
                self.tally.endpoints = len(self.runners)
                ramp = Chance(key_of(settings.seed, "ramp"))
                for runner in self.runners:
                    runner.feed(events.Begin(after_s=ramp.uniform(0.0, settings.ramp_s)))
                await self._stopping.wait()
                for runner in self.runners:
                    runner.feed(events.StopAsked())
                with suppress(TimeoutError):
                    async with asyncio.timeout(limits.STOP_S):
                        await shared.wait_until_quiet()
                tasks.create_task(_end_group())
        except* _Over:
            pass

    def _runner(self, place: Place, shared: Shared) -> Runner:
        core = Endpoint(
            self._identities[place.name],
            boot_id=f"boot_{self._system.random_bytes(8).hex()}",
            chance=Chance(self._system.random_bytes(16)),
            model=self._settings.model,
            key=key_of(self._settings.seed, place.name),
            architectures=ARCHITECTURES,
        )
        return Runner(core, shared, self._make_cache)

    def _make_cache(self, name: str) -> ImageCache:
        if self._disk is not None:
            return self._disk
        key = key_of(self._settings.seed, "cache", name)
        return SimulatedCache(
            warm=fraction_of(key, "warm") < self._settings.warm,
            stale=fraction_of(key, "stale") < self._settings.stale,
            delta_share=self._settings.model.figures.delta_share,
        )

    def _finished(self, name: str, finish: commands.Finish) -> None:
        if not finish.code:
            return
        self.tally.stopped += 1
        self.finals.append((name, finish))
        _log.error("%s: stopped for good: %s %s", name, finish.code, finish.detail)
        if self.tally.stopped == len(self.runners):
            self.stop()

    def _listen(self, stack: AsyncExitStack) -> None:
        """SIGINT and SIGTERM end the run in good order, where this is the main thread."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self.stop)
                stack.callback(loop.remove_signal_handler, number)

    def _check_size(self, endpoints: int) -> None:
        """Raise the number of open files as far as is needed, or say that it cannot be."""
        if not 0 < endpoints <= limits.ENDPOINTS_MAX:
            raise FleetError(f"a fleet has 1 to {limits.ENDPOINTS_MAX} endpoints, not {endpoints}")
        least = endpoints + _FILES_BESIDE
        allowed = self._system.open_files(2 * endpoints + _FILES_BESIDE)
        if allowed < least:
            raise FleetError(
                f"{endpoints} endpoints need {least} open files, this system allows {allowed}: "
                "run several fleets, or raise the limit"
            )

    # --------------------------------------------------------------------- state

    def _load(self, state: StateFile) -> None:
        """Take up the identities stored, and make keys for endpoints that are new."""
        self._identities = state.load()
        for place in self._settings.places:
            known = self._identities.get(place.name)
            if known is None:
                self._identities[place.name] = Identity(
                    name=place.name,
                    kind=place.kind,
                    location=place.location,
                    private_key=self._system.random_bytes(_KEY_BYTES),
                )
            elif known.kind != place.kind:
                raise StateError(
                    f"{place.name} is kept as a {known.kind} endpoint, not a {place.kind} one; "
                    "choose another state file or another name"
                )

    def _save(self, identity: Identity) -> None:
        self._identities[identity.name] = identity
        self._unsaved.set()

    async def _keep_saving(self, state: StateFile) -> None:
        """Write identities down soon after they are made, many with one write, and at the end.
        One write at a time: two would be in each other's way."""
        while not self._over.is_set():
            await self._unsaved.wait()
            await self._over_within(limits.STATE_SAVE_S)
            self._unsaved.clear()
            try:
                await asyncio.to_thread(state.save, tuple(self._identities.values()))
            except StateError:
                _log.exception("identities are not written down yet")
                self._unsaved.set()

    async def _keep_telling(self) -> None:
        while self._settings.every_s > 0 and not await self._over_within(self._settings.every_s):
            self._tell(self.snapshot())

    async def _over_within(self, seconds: float) -> bool:
        """Wait so long, or until the last endpoint is gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()
        return self._over.is_set()

"""An engine whose machines are files: the smallest one that holds to the contract.

A machine is DATA/filed/DESKTOP.json. It runs as long as the file is there, has no display, and is
ready at once.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from broker.domain.errors import (
    ConfigError,
    EngineError,
    StaleGenerationError,
    UnsupportedError,
)
from broker.domain.features import Feature
from broker.domain.model import Desktop, DesktopState, Host, Resources
from broker.engines.registry import EngineContext
from broker.limits import ENGINE_OPERATIONS_REMEMBERED, ENGINE_REPORTS_MAX
from broker.ports import Console, Machine, MachineReport, Operation

_T = TypeVar("_T")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_COMING: Final = frozenset({DesktopState.STARTING, DesktopState.RESETTING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """What is on file of a machine: the installation's tag, and what the fence is made of."""

    installation_id: str
    desktop_id: str
    generation: int
    host_id: str


class FiledEngine:
    """The Engine port over a folder."""

    name = "filed"
    profiles: tuple[str, ...] = ()

    def __init__(self, *, installation_id: str, folder: Path) -> None:
        self._installation_id = installation_id
        self._folder = folder
        self._turn = asyncio.Lock()
        self._under_way: asyncio.Future[Any] | None = None
        self._finished: OrderedDict[str, None] = OrderedDict()
        self._reports: asyncio.Queue[MachineReport | None] = asyncio.Queue(ENGINE_REPORTS_MAX)
        self._closed = False

    async def open(self) -> None:
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)

    async def close(self) -> None:
        self._closed = True
        if not self._reports.full():  # a full queue wakes its reader anyway
            self._reports.put_nowait(None)

    def check_profile(self, profile: str) -> None:
        if "?" in profile:
            raise EngineError(f"a host of engine {self.name} has no knobs")

    def features(self, host: Host) -> frozenset[Feature]:
        del host
        return frozenset()

    # ------------------------------------------------------------------------- verbs

    async def create(self, operation: Operation) -> None:
        await self._once(operation, self._make)
        await self._answer(operation)

    async def reset(self, operation: Operation) -> None:
        await self._once(operation, self._make)
        await self._answer(operation)

    async def destroy(self, operation: Operation) -> None:
        await self._once(operation, lambda one: self._remove(one.desktop.id))

    async def resume(self, operation: Operation) -> None:
        """See the port: its machines are never off, so this asks for a report only."""
        await self._once(operation, lambda one: self._existing(one.desktop))
        await self._answer(operation)

    async def suspend(self, operation: Operation) -> None:
        _cannot(operation.host, Feature.SUSPEND)

    async def migrate(self, operation: Operation, to: Host) -> None:
        del to
        _cannot(operation.host, Feature.MIGRATE)

    async def resize(self, operation: Operation, to: Resources) -> None:
        del to
        _cannot(operation.host, Feature.RESIZE)

    async def snapshot(self, operation: Operation, snapshot_id: str) -> int | None:
        del snapshot_id
        _cannot(operation.host, Feature.SNAPSHOT)

    async def revert(self, operation: Operation, snapshot_id: str) -> None:
        del snapshot_id
        _cannot(operation.host, Feature.SNAPSHOT)

    async def drop_snapshot(self, operation: Operation, snapshot_id: str) -> None:
        del snapshot_id
        _cannot(operation.host, Feature.SNAPSHOT)

    async def power(self, operation_id: str, host: Host, *, on: bool, deadline_s: float) -> None:
        del operation_id, on, deadline_s
        _cannot(host, Feature.HOST_POWER)

    async def discard(self, machine: Machine) -> None:
        def work() -> None:
            found = self._find(machine.desktop_id)
            if found is not None and found.generation > machine.generation:
                raise StaleGenerationError
            self._remove(machine.desktop_id)

        async with self._turn:
            await self._alone(work)

    # -------------------------------------------------------------------- what there is

    async def adopt(self, desktop: Desktop, host: Host) -> None:
        del host
        found = await _on_a_thread(lambda: self._find(desktop.id))
        if found and found.generation == desktop.generation and desktop.state in _COMING:
            self._say_ready(desktop, "")

    async def machines(self) -> tuple[Machine, ...]:
        def work() -> list[Filed]:
            found = (self._find(path.stem) for path in self._folder.glob("*.json"))
            return [one for one in found if one is not None]

        return tuple(
            Machine(
                desktop_id=one.desktop_id,
                generation=one.generation,
                running=True,
                host_id=one.host_id,
            )
            for one in sorted(await _on_a_thread(work), key=lambda one: one.desktop_id)
        )

    def displays(self, host: Host) -> frozenset[str]:
        """None: a file has no screen."""
        del host
        return frozenset()

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Console:
        del session_id, protocol
        raise UnsupportedError(f"{desktop.name} has no display")

    async def reports(self) -> AsyncIterator[MachineReport]:
        while not self._closed:
            report = await self._reports.get()
            if report is not None:
                yield report

    # ---------------------------------------------------------------------------- parts

    async def _once(self, operation: Operation, work: Callable[[Operation], object]) -> None:
        """`work`, unless a later generation is there, or the operation was done."""

        def fenced() -> None:
            found = self._find(operation.desktop.id)
            if found is not None and found.generation > operation.desktop.generation:
                raise StaleGenerationError
            if operation.id not in self._finished:
                work(operation)

        try:
            async with asyncio.timeout(operation.deadline_s), self._turn:
                await self._alone(fenced)
        except TimeoutError:
            raise EngineError(f"no answer within {operation.deadline_s:g} s") from None
        self._finished[operation.id] = None
        if len(self._finished) > ENGINE_OPERATIONS_REMEMBERED:
            self._finished.popitem(last=False)

    async def _alone(self, work: Callable[[], object]) -> None:
        """Within the turn. A thread cannot be ended: what one whose caller left still does, the
        next call waits for, else a late earlier generation would overwrite a later one."""
        while self._under_way is not None and not self._under_way.done():
            await asyncio.wait([self._under_way])
        self._under_way = asyncio.get_running_loop().run_in_executor(None, work)
        # one that nobody waits for any more is nobody's error
        self._under_way.add_done_callback(lambda done: done.cancelled() or done.exception())
        with _told_plainly():
            await asyncio.shield(self._under_way)

    async def _answer(self, operation: Operation) -> None:
        """A report follows, a repeated call's, too; none of a machine that has gone meanwhile."""
        found = await _on_a_thread(lambda: self._find(operation.desktop.id))
        if found is not None and found.generation == operation.desktop.generation:
            self._say_ready(operation.desktop, operation.id)

    def _say_ready(self, desktop: Desktop, operation_id: str) -> None:
        report = MachineReport(
            desktop_id=desktop.id,
            generation=desktop.generation,
            ready=True,
            operation_id=operation_id,
        )
        if self._reports.full():
            self._reports.get_nowait()
        self._reports.put_nowait(report)

    # --------------------------------------------------------------------- on a thread

    def _path(self, desktop_id: str) -> Path:
        if not _ID.fullmatch(desktop_id):
            raise EngineError("the desktop's id cannot name a machine")
        return self._folder / f"{desktop_id}.json"

    def _find(self, desktop_id: str) -> Filed | None:
        """This installation's machine of that desktop."""
        try:
            found = Filed(**json.loads(self._path(desktop_id).read_bytes()))
        except FileNotFoundError:
            return None
        return found if found.installation_id == self._installation_id else None

    def _existing(self, desktop: Desktop) -> Filed:
        found = self._find(desktop.id)
        if found is None:
            raise EngineError(f"there is no machine of {desktop.name}")
        return found

    def _make(self, operation: Operation) -> None:
        """Fresh; one of this generation stays as it is."""
        found = self._find(operation.desktop.id)
        if found is not None and found.generation == operation.desktop.generation:
            return
        made = Filed(
            installation_id=self._installation_id,
            desktop_id=operation.desktop.id,
            generation=operation.desktop.generation,
            host_id=operation.host.id,
        )
        path = self._path(operation.desktop.id)
        path.with_suffix(".new").write_text(json.dumps(asdict(made)), "utf-8")
        path.with_suffix(".new").replace(path)

    def _remove(self, desktop_id: str) -> None:
        if self._find(desktop_id) is not None:
            self._path(desktop_id).unlink()


def _cannot(host: Host, feature: Feature) -> NoReturn:
    raise UnsupportedError(f"{host.name} has no {feature}")


async def _on_a_thread(work: Callable[[], _T]) -> _T:
    """What blocks, and changes nothing."""
    with _told_plainly():
        return await asyncio.to_thread(work)


@contextmanager
def _told_plainly() -> Iterator[None]:
    """What the system says goes to the log, a plain sentence to people."""
    try:
        yield
    except OSError as error:
        raise EngineError("the folder of the machines did not answer") from error


def build(context: EngineContext) -> FiledEngine:
    """The factory that the entry point names."""
    if context.data is None:
        raise ConfigError("the filed engine needs a data folder")
    return FiledEngine(
        installation_id=context.installation_id, folder=context.data / FiledEngine.name
    )

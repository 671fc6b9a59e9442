"""Acting: one handler for each command, and what happens when one of them fails.

A command that fails never stops the others. Most fail because the world moved since the look, and
the next look sees it as it is. A fault of the broker in one command is logged whole, counted, and
told to `on_bug`; the rest of the plan is carried out all the same.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from broker.domain.errors import (
    AlreadyExistsError,
    ConflictError,
    IllegalTransitionError,
    NotFoundError,
    TriviumError,
    UnavailableError,
)
from broker.domain.model import WorkLease
from broker.domain.planning.commands import (
    ClearDesktop,
    Command,
    ExpireDesktop,
    ExpireHost,
    ExpireJob,
    ExpireSession,
    FreshenDesktop,
    MakeDesktop,
    MigrateDesktop,
    NoRoom,
    PowerHost,
    RenewDesktop,
    ResetDesktop,
    ResizeDesktop,
    ResumeDesktop,
    ServeQueue,
    SuspendDesktop,
)
from broker.domain.planning.view import View
from broker.services.connect import Connect
from broker.services.engine_work import EngineWork
from broker.services.host_power import HostPower
from broker.services.reconciler.machines import Machines
from broker.services.reconciler.running import Running
from broker.services.sessions import Sessions
from broker.services.shared_work import SharedWork

_log = logging.getLogger("trivium.reconciler")

AWAY_MAX: Final = 3
"""commands in a row that the store did not answer, after which the rest waits for the next look"""

SHARED: Final = frozenset({ExpireDesktop, ExpireJob, ExpireSession, FreshenDesktop, ServeQueue})
"""commands that every process carries out: each is conditional in one statement"""

LATE: Final = frozenset({ExpireDesktop, ExpireJob, ExpireSession})
"""commands for rows past their deadlines, which come again until they are carried out"""


class Result(StrEnum):
    """What became of one command. Overtaken: the world moved since the look."""

    DONE = "done"
    OVERTAKEN = "overtaken"
    FAILED = "failed"
    BUG = "bug"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look acts under. `lease` is None where another process plans."""

    view: View
    lease: WorkLease | None


class LeaseLostError(Exception):
    """The planner's lease is another's: what it guards is not done."""


Handler = Callable[[Any, Look], Awaitable[object]]


class Acting:
    def __init__(
        self,
        *,
        shared: SharedWork,
        works: EngineWork,
        connect: Connect,
        sessions: Sessions,
        machines: Machines,
        running: Running,
        power: HostPower,
    ) -> None:
        self._shared = shared
        self._machines = machines
        self.results: Counter[tuple[str, str]] = Counter()
        """(command, what became of it) -> how often, since the start of this process"""
        self.stuck = 0
        """rows past their deadlines with which the latest look came to nothing"""
        self.on_bug: Callable[[BaseException], None] = lambda _: None
        self._handlers: Mapping[type, Handler] = {
            MakeDesktop: self._make,
            NoRoom: lambda command, _: machines.no_room(command),
            ClearDesktop: lambda command, _: machines.clear(command),
            ResetDesktop: lambda command, _: machines.reset(command),
            RenewDesktop: lambda command, _: machines.renew(command),
            FreshenDesktop: lambda command, _: machines.freshen(command),
            ExpireDesktop: lambda command, _: machines.expire(command),
            SuspendDesktop: lambda command, _: running.suspend(command),
            ResumeDesktop: lambda command, _: running.resume(command),
            ResizeDesktop: lambda command, look: running.resize(command, _held(look)),
            MigrateDesktop: lambda command, _: running.migrate(command),
            PowerHost: lambda command, _: power.switch(
                command.host, on=command.on, why=command.why
            ),
            ExpireHost: lambda command, _: power.expire(command.host),
            ExpireSession: lambda command, _: sessions.expire(command.session),
            ExpireJob: lambda command, _: works.expire(command.job),
            ServeQueue: lambda command, _: connect.serve_queue(command.pool),
        }

    async def _make(self, command: MakeDesktop, look: Look) -> None:
        trial = (command.pool.id, command.host_id) in look.view.breakers
        await self._machines.make(command, _held(look), trial=trial)

    async def carry_out(self, commands: tuple[Command, ...], look: Look) -> None:
        """Each in turn. Those that need the lease are left out once it is lost."""
        away, planning = 0, look.lease is not None
        self.stuck = 0
        for command in commands:
            if type(command) not in SHARED and not planning:
                continue
            try:
                result = await self._one(command, look)
                away = 0
            except LeaseLostError:
                planning = False
            except UnavailableError as error:
                away += 1
                self._count(command, Result.FAILED)
                _log.warning("%s: %s", type(command).__name__, error.detail)
                if away >= AWAY_MAX:
                    return
            else:
                self._count(command, result)
        if planning:
            self._machines.forget_told({one.pool.id for one in commands if isinstance(one, NoRoom)})

    def _count(self, command: Command, result: Result) -> None:
        if type(command) in LATE and result in {Result.FAILED, Result.BUG}:
            self.stuck += 1
        self.results[type(command).__name__, result.value] += 1

    async def _one(self, command: Command, look: Look) -> Result:
        """Raises LeaseLostError, UnavailableError; everything else ends here."""
        name = type(command).__name__
        try:
            if type(command) not in SHARED:
                await self._must_hold(look)
            await self._handlers[type(command)](command, look)
        except (LeaseLostError, UnavailableError):
            raise
        except ConflictError as error:
            if look.lease is not None and not await self._shared.confirm(look.lease):
                raise LeaseLostError from error
            return self._failed(name, error)
        except (IllegalTransitionError, NotFoundError, AlreadyExistsError) as error:
            _log.debug("%s was overtaken: %s", name, error.detail)
            return Result.OVERTAKEN
        except TriviumError as error:
            return self._failed(name, error)
        except Exception as error:  # noqa: BLE001 - logged, counted, told; the rest goes on
            _log.exception("%s failed by a fault of the broker", name)
            self.on_bug(error)
            return Result.BUG
        return Result.DONE

    def _failed(self, name: str, error: TriviumError) -> Result:
        _log.warning("%s failed: %s", name, error.detail)
        return Result.FAILED

    async def _must_hold(self, look: Look) -> None:
        if look.lease is None or not await self._shared.keep(look.lease):
            raise LeaseLostError


def _held(look: Look) -> WorkLease:
    if look.lease is None:
        raise LeaseLostError
    return look.lease

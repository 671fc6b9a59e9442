"""Shadows' displays: a second console of the desktop, to somebody of the staff.

Beside the person's own display (`gateway/display.py`) and apart from it: what flows here is not the
person's traffic, and nothing of it counts as his doing. A shadow is opened with a ticket once and
is over when it closes. What goes up is let through by `gateway/harmless.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from broker import limits
from broker.domain.errors import BusyError, EngineError, TriviumError, UnsupportedError
from broker.domain.model import Desktop, Identity, SessionState
from broker.domain.shadowing import ENDS, Shadow, ShadowEnd
from broker.gateway.display import bounded, quietly
from broker.gateway.harmless import Guard, NotHarmlessError, guard_of
from broker.ports import Console, DisplayClient, Engine, Hint
from broker.services.kit import Kit
from broker.services.shadow_trail import TOPIC
from broker.services.shadows import Shadows

_log = logging.getLogger("trivium.shadow")

_FULL_RETRY_S: Final = 5.0


@dataclass(eq=False, slots=True, kw_only=True)
class _Open:
    """One shadow from its ticket to closed. `end` is set once, by whoever ends it. checked_s: as
    of when the database said that it may go on, by the monotonic clock."""

    shadow: Shadow
    checked_s: float
    why: ShadowEnd | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        return self.why is not None

    def end(self, why: ShadowEnd) -> None:
        if self.why is None:
            self.why = why
            self.ended.set()


class ShadowGateway:
    """The ShadowDisplays port. `run` must be a task of the application."""

    def __init__(self, kit: Kit, shadows: Shadows, engines: Callable[[str], Engine]) -> None:
        self._kit = kit
        self._shadows = shadows
        self._engines = engines
        self._open: dict[str, _Open] = {}
        self._serving = 0
        self._stops = False
        self.on_bug: Callable[[BaseException], None] = lambda _: None

    @property
    def open_count(self) -> int:
        return self._serving

    async def serve(
        self,
        client: DisplayClient,
        *,
        who: Identity,
        session_id: str,
        shadow_id: str,
        ticket: str,
    ) -> str:
        """See the ShadowDisplays port."""
        full = self._of(session_id) >= limits.SHADOWS_PER_SESSION_MAX
        if full or self._stops or self._serving >= limits.SHADOWS_MAX:
            raise BusyError("too many shadows are open", retry_after_s=_FULL_RETRY_S)
        self._serving += 1
        asked_s = self._kit.clock.monotonic()
        try:
            shadow, desktop = await bounded(
                self._shadows.redeem(who, session_id, shadow_id, ticket),
                limits.DISPLAY_OPEN_S,
                "the list of shadows",
            )
            return await self._serve(client, _Open(shadow=shadow, checked_s=asked_s), desktop)
        finally:
            self._serving -= 1

    def _of(self, session_id: str) -> int:
        """Consoles of this session that are in use, those that are being closed among them: the
        machine would throw its oldest off, the person's, for one too many."""
        return sum(one.shadow.session_id == session_id for one in self._open.values())

    def end(self, shadow_id: str, code: str) -> bool:
        """See the ShadowDisplays port."""
        one = self._open.get(shadow_id)
        if one is not None:
            one.end(ShadowEnd(code))
        return one is not None

    def stop(self) -> None:
        """This broker stops: what is open here ends, and nothing is opened any more."""
        self._stops = True
        for one in self._open.values():
            one.end(ShadowEnd.BROKER_STOPS)

    # --------------------------------------------------------------------- one shadow

    async def _serve(self, client: DisplayClient, one: _Open, desktop: Desktop) -> str:
        shadow = one.shadow
        self._open[shadow.id] = one
        if self._stops:
            one.end(ShadowEnd.BROKER_STOPS)
        try:
            async with self._console(desktop) as console:
                guard = _guard(console, shadow)
                if not one.over:
                    await self._greet(one, client, console)
                await self._relay(one, client, console, guard)
                await self._close(one, client)
        finally:
            # nobody else is told before the console is closed: its place is not free until then
            self._open.pop(shadow.id, None)
            await self._over(shadow.id, one.why or ShadowEnd.DESKTOP_CLOSED)
        return one.why or ShadowEnd.DESKTOP_CLOSED

    async def _close(self, one: _Open, client: DisplayClient) -> None:
        why = one.why or ShadowEnd.DESKTOP_CLOSED
        await quietly(client.close(why, ENDS[why]))

    @asynccontextmanager
    async def _console(self, desktop: Desktop) -> AsyncIterator[Console]:
        console = await bounded(self._connect(desktop), limits.DISPLAY_OPEN_S, "the engine")
        try:
            yield console
        finally:
            await quietly(console.close())

    async def _connect(self, desktop: Desktop) -> Console:
        for load in await self._kit.store.directory.host_loads():
            if load.host.id == desktop.host_id:
                engine = self._engines(load.host.engine)
                # an engine knows the hosts that it was asked of: perhaps nothing was, here, yet
                engine.displays(load.host)
                return await engine.console(desktop)
        raise EngineError("the desktop's host is not known any more")

    async def _greet(self, one: _Open, client: DisplayClient, console: Console) -> None:
        try:
            async with asyncio.timeout(limits.DISPLAY_SEND_S):
                await client.ready(one.shadow.session_id, *console.size, console.protocol)
        except TimeoutError:
            one.end(ShadowEnd.VIEWER_STALLED)
        except ConnectionError:
            one.end(ShadowEnd.VIEWER_CLOSED)

    async def _relay(
        self, one: _Open, client: DisplayClient, console: Console, guard: Guard
    ) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._down(one, client, console, guard)),
                group.create_task(self._up(one, client, console, guard)),
                group.create_task(self._limit(one)),
            ]
            try:
                await one.ended.wait()
            finally:
                for task in tasks:
                    task.cancel()

    async def _down(
        self, one: _Open, client: DisplayClient, console: Console, guard: Guard
    ) -> None:
        while not one.over:
            try:
                frame = await console.receive()
                guard.down(frame)
            except (EngineError, NotHarmlessError):
                frame = b""
            if not frame or len(frame) > limits.FRAME_BYTES_MAX:
                one.end(ShadowEnd.DESKTOP_CLOSED)
            elif not one.over:
                try:
                    async with asyncio.timeout(limits.DISPLAY_SEND_S):
                        await client.send(frame)
                except TimeoutError:
                    one.end(ShadowEnd.VIEWER_STALLED)
                except ConnectionError:
                    one.end(ShadowEnd.VIEWER_CLOSED)
            # a desktop that always has a frame must not keep the loop for itself
            await asyncio.sleep(0)

    async def _up(self, one: _Open, client: DisplayClient, console: Console, guard: Guard) -> None:
        while not one.over:
            try:
                data = await client.receive()
            except ConnectionError:
                data = b""
            if not data:
                one.end(ShadowEnd.VIEWER_CLOSED)
                return
            try:
                passed = guard.up(data)
            except NotHarmlessError as error:
                _log.warning("shadow %s is ended: %s", one.shadow.id, error)
                one.end(ShadowEnd.BAD_INPUT)
                return
            if len(data) > limits.DISPLAY_INPUT_BYTES_MAX:
                one.end(ShadowEnd.BAD_INPUT)
            elif passed and not one.over:
                try:
                    async with asyncio.timeout(limits.DISPLAY_SEND_S):
                        await console.send(passed)
                except (TimeoutError, EngineError):
                    one.end(ShadowEnd.DESKTOP_CLOSED)
            await asyncio.sleep(0)

    async def _limit(self, one: _Open) -> None:
        ends_at, clock = one.shadow.ends_at, self._kit.clock
        if ends_at is not None:
            await clock.sleep(max(0.0, (ends_at - clock.now()) / 1000))
            one.end(ShadowEnd.TIME_LIMIT)

    async def _over(self, shadow_id: str, why: ShadowEnd) -> None:
        try:
            async with asyncio.timeout(limits.DISPLAY_OPEN_S):
                await self._shadows.over(shadow_id, why)
        except (TimeoutError, TriviumError) as error:
            # it is found without this broker's sign of life
            _log.warning("the end of shadow %s is not noted: %r", shadow_id, error)

    # --------------------------------------------------------------------- the look

    async def run(self) -> None:
        """End shadows that may not go on, here and in the list, until cancelled: at the hint of
        it, and by looks, for hints may be lost."""
        subscription = self._kit.events.subscribe("session", TOPIC)
        try:
            async with asyncio.TaskGroup() as tasks:
                works = [
                    tasks.create_task(self._look_for_ever(), name="shadow look"),
                    tasks.create_task(self._tend_for_ever(), name="shadow list"),
                ]
                async for hint in subscription:
                    await self._heard(hint)
                for work in works:
                    work.cancel()
        finally:
            subscription.close()

    async def _look_for_ever(self) -> None:
        clock = self._kit.clock
        while True:
            began_s = clock.monotonic()
            answered = await self.look()
            next_s = began_s + limits.SHADOW_CHECK_S - clock.monotonic()
            await clock.sleep(max(next_s, 0.0) if answered else limits.SHADOW_RETRY_S)

    async def _tend_for_ever(self) -> None:
        """Apart from the looks: however long the list takes, what may go on goes on."""
        while True:
            await self._kit.clock.sleep(limits.DISPLAYS_CHECK_S)
            try:
                async with asyncio.timeout(limits.DISPLAY_OPEN_S):
                    await self._shadows.tend(tuple(self._open))
            except (TimeoutError, TriviumError) as error:
                _log.warning("the list of shadows was not tended: %r", error)
            except Exception as error:  # noqa: BLE001 - logged and told; the next turn goes on
                _log.exception("the list of shadows was not tended by a fault of the broker")
                self.on_bug(error)

    async def _heard(self, hint: Hint) -> None:
        session_id = hint.data.get("id")
        mine = [one for one in self._open.values() if one.shadow.session_id == session_id]
        if not mine and hint.topic != "missed":
            return
        if hint.topic == "session" and hint.data.get("state") != SessionState.ACTIVE:
            for one in mine:
                one.end(ShadowEnd.SESSION_OVER)
        else:
            await self.look()

    async def look(self) -> bool:
        """Ask whether what is open here may go on; whether that was answered.

        What has had no answer for SHADOW_UNCHECKED_S ends, for nobody could stop it either; by a
        fault of the broker at once.
        """
        here = list(self._open.values())
        if not here:
            return True
        began_s = self._kit.clock.monotonic()
        left_s = min(one.checked_s for one in here) + limits.SHADOW_UNCHECKED_S - began_s
        # past it already, nothing was asked in time: then it is asked once more, as ever
        wait_s = min(left_s, limits.SHADOW_LOOK_S) if left_s > 0 else limits.SHADOW_LOOK_S
        try:
            async with asyncio.timeout(wait_s):
                gone = await self._shadows.look([one.shadow for one in here])
        except (TimeoutError, TriviumError) as error:
            _log.warning("%d open shadows could not be checked: %r", len(here), error)
            since_s = self._kit.clock.monotonic() - limits.SHADOW_UNCHECKED_S
            for one in here:
                if one.checked_s <= since_s:
                    one.end(ShadowEnd.UNCHECKED)
            return False
        except Exception as error:  # noqa: BLE001 - logged and told; the person's display goes on
            _log.exception("%d open shadows could not be checked by a fault", len(here))
            for one in here:
                one.end(ShadowEnd.UNCHECKED)
            self.on_bug(error)
            return False
        for one in here:
            one.checked_s = max(one.checked_s, began_s)
            if one.shadow.id in gone:
                one.end(gone[one.shadow.id])
        return True


def _guard(console: Console, shadow: Shadow) -> Guard:
    try:
        return guard_of(console.protocol, shadow.mode)
    except NotHarmlessError as error:
        raise UnsupportedError(str(error)) from error

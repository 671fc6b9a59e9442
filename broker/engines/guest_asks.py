"""What was asked of one guest agent and is not answered yet, whatever carries the lines.

An agent may have heard an ask whose answer was lost, so an ask is said again under its own id
whenever the agent is reached anew: it does it once and answers each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from broker.domain.errors import BusyError, EngineError, GuestRefusedError, GuestSilentError
from broker.guest_wire import Ask, Done, State
from broker.limits import (
    GUEST_ADDRESSES_MAX,
    GUEST_ASK_RETRY_S,
    GUEST_ASKS_MAX,
    GUEST_IDLE_S_MAX,
    GUEST_TEXT_MAX,
)
from broker.ports import GuestAsk, GuestState

Send: TypeAlias = Callable[[Ask], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Waiting:
    """`callers`: how many wait for this one answer."""

    said: Ask
    answer: asyncio.Future[Done]
    callers: int = 0


class GuestAsks:
    """Of one agent, on the loop that made it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: dict[str, _Waiting] = {}

    async def ask(self, ask: GuestAsk, send: Send, deadline_s: float) -> None:
        """As GuestAgents.ask_guest. `send` raises EngineError where nothing can be said now."""
        entry = self._enter(ask)
        try:
            async with asyncio.timeout(deadline_s):
                await send(entry.said)
                done = await asyncio.shield(entry.answer)
        except TimeoutError:
            raise GuestSilentError(
                f"the guest agent of {self._name} gave no answer within {deadline_s:g} s"
            ) from None
        except GuestSilentError:
            raise
        except EngineError as error:
            raise GuestSilentError(f"{self._name}: {error.detail}") from error
        finally:
            entry.callers -= 1
            if not entry.callers:
                self._waiting.pop(ask.id, None)
        if not done.ok:
            why = text_of(done.detail) or "it gave no reason"
            raise GuestRefusedError(f"the guest agent of {self._name} could not: {why}")

    def _enter(self, ask: GuestAsk) -> _Waiting:
        entry = self._waiting.get(ask.id)
        if entry is None:
            if len(self._waiting) >= GUEST_ASKS_MAX:
                text = f"{GUEST_ASKS_MAX} asks wait for {self._name}"
                raise BusyError(text, retry_after_s=GUEST_ASK_RETRY_S)
            said = Ask(
                id=ask.id,
                what=ask.what.value,
                text=ask.text,
                sender=ask.sender,
                settings=dict(ask.settings),
            )
            entry = _Waiting(said=said, answer=asyncio.get_running_loop().create_future())
            self._waiting[ask.id] = entry
        entry.callers += 1
        return entry

    def done(self, done: Done) -> None:
        """The agent answered; an answer that nobody waits for is passed over."""
        entry = self._waiting.get(done.id)
        if entry is not None and not entry.answer.done():
            entry.answer.set_result(done)

    async def again(self, send: Send) -> None:
        """The agent was reached anew: say what it has not answered. Raises what `send` raises."""
        for entry in tuple(self._waiting.values()):
            if not entry.answer.done():
                await send(entry.said)


def text_of(told: str) -> str:
    """What a guest told, as it may be shown: one line of signs that can be printed."""
    plain = "".join(one if one.isprintable() else " " for one in told[: GUEST_TEXT_MAX * 2])
    return " ".join(plain.split())[:GUEST_TEXT_MAX]


def state_of(said: State, heard_at_ms: int, boot: str = "") -> GuestState:
    """A State of an agent as the port tells it."""
    idle_s = said.idle_s
    if idle_s is not None:
        idle_s = min(max(idle_s, 0.0), GUEST_IDLE_S_MAX) if idle_s == idle_s else None  # noqa: PLR0124 - NaN
    return GuestState(
        desktop_id=said.desktop_id,
        generation=said.generation,
        user=text_of(said.user),
        idle_s=idle_s,
        idle_whole=said.idle_whole,
        addresses=tuple(filter(None, map(text_of, said.addresses[:GUEST_ADDRESSES_MAX]))),
        heard_at_ms=heard_at_ms,
        boot=text_of(boot),
    )

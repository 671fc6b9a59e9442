"""Asks desktops' agents for what their sessions owe them: the policy laid down, messages shown,
the screen locked, the person logged off.

What is owed stands in the sessions' rows (broker.domain.guest_care), so nothing is lost with a
process. Each process cares for the agents that it hears; hints make it quick, and every
GUEST_LOOK_S it looks by itself. What came of each ask is in the audit trail.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Final

from broker import limits
from broker.domain.audit import Outcome
from broker.domain.errors import EngineError, GuestSilentError, TriviumError
from broker.domain.guest_care import Care, Owed, Tended, is_logged_off_first, owed, policy_of
from broker.domain.model import Desktop, Session, SessionState
from broker.ports import Engine, GuestAgents, GuestAsk, GuestState, GuestVerb, Hint
from broker.services import guest_book, guest_news
from broker.services.decisions import decision
from broker.services.guest_book import BookedAsk, GuestBook
from broker.services.guest_news import GuestNews, GuestNewsBook
from broker.services.guest_reach import GuestReach
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.sessions import Sessions

_log = logging.getLogger("trivium.guests")
_STATES: Final = (
    SessionState.DELIVERING,
    SessionState.ACTIVE,
    SessionState.DISCONNECTED,
    SessionState.ENDING,
)
_DONE: Final[Mapping[Care, str]] = {
    Care.LOG_OFF: "the person is logged off in the desktop",
    Care.LOCK: "the screen is locked, as its person was disconnected",
    Care.POLICY: "the pool's policy is laid down in the desktop",
    Care.MESSAGE: "the message is on the desktop's screen",
}
MISSED: Final = "missed"


class GuestCare:
    def __init__(
        self,
        kit: Kit,
        pools: Pools,
        reach: GuestReach,
        sessions: Sessions,
        news: GuestNewsBook,
        book: GuestBook,
    ) -> None:
        self._kit = kit
        self._pools = pools
        self._reach = reach
        self._sessions = sessions
        self._news = news
        self._book = book
        self._tended: dict[str, Tended] = {}
        self._busy: set[str] = set()
        self._hinted: set[str] = set()
        self._later: set[str] = set()
        """sessions that changed while their desktop was being cared for"""
        self._all = True
        self._wake = asyncio.Event()
        self._room = asyncio.Semaphore(limits.GUESTS_AT_ONCE_MAX)
        self.results: Counter[tuple[str, str]] = Counter()
        """(what was asked, "done" or an error's code) -> how often, since this process started"""
        self.on_bug: Callable[[BaseException], None] = lambda _: None

    # ------------------------------------------------------------------------- loops

    async def run(self, engines: Sequence[Engine]) -> None:
        """Care for the agents of these engines' desktops, until cancelled."""
        speaking = [one for one in engines if isinstance(one, GuestAgents)]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(), name="guest hints")
            while True:
                await self._look_once(speaking, tasks)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(limits.GUEST_LOOK_S):
                        await self._wake.wait()
                        self._wake.clear()
                        continue
                self._all = True

    async def _hear(self) -> None:
        topics = ("session", "pool", guest_news.TOPIC, guest_book.TOPIC)
        subscription = self._kit.events.subscribe(*topics)
        try:
            async for hint in subscription:
                self._heard(hint)
        finally:
            subscription.close()

    def _heard(self, hint: Hint) -> None:
        if hint.topic == guest_news.TOPIC:
            self._news.hear(hint)
            return
        if hint.topic == "session":
            self._hinted.add(str(hint.data.get("id")))
        else:
            self._all = True
        self._wake.set()

    async def _look_once(self, speaking: Sequence[GuestAgents], tasks: asyncio.TaskGroup) -> None:
        try:
            await self.look(speaking, tasks)
        except TriviumError as error:
            # the store is away: the next look tries again, nothing is lost
            _log.warning("what is owed to guests could not be read: %s", error.detail)
        except Exception as error:  # noqa: BLE001 - logged, counted, told; the rest goes on
            _log.exception("a look at the guests failed by a fault of the broker")
            self.on_bug(error)

    async def look(self, speaking: Sequence[GuestAgents], tasks: asyncio.TaskGroup) -> None:
        """Read what is owed to whom this process hears, and begin what is."""
        hinted, self._hinted = self._hinted, set()
        everything, self._all = self._all, False
        heard = {one: agents for agents in speaking for one in agents.heard()}
        if not heard:
            self._tended.clear()
            return
        if everything:
            self._tell(heard)
            for silent in self._tended.keys() - heard.keys() - self._busy:
                del self._tended[silent]
            found = await self._having(tuple(heard))
            await self._take_booked(heard, tasks)
        else:
            found = [
                one
                for one in await self._kit.store.sessions.some(sorted(hinted))
                if one.desktop_id in heard and one.state in _STATES
            ]
        for session in found:
            desktop_id = session.desktop_id
            if desktop_id in self._busy:
                self._later.add(session.id)
            elif desktop_id is not None:
                self._begin(desktop_id, self._tend(session.id, heard[desktop_id]), tasks)

    async def _having(self, desktop_ids: Sequence[str]) -> list[Session]:
        found: list[Session] = []
        for first in range(0, len(desktop_ids), limits.GUEST_LOOK_BATCH):
            part = desktop_ids[first : first + limits.GUEST_LOOK_BATCH]
            found += await self._kit.store.sessions.with_desktops(part, _STATES)
        return found

    def _tell(self, heard: Mapping[str, GuestAgents]) -> None:
        news = []
        for desktop_id, agents in heard.items():
            state = agents.guest(desktop_id)
            if state is not None:
                news.append(self._told(state))
        self._news.note(news)

    def _told(self, state: GuestState) -> GuestNews:
        tended = self._tended.get(state.desktop_id)
        known = tended is not None and tended.generation == state.generation
        why = tended.policy_error if tended is not None and known else ""
        laid = tended is not None and known and tended.policy is not None
        policy = ("failed" if why else "laid") if laid else ""
        return GuestNews(
            desktop_id=state.desktop_id,
            generation=state.generation,
            at=min(state.heard_at_ms, self._kit.clock.now()),
            user=state.user,
            idle_s=state.idle_s,
            idle_whole=state.idle_whole,
            addresses=state.addresses,
            policy=policy,
            policy_why=why,
        )

    # ----------------------------------------------------------------- one session's

    async def _tend(self, session_id: str, agents: GuestAgents) -> None:
        """Everything that is owed, one after the other, from the row as it is each time."""
        while True:
            session = await self._kit.store.sessions.session(session_id)
            if session is None or session.desktop_id is None or session.state not in _STATES:
                return
            desktop = await self._kit.store.desktops.desktop(session.desktop_id)
            state = agents.guest(session.desktop_id)
            if desktop is None or state is None or state.generation != session.generation:
                return
            pool = await self._pools.find(session.pool_id)
            tended = self._of(session, state)
            policy = policy_of(pool.settings.channels, await self._username(session))
            logs_off = is_logged_off_first(pool, desktop.owner_id)
            now = self._kit.clock.now()
            one = owed(session, pool, tended, policy, now=now, logs_off=logs_off)
            if one is None:
                return
            if not await self._give(one, session, desktop, tended, policy):
                return

    def _of(self, session: Session, state: GuestState) -> Tended:
        tended = self._tended.get(state.desktop_id)
        if tended is None or not tended.is_of(session, state.boot):
            tended = Tended(session_id=session.id, generation=session.generation, boot=state.boot)
            self._tended[state.desktop_id] = tended
        return tended

    async def _username(self, session: Session) -> str:
        user = await self._kit.store.directory.user(session.user_id)
        return user.username if user is not None else ""

    async def _give(
        self, one: Owed, session: Session, desktop: Desktop, tended: Tended,
        policy: Mapping[str, str],
    ) -> bool:  # fmt: skip
        """Ask for it; False where it is to be tried again at a later look."""
        error: EngineError | None = None
        try:
            await self._reach.ask(desktop, self._ask(one, session, policy))
        except GuestSilentError as silent:
            tries = tended.tries.get(one.key, 0) + 1
            tended.tries[one.key] = tries
            if tries < limits.GUEST_TRIES_MAX:
                return False
            error = silent
        except EngineError as refused:
            error = refused
        tended.settled.add(one.key)
        if one.care is Care.POLICY:
            tended.settled.discard(one.key)
            tended.policy, tended.policy_error = policy, error.detail if error else ""
        self.results[one.care.value, error.code if error else "done"] += 1
        await self._settle(one, session, desktop, error)
        return True

    def _ask(self, one: Owed, session: Session, policy: Mapping[str, str]) -> GuestAsk:
        match one.care:
            case Care.MESSAGE if session.notice is not None:
                return GuestAsk(
                    id=one.key,
                    what=GuestVerb.MESSAGE,
                    text=session.notice.text,
                    sender=session.notice.sender,
                )
            case Care.POLICY:
                # the same again, after another in between, is to be laid down again
                return GuestAsk(id=self._kit.ids.new("ask"), what=GuestVerb.POLICY, settings=policy)
            case _:
                return GuestAsk(id=one.key, what=GuestVerb(one.care.value))

    async def _settle(
        self, one: Owed, session: Session, desktop: Desktop, error: EngineError | None
    ) -> None:
        if one.care is Care.LOG_OFF and error is not None:
            # told with the restart that comes of it
            await self._sessions.logged_off(session, error=error.detail)
            return
        about = {
            "session_id": session.id,
            "user_id": session.user_id,
            "desktop_id": desktop.id,
            "pool_id": desktop.pool_id,
            "host_id": desktop.host_id or "",
        }
        why = _DONE[one.care] if error is None else error.detail
        details = {} if error is None else {"code": error.code}
        entry = decision(self._kit, f"guest.{one.care}", why, about=about, details=details)
        if error is not None:
            entry = replace(entry, outcome=Outcome.FAILED)
            _log.warning("%s of %s: %s", one.care, desktop.name, error.detail)
        await self._kit.store.audit.append([entry])
        if one.care is Care.LOG_OFF:
            await self._sessions.logged_off(session)
        elif one.care is Care.POLICY:
            self._kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)

    # ------------------------------------------------------------------- the staff's

    async def _take_booked(
        self, heard: Mapping[str, GuestAgents], tasks: asyncio.TaskGroup
    ) -> None:
        for ask in await self._book.waiting():
            agents = heard.get(ask.desktop_id)
            state = agents.guest(ask.desktop_id) if agents is not None else None
            if state is not None and state.generation == ask.generation:
                self._begin(ask.id, self._carry_out(ask), tasks)

    async def _carry_out(self, ask: BookedAsk) -> None:
        desktop = await self._kit.store.desktops.desktop(ask.desktop_id)
        if desktop is None or desktop.generation != ask.generation:
            return
        try:
            await self._reach.ask(desktop, GuestAsk(id=ask.id, what=GuestVerb(ask.what)))
        except (EngineError, ValueError) as error:
            told = error if isinstance(error, EngineError) else EngineError("it is not known here")
            await self._book.settle(ask.id, told.code, told.detail)
        else:
            await self._book.settle(ask.id, "done", "")

    # ------------------------------------------------------------------------- tasks

    def _begin(self, key: str, work: Coroutine[None, None, None], tasks: asyncio.TaskGroup) -> None:
        if key in self._busy:
            work.close()
            return
        self._busy.add(key)
        tasks.create_task(self._bounded(key, work), name=f"guest {key}")

    async def _bounded(self, key: str, work: Coroutine[None, None, None]) -> None:
        try:
            async with self._room:
                await work
        except TriviumError as error:
            _log.warning("%s: %s", key, error.detail)
        except Exception as error:  # noqa: BLE001 - logged, told; the others go on
            _log.exception("caring for the guest %s failed by a fault of the broker", key)
            self.on_bug(error)
        finally:
            work.close()
            self._busy.discard(key)
            if self._later:
                self._hinted |= self._later
                self._later.clear()
                self._wake.set()

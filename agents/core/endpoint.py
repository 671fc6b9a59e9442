"""One endpoint: its link, its sessions, its own desktops. Events in, commands out.

Orders may come twice, late, or after what they are about is over; a link may end between any
two of them. The rules that make every such run end in the same state:

- A session is known by (session_id, generation). The same again means carry on, an older one is
  ignored, a newer one replaces.
- What is done already is answered at once, and again: Live, Ended, Fresh.
- A session that is over is begun anew only by another ticket.
- One that has moved elsewhere is let go without a word: see wire.Stop.
- Reports made while the link is down are kept, a few, and told first at the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agents import limits
from agents.chance import Chance
from agents.core import commands, desktops, events, person
from agents.core import session as sessions
from agents.core.desktops import Desktops
from agents.core.identity import Identity
from agents.core.link import Link, Order, State
from agents.core.person import Person
from agents.core.session import Session
from agents.core.timers import Timers
from agents.core.turn import Turn
from agents.model import Model
from broker import wire

Architectures: TypeAlias = Mapping[str, type[Session]]


@dataclass(frozen=True, slots=True)
class _Over:
    """A session that is over here: with which ticket it was begun, and what the broker was told."""

    generation: int
    ticket: str
    answer: wire.Ended | wire.Failed


class Endpoint:
    """The whole logic of one endpoint, without I/O.

    `handle` takes what happened and returns what to do; `due` is when it wants to be called with
    TimePassed at the latest. Instants are monotonic seconds of one clock.
    """

    __slots__ = (
        "_architectures",
        "_desktops",
        "_drawn",
        "_key",
        "_memory",
        "_model",
        "_outbox",
        "_person",
        "_refs",
        "_sessions",
        "chance",
        "link",
        "timers",
    )

    def __init__(
        self,
        identity: Identity,
        *,
        boot_id: str,
        chance: Chance,
        model: Model,
        key: bytes,
        architectures: Architectures,
    ) -> None:
        """`chance` spreads retries and heartbeats and moves the simulated person; `key` decides
        this endpoint's simulated steps, so that they stay the same from run to run."""
        self.chance = chance
        self.timers = Timers()
        self.link = Link(self, self.timers, identity, boot_id=boot_id, chance=chance)
        self._model = model
        self._key = key
        self._architectures = architectures
        self._sessions: dict[str, Session] = {}
        self._memory: dict[str, _Over] | None = None
        self._desktops: Desktops | None = None
        self._outbox: deque[bytes] | None = None
        self._person: Person | None = None
        self._refs = 0
        self._drawn = 0

    # ------------------------------------------------------------ for the shell

    @property
    def due(self) -> float:
        """The next deadline; infinity when there is none, which is only before Begin and after
        Finish, or while the shell owes the answer to Enrol or Connect."""
        return self.timers.due()

    @property
    def sessions(self) -> tuple[Session, ...]:
        return tuple(self._sessions.values())

    def handle(self, event: events.Event, now: float) -> list[commands.Command]:
        """Take one event in; returns the commands, to be carried out in order."""
        turn = Turn(now)
        match event:
            case events.Begin(after_s=after_s):
                self.link.begin(turn, after_s)
            case events.TimePassed():
                self._time(turn)
            case events.StopAsked():
                self.link.stop(turn)
            case events.Enrolled() | events.EnrolRefused():
                self.link.on_enrol(turn, event)
            case (
                events.LinkOpened()
                | events.LinkText()
                | events.LinkPong()
                | events.LinkGarbage()
                | events.LinkLost()
            ):
                self.link.on(turn, event)
            case _:
                found = self._sessions.get(event.session_id)
                if found is not None:
                    found.on(turn, event)
        if self.link.state is State.STOPPED:
            self._let_go(turn)
        return turn.commands

    def _time(self, turn: Turn) -> None:
        while (key := self.timers.pop(turn.now)) is not None:
            owner, name = key
            if owner == "":
                self.link.on_timer(turn, name)
            elif owner == person.OWNER:
                self._own_person().timer(turn, name, frozenset(self._sessions))
            elif owner.startswith(desktops.OWNER):
                waiting = self._own_desktops().timer(turn, owner.removeprefix(desktops.OWNER))
                if waiting is not None:
                    self._start(turn, waiting)
            else:
                found = self._sessions.get(owner.removeprefix(sessions.OWNER))
                if found is not None:
                    found.timer(turn, name)

    # ------------------------------------------------------------- for the link

    def link_up(self, turn: Turn) -> None:
        for data in self._outbox or ():
            turn.do(commands.Send(data=data))
        self._outbox = None
        for session in self.sessions:
            session.link_up(turn)

    def link_down(self, turn: Turn) -> None:
        for session in self.sessions:
            session.link_down(turn)

    def order(self, turn: Turn, order: Order, size: int) -> None:
        match order:
            case wire.Start():
                self._start(turn, order)
            case wire.Grant():
                granted = self._sessions.get(order.session_id)
                if granted is not None:
                    granted.granted(turn, order)
            case wire.Stop():
                self._stop(turn, order)
            case wire.MakeFresh():
                self._make_fresh(turn, order)
            case wire.Notice() | wire.AskConsent():
                self._say(turn, order)
        if not isinstance(order, wire.MakeFresh):
            concerned = self._sessions.get(order.session_id)
            if concerned is not None:
                concerned.control += size

    def beat(self, seq: int, now: float) -> bytes:
        carried = [session for session in self._sessions.values() if session.carried]
        taken = tuple(session.take_traffic(session.idle_s(now)) for session in carried)
        data = wire.encode(wire.Heartbeat(seq=seq, sessions=taken))
        for session in carried:
            session.control += len(data) // len(carried)
        return data

    # --------------------------------------------- for sessions and desktops

    @property
    def link_is_up(self) -> bool:
        return self.link.is_up

    def tell(self, turn: Turn, message: wire.FromAgent, *, keep: bool = True) -> int:
        data = wire.encode(message)
        if self.link.is_up:
            turn.do(commands.Send(data=data))
        elif keep:
            if self._outbox is None:
                self._outbox = deque(maxlen=limits.OUTBOX_MAX)
            self._outbox.append(data)
        return len(data)

    def deadline(self, server_ms: int) -> float:
        return self.link.deadline(server_ms)

    def next_ref(self) -> int:
        self._refs += 1
        return self._refs

    def length_s(self, step: str) -> float:
        self._drawn += 1
        return self._model.step_s(step, self._key, self._drawn)

    def pause_s(self) -> float:
        return self._model.pause_s(self.chance.uniform(0.0, 1.0))

    def agrees(self, wish_id: str) -> bool | None:
        return self._model.agrees(self._key, wish_id)

    def failed(self, turn: Turn, session: Session, code: str, detail: str) -> None:
        answer = wire.Failed(
            session_id=session.id, generation=session.generation, code=code, detail=detail
        )
        self._over(turn, session, answer)
        note = commands.Note(what="failed", architecture=session.architecture, code=code)
        turn.do(note)
        turn.do(commands.Log(level="warning", text=f"session {session.id} failed: {code} {detail}"))

    def renew_link(self, turn: Turn, why: str) -> None:
        self.link.renew(turn, why)

    # ------------------------------------------------------------------- orders

    def _start(self, turn: Turn, order: wire.Start) -> None:
        mine = self._sessions.get(order.session_id)
        if mine is not None and order.generation == mine.generation:
            mine.again(turn, order)
            return
        if mine is not None and order.generation < mine.generation:
            return
        if mine is None and self._answered(turn, order):
            return
        if self._is_stale(order):
            return
        if mine is not None:
            self.forget(turn, mine)
        for other in self.sessions:
            if other.order.desktop_id == order.desktop_id:
                self._end(turn, other)
        if self._desktops is not None and self._desktops.hold(order):
            return
        self._begin(turn, order)

    def _answered(self, turn: Turn, order: wire.Start) -> bool:
        """The order is about a session that is over, and brings no other ticket."""
        over = None if self._memory is None else self._memory.get(order.session_id)
        if over is None or order.generation > over.generation:
            return False
        if order.generation == over.generation and order.ticket != over.ticket:
            return False
        if order.generation == over.generation:
            self.tell(turn, over.answer)
        return True

    def _is_stale(self, order: wire.Start) -> bool:
        """The desktop is, or is being made, newer than the order."""
        newest = -1 if self._desktops is None else self._desktops.newest(order.desktop_id)
        return order.generation < newest or any(
            other.order.desktop_id == order.desktop_id and other.generation > order.generation
            for other in self._sessions.values()
        )

    def _begin(self, turn: Turn, order: wire.Start) -> None:
        kind = self._architectures.get(order.architecture)
        refused = ""
        if kind is None or kind.kind != self.link.identity.kind:
            refused = "endpoint.architecture"
        elif len(self._sessions) >= limits.CONTROL_SESSIONS_MAX and not self._make_room(turn):
            refused = "endpoint.busy"
        if kind is None or refused:
            self.tell(
                turn,
                wire.Failed(session_id=order.session_id, generation=order.generation, code=refused),
            )
            turn.do(commands.Note(what="failed", architecture=order.architecture, code=refused))
            return
        session = kind(self, order, turn.now)
        self._sessions[order.session_id] = session
        turn.do(commands.Note(what="begun", architecture=order.architecture))
        session.begin(turn)

    def _make_room(self, turn: Turn) -> bool:
        """Let go of a session of which nothing is here any more."""
        for session in self.sessions:
            if not session.carried:
                self.forget(turn, session)
                return True
        return False

    def _stop(self, turn: Turn, order: wire.Stop) -> None:
        mine = self._sessions.get(order.session_id)
        if mine is not None and order.generation < mine.generation:
            return
        if self._desktops is not None:
            self._desktops.drop(order.session_id)
        if order.moved:
            # what would be said of it could reach the broker when it is here again
            if mine is not None:
                self.forget(turn, mine)
                turn.do(commands.Note(what="over", architecture=mine.architecture))
        elif mine is not None:
            self._end(turn, mine)
        else:
            self.tell(turn, wire.Ended(session_id=order.session_id, generation=order.generation))

    def _say(self, turn: Turn, order: wire.Notice | wire.AskConsent) -> None:
        """For the person of a session that is here; of others nothing is said."""
        if order.session_id not in self._sessions:
            return
        if isinstance(order, wire.Notice):
            self._own_person().notice(turn, order)
        else:
            self._own_person().ask(turn, order)

    def _own_person(self) -> Person:
        if self._person is None:
            self._person = Person(self)
        return self._person

    def _make_fresh(self, turn: Turn, order: wire.MakeFresh) -> None:
        there = [one for one in self.sessions if one.order.desktop_id == order.desktop_id]
        if any(session.generation >= order.generation for session in there):
            return
        for session in there:
            self._end(turn, session)
        self._own_desktops().make_fresh(turn, order)

    # ---------------------------------------------------------------------- end

    def _own_desktops(self) -> Desktops:
        if self._desktops is None:
            self._desktops = Desktops(self)
        return self._desktops

    def _end(self, turn: Turn, session: Session) -> None:
        """Tear it down and say so, with the traffic since the last heartbeat."""
        plain = wire.Ended(session_id=session.id, generation=session.generation)
        last = wire.Ended(
            session_id=session.id, generation=session.generation, traffic=session.take_traffic()
        )
        self._over(turn, session, plain, told=last)
        turn.do(commands.Note(what="over", architecture=session.architecture))

    def _over(
        self,
        turn: Turn,
        session: Session,
        answer: wire.Ended | wire.Failed,
        *,
        told: wire.Ended | None = None,
    ) -> None:
        """`answer` is what a repeated order gets; `told` is what is said now, if it says more."""
        self.forget(turn, session)
        if self._memory is None:
            self._memory = {}
        self._memory.pop(session.id, None)
        self._memory[session.id] = _Over(session.generation, session.ticket, answer)
        if len(self._memory) > limits.MEMORY_MAX:
            del self._memory[next(iter(self._memory))]
        self.tell(turn, told or answer)

    def forget(self, turn: Turn, session: Session) -> None:
        session.teardown(turn)
        self.timers.cancel_all(sessions.OWNER + session.id)
        del self._sessions[session.id]
        if session.is_live:
            session.is_live = False
            turn.do(commands.Note(what="away", architecture=session.architecture))

    def _let_go(self, turn: Turn) -> None:
        for session in self.sessions:
            self.forget(turn, session)
        self.timers.clear()

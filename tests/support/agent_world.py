"""A world of one endpoint in virtual time: its core, a network that fails on request, and a broker
reduced to what it owes. Seconds of it take microseconds, and a seed replays it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from math import inf

from agents.chance import Chance, key_of
from agents.core import commands, events
from broker import wire
from tests.support.agent_script import INSTALLATION, PUBLIC_KEY, endpoint, grant, image, segment

LATENCY_S = 0.01


@dataclass(slots=True)
class Wanted:
    """A session as the broker has it: wanted, live, stopping or over."""

    architecture: str
    desktop_id: str
    generation: int
    state: str = "wanted"
    failures: list[str] = field(default_factory=list)


class BrokerModel:
    """Owes orders, pushes them at every Welcome, and believes what it is told in order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sessions: dict[str, Wanted] = {}
        self.generations: dict[str, int] = {}
        self.unfresh: set[str] = set()
        self.tickets: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.sent: list[wire.FromBroker] = []
        self.garbled = False
        self.refusing = False
        self._made = 0

    def _new(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}_{self._made}"

    # ------------------------------------------------------------- what people do

    def want(self, architecture: str, desktop_id: str) -> None:
        """A person asks for a desktop, if it is free."""
        busy = any(
            one.desktop_id == desktop_id and one.state != "over" for one in self.sessions.values()
        )
        if busy or desktop_id in self.unfresh:
            return
        generation = self.generations.setdefault(desktop_id, 1)
        session_id = self._new("ses")
        self.sessions[session_id] = Wanted(architecture, desktop_id, generation)
        self.push_start(session_id)

    def log_off(self) -> None:
        for session_id, one in self.sessions.items():
            if one.state in {"wanted", "live"}:
                one.state = "stopping"
                self.push(wire.Stop(session_id=session_id, generation=one.generation, reason="x"))
                return

    # ------------------------------------------------------------------- orders

    def push(self, order: wire.FromBroker) -> None:
        if self._world.link is not None and self._world.welcomed:
            self.sent.append(order)
            self._world.to_agent(order)

    def push_start(self, session_id: str) -> None:
        one = self.sessions[session_id]
        if one.state != "wanted":
            return
        ticket = self._new("tkt")
        self.tickets[ticket] = session_id
        self.push(
            wire.Start(
                session_id=session_id,
                desktop_id=one.desktop_id,
                desktop_name=one.desktop_id,
                generation=one.generation,
                architecture=one.architecture,
                pool="lab",
                username="li.na",
                ticket=ticket,
                image=image(),
            )
        )

    def push_owed(self) -> None:
        for session_id, one in self.sessions.items():
            if one.state == "live":
                one.state = "wanted"
            if one.state == "wanted":
                self.push_start(session_id)
            elif one.state == "stopping":
                self.push(wire.Stop(session_id=session_id, generation=one.generation, reason="x"))
        for desktop_id in sorted(self.unfresh):
            self._push_fresh(desktop_id)

    def _push_fresh(self, desktop_id: str) -> None:
        generation = self.generations[desktop_id]
        self.push(wire.MakeFresh(desktop_id=desktop_id, generation=generation))

    # ------------------------------------------------------------------ reports

    def take(self, data: bytes) -> None:
        match wire.decode_from_agent(data):
            case wire.Hello():
                self._world.to_agent(
                    wire.Refused(code="server.busy", retry_after_s=2.0)
                    if self.refusing
                    else wire.Challenge(nonce="n", installation_id=INSTALLATION)
                )
            case wire.Proof(signature=signature):
                payload = wire.proof_payload(INSTALLATION, "ept_1", "n")
                PUBLIC_KEY.verify(bytes.fromhex(signature), payload)
                self._world.welcomed = True
                time_ms = round(self._world.now * 1000)
                self._world.to_agent(wire.Welcome(heartbeat_s=30, time_ms=time_ms))
                self.push_owed()
            case wire.Redeem(session_id=session_id, ticket=ticket):
                self._redeem(session_id, ticket)
            case wire.Live(session_id=session_id, generation=generation):
                one = self._current(session_id, generation)
                if one is not None and one.state == "wanted":
                    one.state = "live"
            case wire.Failed(session_id=session_id, generation=generation, code=code):
                one = self._current(session_id, generation)
                if one is not None and one.state != "over":
                    one.failures.append(code)
                    self._over(one)
            case wire.Ended(session_id=session_id, generation=generation):
                one = self._current(session_id, generation)
                if one is not None and one.state != "over":
                    self._over(one)
            case wire.Fresh(desktop_id=desktop_id, generation=generation):
                if self.generations.get(desktop_id) == generation:
                    self.unfresh.discard(desktop_id)
            case _:
                pass

    def _current(self, session_id: str, generation: int) -> Wanted | None:
        one = self.sessions.get(session_id)
        return one if one is not None and one.generation == generation else None

    def _over(self, one: Wanted) -> None:
        one.state = "over"
        self.generations[one.desktop_id] += 1
        if one.architecture != "vdi":
            self.unfresh.add(one.desktop_id)
            self._push_fresh(one.desktop_id)

    def _redeem(self, session_id: str, ticket: str) -> None:
        one = self.sessions.get(session_id)
        if self.tickets.pop(ticket, None) != session_id or one is None:
            return
        if one.state not in {"wanted", "live"}:
            return
        token = self._new("tok")
        self.tokens.add(token)
        lease = round(self._world.now * 1000) + 600_000
        self.push(grant(one.architecture, session_id=session_id, token=token, lease_until_ms=lease))


class World:
    """Carries out the core's commands and checks that each is possible."""

    def __init__(self, kind: str, seed: int) -> None:
        self.now = 0.0
        self.core = endpoint(kind, seed=seed)
        self.broker = BrokerModel(self)
        self.chance = Chance(key_of("world", seed))
        self.reachable = True
        self.link: int | None = None
        self.welcomed = False
        self.displays: dict[str, int] = {}
        self.spoiled = 0
        self.finished = False
        self.connects: list[float] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._queued = 0
        self._last_ref = 0
        self.feed(events.Begin())

    # --------------------------------------------------------------------- time

    def later(self, in_s: float, act: Callable[[], None]) -> None:
        self._queued += 1
        heapq.heappush(self._queue, (self.now + in_s, self._queued, act))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            at = self._queue[0][0] if self._queue else inf
            due = self.core.due
            if min(at, due) > until:
                break
            self.now = max(self.now, min(at, due))
            if at <= due:
                heapq.heappop(self._queue)[2]()
            else:
                self.feed(events.TimePassed())
        self.now = until

    def feed(self, event: events.Event) -> None:
        for command in self.core.handle(event, self.now):
            self._carry_out(command)

    def to_agent(self, message: wire.FromBroker) -> None:
        link = self.link
        data = b"{" if self.broker.garbled else wire.encode(message)
        self.later(LATENCY_S, lambda: self._if_open(link, data))

    def _if_open(self, link: int | None, data: bytes) -> None:
        if link is not None and link == self.link:
            self.feed(events.LinkText(link_no=link, data=data))

    # ----------------------------------------------------------------- mischief

    def cut(self) -> None:
        """The control link breaks."""
        link, self.link, self.welcomed = self.link, None, False
        if link is not None:
            self.feed(events.LinkLost(link_no=link, why="cut"))

    def cut_displays(self) -> None:
        for session_id, ref in list(self.displays.items()):
            self._display_lost(session_id, ref)

    def replay(self) -> None:
        """An old order comes once more."""
        if self.broker.sent:
            at = int(self.chance.uniform(0, len(self.broker.sent)))
            if self.link is not None and self.welcomed:
                self.to_agent(self.broker.sent[at])

    # ----------------------------------------------------------------- commands

    def _carry_out(self, command: commands.Command) -> None:
        match command:
            case commands.Connect(link_no=link_no):
                assert self.link is None, "a second link beside the first"
                self.connects.append(self.now)
                self.later(LATENCY_S, lambda: self._connected(link_no))
            case commands.Send(data=data):
                assert self.link is not None, "sent without a link"
                self.later(LATENCY_S, lambda link=self.link: self._arrive(link, data))  # type: ignore[misc]
            case commands.Ping():
                assert self.link is not None
                pong = events.LinkPong(link_no=self.link)
                self.later(LATENCY_S, lambda: self.feed(pong))
            case commands.CloseLink():
                if self.link is not None:
                    lost = events.LinkLost(link_no=self.link, why="closed")
                    self.later(LATENCY_S, lambda: self.feed(lost))
                self.link, self.welcomed = None, False
            case commands.Finish():
                self.finished = True
            case commands.OpenDisplay():
                self._open_display(command)
            case commands.SendDisplay(session_id=session_id):
                assert session_id in self.displays, "input to a display that is not open"
            case commands.CloseDisplay(session_id=session_id):
                self.displays.pop(session_id, None)
            case commands.CheckImage():
                self._check(command)
            case commands.Fetch():
                self._fetch(command)
            case _:
                pass

    def _connected(self, link_no: int) -> None:
        if not self.reachable:
            self.feed(events.LinkLost(link_no=link_no, why="refused"))
            return
        self.link = link_no
        self.feed(events.LinkOpened(link_no=link_no))

    def _arrive(self, link: int | None, data: bytes) -> None:
        if link == self.link:
            self.broker.take(data)

    def _new_ref(self, ref: int) -> None:
        assert ref > self._last_ref, "a number was used twice"
        self._last_ref = ref

    def _open_display(self, command: commands.OpenDisplay) -> None:
        assert command.session_id not in self.displays, "two displays of one session"
        self._new_ref(command.ref)
        self.displays[command.session_id] = command.ref
        self.later(LATENCY_S, lambda: self._display_opened(command))

    def _display_opened(self, command: commands.OpenDisplay) -> None:
        session_id, ref = command.session_id, command.ref
        if self.displays.get(session_id) != ref:
            return
        one = self.broker.sessions.get(session_id)
        known = self.broker.tickets.pop(command.ticket, None) == session_id
        if not self.reachable:
            self._display_lost(session_id, ref)
            return
        answer: wire.FromDisplay = wire.DisplayRefused(code="ticket.refused")
        if known and one is not None and one.state in {"wanted", "live"}:
            answer = wire.DisplayReady(session_id=session_id, width=800, height=600)
        self.feed(events.DisplayText(session_id=session_id, ref=ref, data=wire.encode(answer)))
        if isinstance(answer, wire.DisplayReady):
            self.later(LATENCY_S, lambda: self._frame(session_id, ref))

    def _frame(self, session_id: str, ref: int) -> None:
        self.feed(events.DisplayFrame(session_id=session_id, ref=ref, size=100))

    def _display_lost(self, session_id: str, ref: int) -> None:
        self.displays.pop(session_id, None)
        self.feed(events.DisplayLost(session_id=session_id, ref=ref, why="cut"))

    def _check(self, command: commands.CheckImage) -> None:
        self._new_ref(command.ref)
        missing = tuple(
            index for index in range(command.image.segments) if self.chance.uniform(0, 1) < 0.5
        )
        self.later(
            LATENCY_S,
            lambda: self.feed(
                events.ImageChecked(session_id=command.session_id, ref=command.ref, missing=missing)
            ),
        )

    def _fetch(self, command: commands.Fetch) -> None:
        self.later(self.chance.uniform(0.01, 0.5), lambda: self._fetched(command))

    def _fetched(self, command: commands.Fetch) -> None:
        if not self.reachable or command.token not in self.broker.tokens:
            self.feed(
                events.SegmentFailed(
                    session_id=command.session_id,
                    ref=command.ref,
                    index=command.index,
                    refused=self.reachable,
                    why="no",
                )
            )
            return
        data = segment(command.image_id, command.index)
        if self.spoiled:
            self.spoiled -= 1
            data = b"spoiled"
        self.feed(
            events.SegmentFetched(
                session_id=command.session_id,
                ref=command.ref,
                index=command.index,
                digest=blake2b(data, digest_size=16).digest(),
                size=len(data),
            )
        )

"""A device at a desk: the real agent core, a network to the brokers, and a disk that survives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from random import Random
from typing import Any, ClassVar, Final, Protocol, cast

from agents.chance import Chance, key_of
from agents.core import commands, events
from agents.core.endpoint import Endpoint
from agents.core.identity import Identity
from agents.model import Figures, Length, Model
from agents.registry import ARCHITECTURES
from broker import wire
from broker.domain.errors import NotSignedInError, TriviumError
from broker.services.endpoints import Enrolment
from broker.simulation.display import Display
from broker.simulation.history import History
from broker.simulation.line import LATENCY_S, SimLine
from broker.simulation.loop import SimLoop
from broker.simulation.process import Process
from broker.simulation.weather import Weather

MODEL: Final = Model(
    figures=Figures(
        steps={
            "logon": Length(low_s=1, high_s=4),
            "local_boot": Length(low_s=2, high_s=10),
            "os_start": Length(low_s=2, high_s=10),
            "reset": Length(low_s=1, high_s=5),
        },
        # a person's every keystroke would be an event, and says nothing about the broker
        input_pause_s=3600.0,
    )
)
FETCH_S: Final = 0.5
"""longest way of one image segment"""
REPEAT_S: Final = 20.0
"""an order of an earlier link may come once more within this"""
_FRESH: Final = b'{"type":"fresh"'


class Net(Protocol):
    """What a station is connected to."""

    loop: SimLoop
    history: History
    weather: Weather

    def any_process(self) -> Process | None:
        """One that listens, as a load balancer picks it."""

    def made_fresh(self, desktop_id: str, generation: int) -> None: ...

    def connecting(self, station: Station) -> None: ...

    def gave_up(self, station: Station, code: str) -> None: ...

    async def enrolment_token(self) -> str | None: ...


class Station:
    """`identity` and `disk` are what a reboot leaves."""

    def __init__(
        self, net: Net, name: str, identity: Identity, architecture: str, chance: Random
    ) -> None:
        self.name = name
        self.loop = net.loop
        self.history = net.history
        self.chance = chance
        self.identity = identity
        self.architecture = architecture
        """what it can carry: vdi (thin), idv or voi"""
        self.reachable = True
        self.on = True
        self.disk: set[tuple[str, int]] = set()
        self.line: SimLine | None = None
        self.displays: dict[str, Display] = {}
        self.old_orders: deque[bytes] = deque(maxlen=20)
        self.make_core: Callable[[Station], Endpoint] = make_core
        self._net = net
        self._boots = 0
        self._last_line_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf
        self.core = self._boot()

    @property
    def weather(self) -> Weather:
        return self._net.weather

    @property
    def endpoint_id(self) -> str | None:
        return self.identity.endpoint_id

    @property
    def boot_id(self) -> str:
        return f"{self.name}-{self._boots}"

    def _boot(self) -> Endpoint:
        self._boots += 1
        return self.make_core(self)

    @property
    def last_line_s(self) -> float:
        """When it last had a line that carried something; now, if it has."""
        if self.line is not None and not self.line.half_open and not self.line.over:
            self._last_line_s = self.loop.time()
        return self._last_line_s

    def begin(self, after_s: float) -> None:
        self.feed(events.Begin(after_s=after_s))

    def reboot(self, after_s: float) -> None:
        """Power lost: what was in memory is gone; the same identity comes back."""
        self.history.fault("endpoint reboots", self.name)
        self._drop_line("the endpoint rebooted")
        for display in tuple(self.displays.values()):
            display.close()
        if self._timer is not None:
            self._timer.cancel()
        self._due = inf
        self.core = self._boot()
        self.feed(events.Begin(after_s=after_s))

    # ------------------------------------------------------------------- the core

    def feed(self, event: events.Event) -> None:
        for command in self.core.handle(event, self.loop.time()):
            act = self._acts.get(type(command))
            if act is not None:
                act(self, command)
        due = self.core.due
        if due != self._due:
            self._due = due
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if due == inf else self.loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._due = inf
        self.feed(events.TimePassed())

    def _later(self, act: Callable[..., None], *args: Any) -> None:
        self.loop.call_later(self.chance.random() * LATENCY_S, act, *args)

    # ------------------------------------------------------------------- the link

    def _connect(self, command: commands.Connect) -> None:
        self._net.connecting(self)
        self._later(self._connected, command.link_no)

    def _connected(self, link_no: int) -> None:
        process = self._net.any_process() if self.reachable else None
        if process is None:
            self.feed(events.LinkLost(link_no=link_no, why="nobody answers"))
            return
        self.history.operation("endpoint connects", f"{self.name} {process.name}")
        if self._net.weather.order_repeated > self.chance.random():
            self.loop.call_later(self.chance.random() * REPEAT_S, self.repeat_old_order)
        line = SimLine(self, link_no)
        line.taken = self._taken
        self.line = line
        process.accept(line)
        self.feed(events.LinkOpened(link_no=link_no))

    def _taken(self, data: bytes) -> None:
        """A broker handles a message of this station."""
        kind = data[9 : data.index(b'"', 9)].decode()
        self.history.operation(f"endpoint {kind}", f"{self.name} {len(data)}")

    def _send(self, command: commands.Send) -> None:
        data = command.data
        if data.startswith(_FRESH):
            fresh = cast("wire.Fresh", wire.decode_from_agent(data))
            self._net.made_fresh(fresh.desktop_id, fresh.generation)
        if self.line is not None:
            self.line.say(data)

    def _ping(self, _: commands.Ping) -> None:
        line = self.line
        if line is not None:
            self.loop.call_later(self.chance.random() * LATENCY_S, self._pong, line)

    def _pong(self, line: SimLine) -> None:
        if not line.closed and not line.half_open and not line.over:
            self.feed(events.LinkPong(link_no=line.link_no))

    def arrived(self, line: SimLine, data: bytes) -> None:
        """A message from the broker."""
        if line is self.line:
            if data.startswith((b'{"type":"start"', b'{"type":"stop"', b'{"type":"make_fresh"')):
                self.old_orders.append(data)
            self.feed(events.LinkText(link_no=line.link_no, data=data))

    def repeat_old_order(self) -> None:
        """An order that was on its way when an earlier link ended comes once more."""
        line = self.line
        if line is not None and self.old_orders and self.core.link.is_up:
            data = self.old_orders[int(self.chance.random() * len(self.old_orders))]
            self.history.fault("old order again", f"{self.name} {len(data)}")
            self.feed(events.LinkText(link_no=line.link_no, data=data))

    def ended(self, line: SimLine, why: str) -> None:
        if line is self.line:
            self._last_line_s = self.loop.time()
            self.line = None
            self.feed(events.LinkLost(link_no=line.link_no, why=why))

    def _close_link(self, _: commands.CloseLink) -> None:
        self._last_line_s = self.last_line_s
        line, self.line = self.line, None
        if line is not None:
            line.hang_up()

    def _drop_line(self, why: str) -> None:
        self._last_line_s = self.last_line_s
        line, self.line = self.line, None
        if line is not None:
            line.over = True
            line.broken(why)

    def cut(self) -> None:
        """The connection breaks, and both ends notice."""
        if self.line is not None:
            self.line.broken("cut")

    def freeze_line(self) -> None:
        """The connection dies and neither end is told."""
        if self.line is not None:
            self._last_line_s = self.last_line_s
            self.line.half_open = True

    def _finish(self, command: commands.Finish) -> None:
        self.on = False
        self._net.gave_up(self, command.code)

    # ------------------------------------------------------------------ enrolment

    def _save(self, command: commands.SaveIdentity) -> None:
        self.identity = command.identity

    def _enrol(self, command: commands.Enrol) -> None:
        self.loop.spawn(self._run_enrol(command.request), None, "enrolment")

    async def _run_enrol(self, request: wire.EnrolRequest) -> None:
        refused = events.EnrolRefused(code="link.unreachable")
        token = await self._net.enrolment_token()
        process = self._net.any_process() if self.reachable else None
        if process is None or token is None:
            self.feed(refused)
            return
        self.history.operation("endpoint enrols", self.name)
        enrolment = Enrolment(
            name=request.name,
            kind=request.kind,
            location=request.location,
            public_key=bytes.fromhex(request.public_key),
            agent_version=request.agent_version,
        )
        try:
            endpoint = await process.ask(lambda all_: all_.endpoints.enrol(token, enrolment))
        except (TriviumError, ConnectionError):
            self.feed(refused)
            return
        installation = process.services.endpoints.installation_id
        answer = wire.EnrolAnswer(endpoint_id=endpoint.id, installation_id=installation)
        self.feed(events.Enrolled(answer=answer))

    # ------------------------------------------------------------------- displays

    def _open_display(self, command: commands.OpenDisplay) -> None:
        display = Display(self, command.session_id, command.ref, command.ticket)
        self.displays[command.session_id] = display
        self._later(display.open, self._net.any_process() if self.reachable else None)

    def _close_display(self, command: commands.CloseDisplay) -> None:
        display = self.displays.get(command.session_id)
        if display is not None:
            display.close()

    def display_gone(self, session_id: str, display: Display) -> None:
        if self.displays.get(session_id) is display:
            del self.displays[session_id]

    # ------------------------------------------------------------------- segments

    def _check_image(self, command: commands.CheckImage) -> None:
        image = command.image
        missing = tuple(
            index for index in range(image.segments) if (image.image_id, index) not in self.disk
        )
        checked = events.ImageChecked(
            session_id=command.session_id, ref=command.ref, missing=missing
        )
        self._later(self._feed_if_same, self._boots, checked)

    def _fetch(self, command: commands.Fetch) -> None:
        delay = self.chance.random() * FETCH_S
        self.loop.call_later(delay, self._fetched, self._boots, command)

    def _fetched(self, boots: int, command: commands.Fetch) -> None:
        """As broker/web/segments.py answers: the token is checked without the store."""
        process = self._net.any_process() if self.reachable else None
        refused = process is not None
        if process is not None:
            images, now = process.services.images, process.clock.now()
            self.history.operation("segment", f"{self.name} {command.index}")
            try:
                images.check(command.token, command.image_id, now)
            except NotSignedInError:
                process = None
        event: events.Event
        if process is None:
            event = events.SegmentFailed(
                session_id=command.session_id,
                ref=command.ref,
                index=command.index,
                refused=refused,
                why="refused" if refused else "nobody answers",
            )
        else:
            digest = f"{command.image_id} {command.index}".encode().hex().ljust(32, "0")[:32]
            event = events.SegmentFetched(
                session_id=command.session_id,
                ref=command.ref,
                index=command.index,
                digest=bytes.fromhex(digest),
                size=1024,
            )
        self._feed_if_same(boots, event)

    def _feed_if_same(self, boots: int, event: events.Event) -> None:
        if boots == self._boots:
            self.feed(event)

    def _keep_segment(self, command: commands.KeepSegment) -> None:
        self.disk.add((command.image.image_id, command.index))

    _acts: ClassVar[dict[type[commands.Command], Callable[[Station, Any], None]]] = {
        commands.Connect: _connect,
        commands.Send: _send,
        commands.Ping: _ping,
        commands.CloseLink: _close_link,
        commands.Finish: _finish,
        commands.SaveIdentity: _save,
        commands.Enrol: _enrol,
        commands.OpenDisplay: _open_display,
        commands.CloseDisplay: _close_display,
        commands.CheckImage: _check_image,
        commands.Fetch: _fetch,
        commands.KeepSegment: _keep_segment,
    }


def make_core(station: Station) -> Endpoint:
    """The real core, as after a boot."""
    return Endpoint(
        station.identity,
        boot_id=station.boot_id,
        chance=Chance(key_of(station.boot_id, repr(station.chance.random()))),
        model=MODEL,
        key=key_of(station.name, "steps"),
        architectures=ARCHITECTURES,
    )

"""The two ends of a display relay, as fakes: a person's socket and a desktop's console."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from broker.domain.errors import BadTicketError, EngineError, TriviumError
from broker.domain.measures import DisplayMeasure
from broker.domain.session_time import Heard
from broker.gateway.display import DisplayLeave
from broker.gateway.ends import DisplayEnd
from broker.ports import Console
from tests.support.builders import make_desktop


class FakeClient:
    """The DisplayClient port. `type` puts input in; an empty one means that it has gone."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.opened: tuple[str, int, int] | None = None
        self.protocol = ""
        self.closed: str | None = None
        self.takes = asyncio.Event()
        self.takes.set()
        self.answers = asyncio.Event()
        self.answers.set()
        self._input: asyncio.Queue[bytes] = asyncio.Queue()

    def type(self, data: bytes) -> None:
        self._input.put_nowait(data)

    async def ready(self, session_id: str, width: int, height: int, protocol: str) -> None:
        self.opened, self.protocol = (session_id, width, height), protocol

    async def ping(self) -> None:
        await self.answers.wait()

    async def receive(self) -> bytes:
        return await self._input.get()

    async def send(self, frame: bytes) -> None:
        await self.takes.wait()
        self.frames.append(frame)

    async def close(self, code: str, detail: str) -> None:
        self.closed = self.closed or code


class FakeConsole:
    """The Console port: shows what the test puts in, keeps what it is sent."""

    size = (800, 600)
    protocol = "simulated"

    def __init__(self) -> None:
        self.input: list[bytes] = []
        self.asked = 0
        self.closed = False
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()

    def show(self, *frames: bytes) -> None:
        for frame in frames:
            self._frames.put_nowait(frame)

    async def receive(self) -> bytes:
        self.asked += 1
        return await self._frames.get()

    async def send(self, data: bytes) -> None:
        self.input.append(data)

    async def close(self) -> None:
        self.closed = True
        self._frames.put_nowait(b"")


class EndlessConsole(FakeConsole):
    """Always has a frame, at once."""

    async def receive(self) -> bytes:
        self.asked += 1
        return b"frame"


class FakeDesk:
    """The DisplayDesk: tickets are `t-` and the session's id and work once; it notes what it is
    told. `refuse` names the step that fails, `hold` the event that `connect` waits for, `store`
    the one that `opened` does."""

    def __init__(self, *consoles: Console) -> None:
        self.consoles = list(consoles)
        self.used: set[str] = set()
        self.told: list[tuple[str, str]] = []
        self.asked_to_note: list[str | None] = []
        self.closed_displays: list[str | None] = []
        self.bytes: list[Mapping[str, int]] = []
        self.last_inputs: dict[str, Heard] = {}
        self.measures: list[DisplayMeasure] = []
        self.rests: list[tuple[DisplayEnd, DisplayMeasure]] = []
        self.refuse: dict[str, TriviumError] = {}
        self.hold = asyncio.Event()
        self.hold.set()
        self.store = asyncio.Event()
        self.store.set()

    def _step(self, name: str) -> None:
        if name in self.refuse:
            raise self.refuse[name]

    async def redeem(
        self, ticket: str, session_id: str | None, browser: str | None = None
    ) -> DisplayLeave:
        kind, _, rest = ticket.partition("-")
        if kind != "t" or ticket in self.used:
            raise BadTicketError
        self.used.add(ticket)
        session, _, display = rest.partition("/")
        return DisplayLeave(
            session_id=session,
            desktop=make_desktop(),
            browser=browser or display or None,
            display=display or None,
        )

    async def connect(self, leave: DisplayLeave) -> Console:
        await self.hold.wait()
        self._step("connect")
        if not self.consoles:
            raise EngineError("the machine does not run")
        return self.consoles.pop(0)

    async def opened(self, leave: DisplayLeave) -> None:
        self._step("opened")
        self.asked_to_note.append(leave.display)
        await self.store.wait()
        self.told.append((leave.session_id, "opened"))

    async def closed(self, leave: DisplayLeave, why: DisplayEnd) -> None:
        self.told.append((leave.session_id, why))
        self.closed_displays.append(leave.display)

    def inputs(self, last_of: Mapping[str, Heard]) -> None:
        self.last_inputs.update(last_of)

    def measured(self, measures: Sequence[DisplayMeasure]) -> None:
        self.measures.extend(measures)

    def over(self, why: DisplayEnd, rest: DisplayMeasure) -> None:
        self.rests.append((why, rest))

    async def traffic(self, bytes_of: Mapping[str, int]) -> Mapping[str, int]:
        self._step("traffic")
        self.bytes.append(dict(bytes_of))
        return {}

"""A simulated machine's display: pictures at the pace and size of what people do.

The format is that of frames.py. First comes a whole desktop (screen, wallpaper, taskbar, a
window that names the desktop and its generation); after it updates, as big and as often as the
workload of the moment makes them; a click or a key is answered at once, where it happened.
Who does nothing costs nearly nothing on the wire.

Sizes: a workload's kbit/s, times `speed` (an hour of work in a minute sends an hour's bytes).
Updates do not come more often than UPDATE_S_MIN apart and carry at least UPDATE_BYTES_MIN, so
that headers do not outweigh what they stand for: where figures would ask for more or smaller
ones, each covers a longer time instead.

The display is pulled: nothing is made that nobody receives, so a slow client gets fewer, larger
updates, and what piles up past DEBT_BYTES_MAX is dropped, as a real display protocol would
send the newest picture only.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection
from typing import Final

from broker.engines.simulated.frames import (
    KEY,
    PRESSED,
    Box,
    Colour,
    InputEvent,
    fill,
    input_events,
    screen,
    text,
)
from broker.engines.simulated.profile import DisplayModel, Workload
from broker.limits import FRAME_BYTES_MAX
from broker.ports import Chance, Clock
from broker.waiting import sleep_or_set

WIDTH: Final = 1920
HEIGHT: Final = 1080
"""pixels; the figures are for a 1080p screen"""
UPDATE_S_MIN: Final = 0.25
"""seconds of the clock between two updates"""
ACTIVITY_S_MIN: Final = 1.0
"""seconds of the clock that a workload lasts, however fast time runs"""
UPDATE_BYTES_MIN: Final = 64
DEBT_BYTES_MAX: Final = 4 * FRAME_BYTES_MAX
ECHOES_MAX: Final = 16
"""answers to input that wait for the client; the oldest go first"""
TYPED_CHARS_MAX: Final = 60
KBIT_BYTES: Final = 125
"""bytes in a kbit"""

_WALLPAPER: Colour = (38, 84, 124)
_TASKBAR: Colour = (24, 28, 36)
_WINDOW: Colour = (246, 247, 249)
_TITLE: Colour = (60, 72, 92)
_INK: Colour = (20, 24, 32)
_PALE: Colour = (236, 240, 246)
_MARK: Colour = (239, 108, 60)
_BACKSPACE, _ENTER = 8, 13

_APP = Box(x=240, y=120, w=1440, h=800)
_TITLE_BOX = Box(x=_APP.x, y=_APP.y, w=_APP.w, h=48)
_PAGE = Box(x=_APP.x + 24, y=_APP.y + 72, w=_APP.w - 48, h=_APP.h - 168)
_LINE = Box(x=_APP.x + 24, y=_APP.y + _APP.h - 72, w=_APP.w - 48, h=48)


class SimulatedConsole:
    """One open display of one machine; see the module. `on_close` is called once. `beside`: the
    machine's other displays that are open, now and later; what is done in one shows in all."""

    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        model: DisplayModel,
        title: str,
        speed: float = 1.0,
        on_close: Callable[[SimulatedConsole], object] = lambda _: None,
        beside: Collection[SimulatedConsole] = (),
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._model = model
        self._title = title
        self._speed = speed
        self._on_close = on_close
        self._wake = asyncio.Event()
        self._closed = False
        self._first = True
        self._echoes: list[bytes] = []
        self._beside = beside
        self._typed = next((one.typed for one in beside), "")
        self._debt = 0.0
        self._at = clock.monotonic()
        self._activity = model.workloads[0]
        self._bytes_s = 0.0
        self._until = self._at
        self._due = self._at
        self._updated = self._at

    @property
    def protocol(self) -> str:
        return "simulated"

    @property
    def size(self) -> tuple[int, int]:
        return WIDTH, HEIGHT

    async def receive(self) -> bytes:
        """The next frame; waits for one to fall due. b"" once closed."""
        while not self._closed:
            self._wake.clear()
            if self._first:
                self._first = False
                self._begin_activity()
                return self._picture()
            if self._echoes:
                return self._echoes.pop(0)
            now = self._clock.monotonic()
            if now >= self._until:
                self._accrue(now)
                self._begin_activity()
                bar = self._title_bar()
                self._debt -= len(bar)
                return bar
            if now >= self._due:
                self._accrue(now)
                self._due = now + self._pause()
                if self._debt >= UPDATE_BYTES_MIN // 2:
                    return self._update(now)
                continue
            await sleep_or_set(self._clock, min(self._due, self._until) - now, self._wake)
        return b""

    async def send(self, data: bytes) -> None:
        """Input: a click leaves a mark, a key shows in the window's line; the rest is silent."""
        for event in input_events(data):
            answer = self._answer(event)
            if answer is not None and not self._closed:
                for one in {self: None, **dict.fromkeys(self._beside)}:
                    one.echo(answer, self._typed)

    @property
    def typed(self) -> str:
        """What stands in the window's line."""
        return self._typed

    def echo(self, answer: bytes, typed: str) -> None:
        """What was done here, or in another display of the machine, shows."""
        self._typed = typed
        self._echoes = [*self._echoes[1 - ECHOES_MAX :], answer]
        self._wake.set()

    async def close(self) -> None:
        self.end()

    def end(self) -> None:
        """The display goes away now; `receive` answers b"" from here on."""
        if not self._closed:
            self._closed = True
            self._wake.set()
            self._on_close(self)

    # ------------------------------------------------------------------ what is sent

    def _picture(self) -> bytes:
        """The whole desktop; wallpaper and window carry the bytes of its pixels."""
        dock = fill(Box(x=0, y=HEIGHT - 48, w=WIDTH, h=48), _TASKBAR)
        dock += fill(Box(x=8, y=HEIGHT - 40, w=32, h=32), _MARK)
        front = self._title_bar() + self._typed_line()
        begin = screen(WIDTH, HEIGHT, _WALLPAPER)
        size = min(self._model.first_picture_bytes, FRAME_BYTES_MAX)
        pixels = max(size - len(begin) - len(dock) - len(front), 0) // 2
        wallpaper = fill(Box(x=0, y=0, w=WIDTH, h=HEIGHT), _WALLPAPER, pixels)
        picture = b"".join((begin, wallpaper, dock, fill(_APP, _WINDOW, pixels), front))
        self._debt += min(size - len(picture), 0)
        return picture

    def _title_bar(self) -> bytes:
        line = f"{self._title} · {self._activity.name}"
        inside = Box(x=_TITLE_BOX.x + 16, y=_TITLE_BOX.y + 10, w=_TITLE_BOX.w - 32, h=28)
        return fill(_TITLE_BOX, _TITLE) + text(inside, _PALE, line)

    def _typed_line(self) -> bytes:
        inside = Box(x=_LINE.x + 12, y=_LINE.y + 12, w=_LINE.w - 24, h=24)
        return fill(_LINE, _PALE) + text(inside, _INK, f"> {self._typed}_")

    def _update(self, now: float) -> bytes:
        """A part of the page changes; as many bytes as fell due, a frame's worth at most."""
        size = min(int(self._debt), FRAME_BYTES_MAX)
        self._debt -= size
        self._updated = now
        if self._debt >= FRAME_BYTES_MAX:
            self._due = now
        width = int(_PAGE.w * self._chance.uniform(0.1, 0.6))
        height = int(_PAGE.h * self._chance.uniform(0.05, 0.5))
        x = _PAGE.x + int((_PAGE.w - width) * self._chance.uniform(0, 1))
        y = _PAGE.y + int((_PAGE.h - height) * self._chance.uniform(0, 1))
        shade = int(self._chance.uniform(90, 250))
        colour = (shade, int(self._chance.uniform(120, 250)), 255 - shade // 3)
        return fill(Box(x=x, y=y, w=width, h=height), colour, size)

    def _answer(self, event: InputEvent) -> bytes | None:
        size = self._model.input_echo_bytes
        if event.kind == PRESSED:
            x, y = min(max(event.x, 12), WIDTH - 12), min(max(event.y, 12), HEIGHT - 12)
            return fill(Box(x=x - 12, y=y - 12, w=24, h=24), _MARK, size)
        if event.kind == KEY:
            self._type(event.code)
            line = self._typed_line()
            return fill(_LINE, _PALE, size - len(line)) + line
        return None

    def _type(self, code: int) -> None:
        if code == _ENTER:
            self._typed = ""
        elif code == _BACKSPACE:
            self._typed = self._typed[:-1]
        elif code <= sys.maxunicode and chr(code).isprintable():
            self._typed = (self._typed + chr(code))[-TYPED_CHARS_MAX:]

    # ------------------------------------------------------------------ how much, when

    def _begin_activity(self) -> None:
        """Draw what the person does next and for how long."""
        now = self._clock.monotonic()
        self._activity = self._drawn_workload()
        kbit_s = self._chance.uniform(*self._activity.kbit_s)
        self._bytes_s = kbit_s * KBIT_BYTES * self._speed
        lasts_s = self._chance.uniform(*self._model.activity_s) / self._speed
        self._until = now + max(lasts_s, ACTIVITY_S_MIN)
        self._at = now
        begins = now + self._pause() * self._chance.uniform(0, 1)
        self._due = max(begins, self._updated + UPDATE_S_MIN)

    def _drawn_workload(self) -> Workload:
        """One by its share; the last where rounding leaves nothing over."""
        workloads = self._model.workloads
        left = self._chance.uniform(0, sum(one.share for one in workloads))
        for one in workloads:
            left -= one.share
            if left < 0:
                return one
        return workloads[-1]

    def _pause(self) -> float:
        """Clock seconds to the next update: the workload's, unless that would be too short or
        leave too little to send. Nothing to send at all: until the activity ends."""
        if self._bytes_s <= 0:
            return self._until - self._clock.monotonic()
        enough_s = UPDATE_BYTES_MIN / self._bytes_s
        return max(UPDATE_S_MIN, self._activity.update_s / self._speed, enough_s)

    def _accrue(self, now: float) -> None:
        """Bytes that fell due since the last look."""
        self._debt = min(self._debt + (now - self._at) * self._bytes_s, DEBT_BYTES_MAX)
        self._at = now

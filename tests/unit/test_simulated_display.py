"""The simulated display: format, sizes, pace."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engines.simulated import load_calibration
from broker.engines.simulated.display import (
    ECHOES_MAX,
    HEIGHT,
    KBIT_BYTES,
    TYPED_CHARS_MAX,
    UPDATE_S_MIN,
    WIDTH,
    SimulatedConsole,
)
from broker.engines.simulated.frames import (
    FILL,
    HEADER,
    KEY,
    MOVED,
    PRESSED,
    SCREEN,
    TEXT,
    Box,
    InputEvent,
    fill,
    input_events,
    input_message,
    records,
)
from broker.limits import DISPLAY_INPUT_BYTES_MAX, FRAME_BYTES_MAX
from broker.system import SystemChance
from tests.support.clock import ManualClock

MODEL = load_calibration().display


def console(
    clock: ManualClock,
    *,
    workload: str | None = None,
    speed: float = 1,
    picture: int = 300_000,
) -> SimulatedConsole:
    """A display on which people do nothing but one thing (None: the usual mix)."""
    chosen = tuple(one for one in MODEL.workloads if workload in {None, one.name})
    return SimulatedConsole(
        clock=clock,
        chance=SystemChance(1),
        model=replace(MODEL, workloads=chosen, first_picture_bytes=picture),
        title="library-001, generation 4",
        speed=speed,
    )


async def watch(
    display: SimulatedConsole, clock: ManualClock, seconds: float
) -> list[tuple[float, bytes]]:
    """Every frame of that long a look, with the time it came."""
    frames: list[tuple[float, bytes]] = []

    async def look() -> None:
        while frame := await display.receive():
            frames.append((clock.monotonic(), frame))

    async with asyncio.TaskGroup() as group:
        group.create_task(look())
        await clock.advance(seconds)
        await display.close()
    return frames


async def size_of(workload: str, seconds: float, speed: float = 1) -> int:
    clock = ManualClock()
    display = console(clock, workload=workload, picture=0, speed=speed)
    return sum(len(frame) for _, frame in await watch(display, clock, seconds))


async def test_the_first_frame_is_a_whole_desktop_that_names_itself() -> None:
    display = console(ManualClock())
    frame = await display.receive()
    found = list(records(frame))
    assert display.size == (WIDTH, HEIGHT)
    assert found[0].type == SCREEN
    assert (found[0].box.w, found[0].box.h) == (WIDTH, HEIGHT)
    assert sum(record.type == FILL for record in found) >= 4
    texts = [record.payload.decode() for record in found if record.type == TEXT]
    assert any("library-001, generation 4" in text for text in texts)
    assert 0.9 * FRAME_BYTES_MAX < len(frame) <= FRAME_BYTES_MAX


@pytest.mark.parametrize("workload", ["word", "excel", "web", "gallery", "video"])
async def test_a_workload_sends_what_the_figures_say(workload: str) -> None:
    (low, high) = next(one.kbit_s for one in MODEL.workloads if one.name == workload)
    sent = await size_of(workload, 600)
    assert 0.95 * low <= sent / 600 / KBIT_BYTES <= 1.05 * high


async def test_an_idle_desktop_sends_nearly_nothing() -> None:
    clock = ManualClock()
    frames = await watch(console(clock, workload="idle", picture=0), clock, 600)
    assert sum(len(frame) for _, frame in frames[1:]) < 600 * 10
    assert len(frames) < 100


async def test_speed_sends_an_hours_bytes_in_a_tenth_of_it() -> None:
    plain, fast = await size_of("web", 600), await size_of("web", 60, speed=10)
    assert 0.8 < fast / plain < 1.25


@pytest.mark.parametrize("speed", [1, 100])
async def test_updates_never_come_faster_than_the_limit(speed: int) -> None:
    clock = ManualClock()
    frames = await watch(console(clock, workload="word", speed=speed), clock, 20)
    times = [at for at, frame in frames[1:] if len(list(records(frame))) == 1]
    assert len(times) > 5
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) >= UPDATE_S_MIN - 1e-9


async def test_a_client_that_does_not_look_is_owed_a_bounded_amount() -> None:
    clock = ManualClock()
    display = console(clock, workload="video")
    await display.receive()
    await clock.advance(3600)
    frames = [frame for _, frame in await watch(display, clock, UPDATE_S_MIN)]
    assert sum(len(frame) for frame in frames) > FRAME_BYTES_MAX
    assert max(len(frame) for frame in frames) <= FRAME_BYTES_MAX
    assert sum(len(frame) for frame in frames) < 6 * FRAME_BYTES_MAX


async def test_a_click_is_answered_where_it_happened() -> None:
    display = console(ManualClock(), workload="idle")
    await display.receive()
    await display.send(input_message(InputEvent(kind=PRESSED, x=700, y=400, code=1)))
    (mark,) = records(await display.receive())
    assert mark.box.x <= 700 <= mark.box.x + mark.box.w
    assert mark.box.y <= 400 <= mark.box.y + mark.box.h


async def test_typed_keys_appear_as_text_and_backspace_and_enter_work() -> None:
    display = console(ManualClock(), workload="idle")
    await display.receive()

    async def type_and_read(codes: list[int]) -> str:
        await display.send(
            input_message(*(InputEvent(kind=KEY, x=0, y=0, code=code) for code in codes))
        )
        shown = ""
        for _ in codes:
            shown = list(records(await display.receive()))[-1].payload.decode()
        return shown

    assert await type_and_read([ord("你"), ord("o"), ord("k"), 8]) == "> 你o_"
    assert await type_and_read([0x1B, 0x110000, 13]) == "> _"


async def test_typing_on_and_on_stays_bounded() -> None:
    display = console(ManualClock(), workload="idle")
    await display.receive()
    events = [InputEvent(kind=KEY, x=0, y=0, code=ord("a"))] * 200
    await display.send(input_message(*events))
    await display.send(input_message(*events))
    for _ in range(ECHOES_MAX):
        line = list(records(await display.receive()))[-1].payload.decode()
        assert len(line) <= TYPED_CHARS_MAX + 3
    assert display._echoes == []


async def test_moving_the_pointer_and_garbage_send_nothing() -> None:
    clock = ManualClock()
    display = console(clock, workload="idle")
    await display.receive()
    await display.send(input_message(InputEvent(kind=MOVED, x=5, y=5, code=0)))
    await display.send(b"\x09" * 8)
    await display.send(b"\x02" * (DISPLAY_INPUT_BYTES_MAX + 1))
    assert display._echoes == []


async def test_closing_wakes_whoever_waits_for_a_frame() -> None:
    clock = ManualClock()
    closed: list[SimulatedConsole] = []
    display = console(clock, workload="idle")
    display._on_close = closed.append
    await display.receive()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(display.receive())
        await clock.turns()
        assert not waiting.done()
        await display.close()
        display.end()
    assert waiting.result() == b""
    assert closed == [display]


@given(
    box=st.builds(
        Box, x=st.integers(0, 65535), y=st.integers(0, 65535), w=st.integers(0, 65535),
        h=st.integers(0, 65535),
    ),
    rgb=st.tuples(*[st.integers(0, 255)] * 3),
    size=st.integers(-5, 3000),
)  # fmt: skip
def test_a_rectangle_is_read_back_as_written_and_as_large_as_asked(
    box: Box, rgb: tuple[int, int, int], size: int
) -> None:
    written = fill(box, rgb, size)
    (record,) = records(written)
    assert (record.type, record.box, record.rgb) == (FILL, box, rgb)
    assert len(written) == max(size, HEADER.size)


@given(st.binary(max_size=200))
def test_a_frame_that_is_none_is_refused_with_one_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert sum(HEADER.size + len(record.payload) for record in records(data)) == len(data)


@given(st.binary(max_size=5000))
def test_any_input_is_read_without_an_error(data: bytes) -> None:
    assert len(list(input_events(data))) <= DISPLAY_INPUT_BYTES_MAX // 9

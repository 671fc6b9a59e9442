"""A real desktop's display in the browser: noVNC, against a VNC server that draws and listens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import Page, expect

from tests.console.test_live import until_ready
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker
from tests.support.rfb_server import colour_after
from tests.support.screens import EngineWithScreen, with_screen

PIXEL = """() => {
  const canvas = document.querySelector("[data-vnc] canvas");
  if (!canvas || !canvas.width) return "";
  const spot = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  spot.drawImage(canvas, canvas.width >> 1, canvas.height >> 1, 1, 1, 0, 0, 1, 1);
  return [...spot.getImageData(0, 0, 1, 1).data].slice(0, 3).join(",");
}"""
HURRY = """
  const wait = setTimeout;
  window.setTimeout = (work, ms, ...rest) => wait(work, ms / 50, ...rest);
"""
SAYS = """() => {
  const words = document.getElementById("screen-words");
  window.said = [];
  new MutationObserver(() => window.said.push(words.textContent))
    .observe(words, { childList: true });
}"""
"""what it says for a moment is kept"""
AT_REST = """() => new Promise((resolve) => {
  const there = () => JSON.stringify(["[data-vnc] canvas", "[data-vnc]"].map((one) => {
    const { x, y, width, height } = document.querySelector(one).getBoundingClientRect();
    return [x, y, width, height];
  }));
  let before = there();
  const clock = setInterval(() => {
    const now = there();
    if (now === before) { clearInterval(clock); resolve(JSON.parse(now)); }
    before = now;
  }, 500);
})"""
"""boxes of the picture and of its place, once neither moves"""
TRIES_MAX = 18
"""of display.js"""
CTRL, ALT, DELETE, TAB = 0xFFE3, 0xFFE9, 0xFFFF, 0xFF09


@pytest.fixture
def screen(school: LiveBroker) -> Iterator[EngineWithScreen]:
    until_ready(school)
    with with_screen(school) as engine:
        yield engine


def connect(page: Page) -> None:
    page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    expect(page.locator("#screen")).to_have_attribute("data-open", "yes")
    expect(page.locator("#screen")).to_have_attribute("data-protocol", "vnc")


def until_drawn(page: Page, keys: int) -> None:
    """The picture is the one after so many keys."""
    wanted = ",".join(map(str, colour_after(keys)))
    page.wait_for_function(f"() => ({PIXEL})() === {wanted!r}")


def test_a_person_sees_a_real_desktop_and_types_into_it(
    screen: EngineWithScreen, visitor: Visitors
) -> None:
    one = visitor("li")
    connect(one.page)
    until_drawn(one.page, 0)
    expect(one.page.locator("[data-simulated]")).to_be_hidden()
    expect(one.page.locator("[data-vnc] canvas")).to_be_focused()
    one.page.keyboard.type("hello, desk")
    until_drawn(one.page, 11)
    assert screen.server.keys == [ord(letter) for letter in "hello, desk"]
    expect(one.page.locator("#screen-trip")).to_have_text(re.compile(r"^\d+ ms$"))
    expect(one.page.locator("#screen-down")).not_to_have_text("0 B")
    expect(one.page.locator("#screen-up")).not_to_have_text("0 B")


def test_a_click_reaches_the_desktop_where_it_was_made(
    screen: EngineWithScreen, visitor: Visitors
) -> None:
    one = visitor("li")
    connect(one.page)
    until_drawn(one.page, 0)
    expect(one.page.locator("#status")).to_contain_text("Since")
    (left, top, width, height), _ = one.page.evaluate(AT_REST)
    one.page.mouse.click(left + width / 4, top + height / 2)
    one.page.keyboard.press("a")
    until_drawn(one.page, 1)
    ((x, y),) = screen.server.clicks
    assert abs(x - screen.server.width / 4) <= 1
    assert abs(y - screen.server.height / 2) <= 1


def test_ctrl_alt_del_goes_to_the_desktop_and_the_keyboard_comes_back_by_ctrl_alt_esc(
    screen: EngineWithScreen, visitor: Visitors
) -> None:
    one = visitor("li")
    connect(one.page)
    canvas = one.page.locator("[data-vnc] canvas")
    one.page.get_by_role("button", name="Ctrl+Alt+Del").click()
    until_drawn(one.page, 3)
    assert screen.server.keys == [CTRL, ALT, DELETE]
    # Tab is the desktop's
    expect(canvas).to_be_focused()
    one.page.keyboard.press("Tab")
    until_drawn(one.page, 4)
    assert screen.server.keys[-1] == TAB
    expect(canvas).to_be_focused()
    one.page.keyboard.press("Control+Alt+Escape")
    expect(canvas).not_to_be_focused()


def test_a_desktop_that_closes_its_display_is_shown_again_by_itself(
    school: LiveBroker, screen: EngineWithScreen, visitor: Visitors
) -> None:
    one = visitor("li")
    connect(one.page)
    address = one.page.url
    one.page.keyboard.type("ab")
    until_drawn(one.page, 2)
    screen.away = 2
    one.page.evaluate(SAYS)
    school.loop.call_soon_threadsafe(screen.server.hang_up)
    one.page.wait_for_function(f"() => window.said.includes({'the desktop closed the display'!r})")
    expect(one.page.locator("#screen")).to_have_attribute("data-open", "yes")
    until_drawn(one.page, 2)
    assert (screen.opened, screen.away) == (2, 0)
    assert one.page.url == address
    one.page.keyboard.type("c")
    until_drawn(one.page, 3)


def test_a_display_that_stays_away_is_asked_for_so_often_and_then_by_hand(
    school: LiveBroker, screen: EngineWithScreen, visitor: Visitors
) -> None:
    one = visitor("li")
    one.context.add_init_script(HURRY)
    one.open("/me")
    connect(one.page)
    screen.away = 1000
    school.loop.call_soon_threadsafe(screen.server.hang_up)
    page = one.page
    school.until_true(partial(_asked, screen, TRIES_MAX))
    expect(page.locator("#screen-words")).to_contain_text("does not run")
    page.wait_for_timeout(1_000)
    assert screen.away == 1000 - TRIES_MAX
    screen.away = 0
    page.get_by_role("button", name="Open again").click()
    expect(page.locator("#screen")).to_have_attribute("data-open", "yes")
    until_drawn(page, 0)


def test_an_operator_who_ends_the_session_takes_the_picture_away(
    school: LiveBroker, screen: EngineWithScreen, visitor: Visitors
) -> None:
    one = visitor("li", hints_only=True)
    connect(one.page)
    until_drawn(one.page, 0)
    expect(one.page.locator("#live-sign")).to_have_text("live")
    school.log_off(school.users["operator"], one.page.url.rpartition("/")[2])
    expect(one.page.locator("#status")).to_contain_text("This session is over.")
    expect(one.page.locator("#screen")).to_be_hidden()
    assert screen.opened == 1
    one.page.wait_for_function(f"() => ({PIXEL})() === ''")  # nor is the last picture there


def test_what_is_no_picture_is_said_and_not_asked_for_again(
    screen: EngineWithScreen, visitor: Visitors
) -> None:
    screen.server.types = b"\x63"  # no kind of sign-in that there is
    one = visitor("li")
    one.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    words = "the desktop sent something that is not a picture"
    expect(one.page.locator("#screen-words")).to_have_text(words)
    expect(one.page.get_by_role("button", name="Open again")).to_be_visible()
    one.page.wait_for_timeout(2_000)
    assert screen.opened == 1


def test_support_sees_what_the_display_carries(
    school: LiveBroker, screen: EngineWithScreen, visitor: Visitors
) -> None:
    one = visitor("li")
    connect(one.page)
    one.page.keyboard.type("ab")
    until_drawn(one.page, 2)
    assert screen.opened == 1
    two = visitor("operator")

    async def flush() -> None:
        await school.running.broker.displays.flush()

    school.ask(flush())
    two.open(f"/sessions/{one.page.url.rpartition('/')[2]}")
    card = two.page.get_by_role("region", name="Display")
    expect(card).to_contain_text(re.compile(r"To the person\s*[\d.,]+ [kM]?B/s"))
    expect(card).to_contain_text(re.compile(r"From the person\s*[\d.,]+ [kM]?B/s"))
    expect(card).to_contain_text(re.compile(r"Round trip\s*[\d.]+ ms"))


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_picture_fits_every_window(
    screen: EngineWithScreen, visitor: Visitors, width: int
) -> None:
    screen.server.width, screen.server.height = 1280, 800
    one = visitor("li", viewport={"width": width, "height": 800})
    connect(one.page)
    until_drawn(one.page, 0)
    expect(one.page.locator("#status")).to_contain_text("Since")
    (_, _, width_, height_), (_, _, room, room_) = one.page.evaluate(AT_REST)
    assert one.overflow() == 0
    assert abs(width_ / height_ - 1.6) < 0.02
    assert width_ <= room + 1
    assert height_ <= room_ + 1
    assert max(width_ / room, height_ / room_) > 0.98


async def _asked(screen: EngineWithScreen, times: int) -> bool:
    return screen.away <= 1000 - times

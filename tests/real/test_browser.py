"""A real desktop in real Chromium: what noVNC shows is what the machine draws."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from broker.domain.model import Desktop, DesktopState, SessionState
from broker.ports import PageQuery
from tests.console.conftest import browser, visitor
from tests.support.browsing import Visitor, Visitors, launched
from tests.support.guest_machine import Screen, letters, window
from tests.support.libvirt_lab import LibvirtLab
from tests.support.live_broker import LiveBroker, live_broker
from tests.support.real_guests import (
    END,
    SERIAL_HEARD_S,
    RealGuests,
    difference,
    heard_of,
    png,
    to_serial,
)
from tests.support.real_school import DESKTOP, GENEROUS_S, PEOPLE, roster
from tests.support.rfb import SHIFTED

__all__ = ["browser", "visitor"]
pytestmark = pytest.mark.timeout(2 * GENEROUS_S)
SECRET = "the-secret-of-ann"
SAME = 0.02
"""a clock ticks between two pictures"""
SETTLED_S = 3.0
"""a key that got through would be on the screen by then"""
KEY_MS = 80
KEYS = {"\n": "Enter", "\b": "Backspace", " ": "Space"}
PICTURE = "() => document.querySelector('#screen [data-vnc] canvas').toDataURL('image/png')"


@pytest.fixture
def other_browser(broker: LiveBroker, browser: Browser) -> Iterator[Visitors]:
    """As `visitor`, from another Chromium."""
    made: list[Visitor] = []
    with launched(browser.browser_type) as chromium:

        def come(username: str = "", **options: Any) -> Visitor:
            made.append(Visitor(chromium, broker.url, username, **options))
            return made[-1]

        yield come
        for one in made:
            one.leave()


@pytest.fixture
def broker(desktop_lab: LibvirtLab, tmp_path: Path) -> Iterator[LiveBroker]:
    """A broker with one desktop, and two people."""
    files = roster(desktop_lab, (desktop_lab.first,), people=0, image=DESKTOP, size=1, spares=1)
    database = f"sqlite:///{tmp_path / 'trivium.db'}"
    with live_broker(tmp_path, {"speed": "1", "database_url": database}) as running:
        texts = {name.removesuffix(".csv"): text for name, text in files.items()}
        running.roster(**{name: text for name, text in texts.items() if name != "users"})
        running.ask(unlocked(running))
        for name in PEOPLE:
            running.person(name, groups=("pupils",))
        yield running


async def unlocked(broker: LiveBroker) -> None:
    """Nothing covers the screen when its person comes back."""
    [pool] = await broker.store.directory.pools()
    settings = replace(pool.settings, lock_on_disconnect=False)
    await broker.store.directory.save_pool(replace(pool, settings=settings), new=False)


def soon(look: Callable[[], object], what: str) -> None:
    until = time.monotonic() + GENEROUS_S
    while not look():
        assert time.monotonic() < until, f"no {what}"
        time.sleep(0.2)


def ready(broker: LiveBroker, generation: int) -> Desktop:
    """The desktop, once it is that fresh and ready."""

    async def find() -> Desktop | None:
        desktops = (await broker.store.desktops.desktops(PageQuery())).items
        fit = (DesktopState.READY, generation)
        return next((one for one in desktops if (one.state, one.generation) == fit), None)

    soon(lambda: broker.ask(find()), f"ready desktop of generation {generation}")
    found = broker.ask(find())
    assert found is not None
    return found


def open_desktop(page: Page, word: str) -> None:
    page.get_by_role("region", name="Desk").get_by_text(word, exact=True).click()
    page.wait_for_url("**/me/sessions/*", timeout=GENEROUS_S * 1000)
    expect(page.locator("#screen")).to_have_attribute("data-open", "yes", timeout=GENEROUS_S * 1000)


def picture(page: Page) -> Screen:
    """What noVNC has drawn."""
    return png(base64.b64decode(page.evaluate(PICTURE).partition(",")[2]))


def type_keys(page: Page, text: str) -> None:
    """Press these keys as somebody does, with Shift where it is needed: the machine is told which
    keys are down, not which letters they mean."""
    for letter in text:
        shifted = letter.isupper() or letter in SHIFTED
        if shifted:
            page.keyboard.down("Shift")
        page.keyboard.press(KEYS.get(letter, letter), delay=KEY_MS)
        if shifted:
            page.keyboard.up("Shift")


def answer(page: Page, guests: RealGuests, desktop_id: str, command: str) -> str:
    """What a command prints that is typed at the browser's keyboard."""
    with guests.serial(desktop_id) as heard:
        time.sleep(SERIAL_HEARD_S)
        type_keys(page, to_serial(command))
        soon(lambda: END in heard(), f"answer to {command}")
        return heard_of(heard())


def log_off(page: Page) -> None:
    page.get_by_role("button", name="Log off").click()
    page.get_by_role("dialog").get_by_role("button", name="Log off").click()
    status = page.locator("#status")
    expect(status).to_contain_text("This session is over.", timeout=GENEROUS_S * 1000)
    expect(page.locator("#screen")).to_be_hidden()


def until_left(broker: LiveBroker) -> None:
    """Every session has been disconnected."""

    async def left() -> bool:
        found = (await broker.store.sessions.sessions(PageQuery())).items
        return all(one.state is SessionState.DISCONNECTED for one in found)

    soon(lambda: broker.ask(left()), "disconnected session")


def until_alike(page: Page, guests: RealGuests, desktop_id: str) -> Screen:
    """What noVNC has drawn, once it is what the machine draws; only the clock goes on."""

    seen: list[Screen] = []

    def alike() -> bool:
        here, there = picture(page), guests.screenshot(desktop_id)
        seen.append(here)
        return window(here) == window(there) and difference(here, there) < SAME

    soon(alike, "likeness")
    return seen[-1]


def until_at_rest(page: Page, guests: RealGuests, desktop_id: str) -> Screen:
    """As `until_alike`, once the terminal draws nothing more."""
    seen = [until_alike(page, guests, desktop_id)]

    def still() -> bool:
        time.sleep(SETTLED_S)
        seen.append(until_alike(page, guests, desktop_id))
        return window(seen[-1]) == window(seen[-2])

    soon(still, "rest")
    return seen[-1]


def until_spelt(page: Page, before: Screen) -> None:
    """The letters aba have come into the terminal."""

    def spelt() -> bool:
        after = picture(page)
        if window(after) == window(before):
            return False
        one, two, three = letters(before, after, 3)
        return one == three != two

    soon(spelt, "letters")


def test_a_person_works_at_two_browsers_and_leaves_nothing_to_the_next(
    broker: LiveBroker, desktop_lab: LibvirtLab, visitor: Visitors, other_browser: Visitors
) -> None:
    guests = RealGuests(desktop_lab)
    desktop = ready(broker, 1)
    first = visitor("ann")
    open_desktop(first.page, "Connect")
    fresh = until_alike(first.page, guests, desktop.id)
    written = f"echo {SECRET} >note; sync; cat note"
    assert answer(first.page, guests, desktop.id, written) == SECRET
    before = until_alike(first.page, guests, desktop.id)
    type_keys(first.page, "aba")
    until_spelt(first.page, before)
    worked = until_alike(first.page, guests, desktop.id)
    first.page.close()
    until_left(broker)

    second = other_browser("ann")
    open_desktop(second.page, "Open")
    assert window(until_alike(second.page, guests, desktop.id)) == window(worked)
    type_keys(second.page, "\b\b\b")
    assert answer(second.page, guests, desktop.id, "cat note") == SECRET
    log_off(second.page)
    assert ready(broker, 2).id == desktop.id

    third = other_browser("bob")
    open_desktop(third.page, "Connect")
    assert window(until_alike(third.page, guests, desktop.id)) == window(fresh)
    assert "No such file" in answer(third.page, guests, desktop.id, "cat note")
    for disk in guests.volumes().values():
        assert SECRET.encode() not in disk.read_bytes()

"""A real desktop in real Chromium: what noVNC shows is what the machine draws."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from broker.domain.model import Desktop, DesktopState
from broker.ports import PageQuery
from tests.console.conftest import browser, visitor
from tests.support.browsing import Visitors
from tests.support.guest_machine import Screen
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
SAME = 0.02
"""a clock ticks between two pictures"""
KEY_MS = 80
KEYS = {"\n": "Enter", "\b": "Backspace", " ": "Space"}
PICTURE = "() => document.querySelector('#screen [data-vnc] canvas').toDataURL('image/png')"


@pytest.fixture
def broker(desktop_lab: LibvirtLab, tmp_path: Path) -> Iterator[LiveBroker]:
    """A broker with one desktop, and two people."""
    files = roster(desktop_lab, (desktop_lab.first,), people=0, image=DESKTOP, size=1, spares=1)
    database = f"sqlite:///{tmp_path / 'trivium.db'}"
    with live_broker(tmp_path, {"speed": "1", "database_url": database}) as running:
        texts = {name.removesuffix(".csv"): text for name, text in files.items()}
        running.roster(**{name: text for name, text in texts.items() if name != "users"})
        for name in PEOPLE:
            running.person(name, groups=("pupils",))
        yield running


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


def open_desktop(page: Page) -> None:
    page.get_by_role("region", name="Desk").get_by_role("button").first.click()
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


def test_a_person_sees_in_chromium_what_the_machine_draws_and_types_into_it(
    broker: LiveBroker, desktop_lab: LibvirtLab, visitor: Visitors
) -> None:
    guests = RealGuests(desktop_lab)
    desktop = ready(broker, 1)
    first = visitor("ann").page
    open_desktop(first)
    soon(lambda: difference(picture(first), guests.screenshot(desktop.id)) < SAME, "likeness")
    before = picture(first)
    type_keys(first, "aba")
    soon(lambda: difference(picture(first), before) > 0, "letters")
    type_keys(first, "\b\b\b")
    assert answer(first, guests, desktop.id, "echo of-ann >note; cat note") == "of-ann"
    soon(lambda: difference(picture(first), guests.screenshot(desktop.id)) < SAME, "likeness")

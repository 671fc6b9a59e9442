"""A real desktop in two Chromiums: whoever looks on sees the same and types into nothing."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from broker import limits
from broker.domain.model import Role
from tests.console.conftest import browser, visitor
from tests.real.test_browser import (
    SETTLED_S,
    broker,
    open_desktop,
    other_browser,
    picture,
    ready,
    soon,
    type_keys,
    until_alike,
    until_at_rest,
    until_spelt,
)
from tests.support.browsing import Visitor, Visitors
from tests.support.guest_machine import window
from tests.support.libvirt_lab import LibvirtLab
from tests.support.live_broker import LiveBroker
from tests.support.real_guests import RealGuests
from tests.support.real_school import GENEROUS_S, desktop_lab

__all__ = ["broker", "browser", "desktop_lab", "other_browser", "visitor"]
pytestmark = pytest.mark.timeout(2 * GENEROUS_S)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine may take its time to look whether a shadow may go on."""
    monkeypatch.setattr(limits, "SHADOW_LOOK_S", 60.0)
    monkeypatch.setattr(limits, "SHADOW_UNCHECKED_S", 60.0)


def shadowed(person: Visitor, staff: Visitor, how: str) -> None:
    """Asked by one, allowed by the other, and open."""
    staff.open("/sessions")
    staff.page.get_by_role("link", name="Ann").first.click()
    staff.page.get_by_label("Reason").fill("You called")
    staff.page.get_by_role("button", name=how, exact=True).click()
    staff.page.wait_for_url(re.compile("/shadows/shd_"))
    person.page.locator("#shadows").get_by_role("button", name="Allow").click()
    screen = staff.page.locator("#screen")
    expect(screen).to_have_attribute("data-open", "yes", timeout=GENEROUS_S * 1000)


def test_the_staff_sees_a_real_desktop_and_types_only_where_it_takes_part(
    broker: LiveBroker, desktop_lab: LibvirtLab, visitor: Visitors, other_browser: Visitors
) -> None:
    guests = RealGuests(desktop_lab)
    desktop = ready(broker, 1)
    broker.person("olive", role=Role.OPERATOR)
    ann, olive = visitor("ann"), other_browser("olive")
    open_desktop(ann.page, "Connect")
    fresh = until_at_rest(ann.page, guests, desktop.id)
    shadowed(ann, olive, "Watch")
    assert window(until_alike(olive.page, guests, desktop.id)) == window(fresh)
    expect(ann.page.locator("#screen")).to_have_attribute("data-open", "yes")
    olive.page.locator("[data-vnc] canvas").click()
    type_keys(olive.page, "b")
    time.sleep(SETTLED_S)
    assert window(picture(ann.page)) == window(fresh)
    # focused and not clicked: the machine draws its pointer into the picture
    ann.page.locator("[data-vnc] canvas").focus()
    type_keys(ann.page, "aba")
    until_spelt(olive.page, fresh)
    spelt = until_at_rest(ann.page, guests, desktop.id)
    ann.page.locator("#shadows").get_by_role("button", name="Stop").click()
    expect(olive.page.locator("#shadow")).to_contain_text("the person stopped it")
    ann.page.locator("[data-vnc] canvas").focus()
    type_keys(ann.page, "\n")
    soon(lambda: window(picture(ann.page)) != window(spelt), "next line")
    before = until_at_rest(ann.page, guests, desktop.id)

    shadowed(ann, olive, "Take part")
    assert window(until_alike(olive.page, guests, desktop.id)) == window(before)
    olive.page.locator("[data-vnc] canvas").focus()
    type_keys(olive.page, "aba")
    until_spelt(ann.page, before)

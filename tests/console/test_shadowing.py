"""Two people at two browsers: one is asked, sees that he is watched, and stops it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.console.test_live import until_ready
from tests.console.test_my_desktops import open_display
from tests.console.test_real_display import connect, until_drawn
from tests.support.browsing import Visitor, Visitors
from tests.support.live_broker import LiveBroker
from tests.support.screens import EngineWithScreen, with_screen

REASON = "You called about the printer"
RAISED = """() => {
  const box = document.querySelector("#shadows .watcher").getBoundingClientRect();
  const top = document.elementFromPoint(box.x + 8, box.y + 8);
  const inside = box.height > 0 && box.top >= 0 && box.bottom <= innerHeight;
  return inside && Boolean(top?.closest("#shadows"));
}"""


@pytest.fixture
def screen(school: LiveBroker) -> Iterator[EngineWithScreen]:
    until_ready(school)
    with with_screen(school) as engine:
        yield engine


def ask(staff: Visitor, mode: str) -> None:
    """From the list of sessions to the question."""
    staff.open("/sessions")
    staff.page.get_by_role("link", name="Li Lei").first.click()
    staff.page.get_by_label("Reason").fill(REASON)
    staff.page.get_by_role("button", name=mode, exact=True).click()
    staff.page.wait_for_url(re.compile("/shadows/shd_"))
    expect(staff.page.locator("#shadow")).to_contain_text("is asked")


def test_the_person_allows_it_sees_who_looks_on_and_stops_it(
    screen: EngineWithScreen, visitor: Visitors
) -> None:
    li, staff = visitor("li"), visitor("operator")
    connect(li.page)
    until_drawn(li.page, 0)
    ask(staff, "Watch")
    box = li.page.locator("#shadows .watcher")
    expect(box).to_contain_text("operator of the support asks to see your desktop")
    expect(box).to_contain_text(REASON)
    li.page.wait_for_function(RAISED)
    box.get_by_role("button", name="Allow").click()
    expect(staff.page.locator("#screen")).to_have_attribute("data-open", "yes")
    until_drawn(staff.page, 0)
    expect(box).to_contain_text("sees your desktop")
    expect(box).to_contain_text("View only")
    staff.page.locator("[data-vnc] canvas").click()
    staff.page.keyboard.type("no")
    li.page.locator("[data-vnc] canvas").click()
    li.page.keyboard.type("a")
    until_drawn(staff.page, 1)
    assert screen.server.keys == [ord("a")]
    box.get_by_role("button", name="Stop").click()
    expect(staff.page.locator("#shadow")).to_contain_text("the person stopped it")
    expect(staff.page.locator("#screen")).to_be_hidden()
    expect(li.page.locator("#shadows .watcher")).to_have_count(0)
    li.page.locator("[data-vnc] canvas").click()
    li.page.keyboard.type("b")
    until_drawn(li.page, 2)


def test_who_takes_part_types_and_the_person_s_full_screen_shows_it(
    screen: EngineWithScreen, visitor: Visitors
) -> None:
    li, staff = visitor("li"), visitor("admin")
    connect(li.page)
    until_drawn(li.page, 0)
    li.page.get_by_role("button", name="Full screen").click()
    li.page.wait_for_function("document.fullscreenElement !== null")
    ask(staff, "Take part")
    box = li.page.locator("#shadows .watcher")
    expect(box).to_contain_text("asks to take part in your desktop")
    li.page.wait_for_function(RAISED)
    box.get_by_role("button", name="Allow").click()
    expect(box).to_contain_text("takes part in your desktop")
    li.page.wait_for_function(RAISED)
    until_drawn(staff.page, 0)
    staff.page.locator("[data-vnc] canvas").click()
    staff.page.keyboard.type("s")
    until_drawn(li.page, 1)
    staff.page.get_by_role("button", name="End").click()
    expect(li.page.locator("#shadows .watcher")).to_have_count(0)
    expect(staff.page.locator("#shadow")).to_contain_text("the staff ended it")


def test_a_full_screen_begun_while_somebody_looks_on_does_not_hide_it(
    screen: EngineWithScreen, visitor: Visitors
) -> None:
    li, staff = visitor("li"), visitor("operator")
    connect(li.page)
    ask(staff, "Watch")
    li.page.locator("#shadows .watcher").get_by_role("button", name="Allow").click()
    until_drawn(staff.page, 0)
    li.page.get_by_role("button", name="Full screen").click()
    li.page.wait_for_function("document.fullscreenElement !== null")
    li.page.wait_for_function(RAISED)


def test_a_refusal_shows_nothing(school: LiveBroker, visitor: Visitors) -> None:
    until_ready(school)
    li, staff = visitor("li"), visitor("operator")
    li.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(li.page)
    ask(staff, "Watch")
    li.page.locator("#shadows .watcher").get_by_role("button", name="Refuse").click()
    expect(staff.page.locator("#shadow")).to_contain_text("the person refused")
    expect(staff.page.locator("#screen")).to_be_hidden()
    expect(li.page.locator("#screen")).to_have_attribute("data-open", "yes")


def test_a_simulated_desktop_shows_what_its_person_types(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    li, staff = visitor("li"), visitor("operator")
    li.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(li.page)
    ask(staff, "Watch")
    li.page.locator("#shadows .watcher").get_by_role("button", name="Allow").click()
    expect(staff.page.locator("#screen")).to_have_attribute("data-open", "yes")
    expect(staff.page.locator("#screen")).to_have_attribute("data-protocol", "simulated")


def test_who_may_not_shadow_is_not_offered_it(school: LiveBroker, visitor: Visitors) -> None:
    until_ready(school)
    li, auditor = visitor("li"), visitor("auditor")
    li.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(li.page)
    auditor.open("/sessions")
    auditor.page.get_by_role("link", name="Li Lei").first.click()
    expect(auditor.page.locator("#shadows")).to_contain_text("Nobody sees this desktop")
    expect(auditor.page.get_by_role("button", name="Watch")).to_have_count(0)

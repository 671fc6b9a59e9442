"""Two people at two browsers: one is asked, sees that he is watched, and stops it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from broker import limits
from tests.console.test_live import until_ready
from tests.console.test_my_desktops import open_display
from tests.console.test_real_display import connect, until_drawn
from tests.support.browsing import Visitor, Visitors
from tests.support.live_broker import LiveBroker
from tests.support.screens import EngineWithScreen, with_screen

ANSWERS = """() => {
  window.answers = [];
  const seen = new Set();
  new MutationObserver(() => {
    for (const button of document.querySelectorAll("#shadows form button")) {
      const what = `${button.textContent} ${button.disabled ? "waits" : "works"}`;
      if (!seen.has(what)) window.answers.push([what, performance.now()]);
      seen.add(what);
    }
  }).observe(document, { subtree: true, childList: true, attributes: true });
}"""
"""notes in the page which answers there are, in their order, and since when, ms"""
REASON = "You called about the printer"
RAISED = """() => {
  const box = document.querySelector("#shadows .watcher").getBoundingClientRect();
  const top = document.elementFromPoint(box.x + 8, box.y + 8);
  const inside = box.height > 0 && box.top >= 0 && box.bottom <= innerHeight;
  return inside && Boolean(top?.closest("#shadows"));
}"""


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine may take its time to look whether a shadow may go on."""
    monkeypatch.setattr(limits, "SHADOW_LOOK_S", 60.0)
    monkeypatch.setattr(limits, "SHADOW_UNCHECKED_S", 60.0)


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


def test_a_click_that_was_meant_for_the_desktop_allows_nothing(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    li, staff = visitor("li"), visitor("operator")
    li.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(li.page)
    li.page.evaluate(ANSWERS)
    ask(staff, "Watch")
    box = li.page.locator("#shadows .watcher")
    expect(box.get_by_role("button", name="Allow")).to_be_enabled()
    expect(box.get_by_role("status")).to_have_text("You can answer now.")
    found = li.page.evaluate("window.answers")
    assert [what for what, _ in found] == ["Refuse works", "Allow waits", "Allow works"]
    assert found[2][1] - found[1][1] >= 900, "about a second"
    box.get_by_role("button", name="Allow").click()
    expect(box).to_contain_text("your desktop")
    expect(staff.page.locator("#screen")).to_have_attribute("data-open", "yes")


def test_what_is_refused_for_a_moment_says_why_and_is_tried_again(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    li, staff = visitor("li"), visitor("operator")
    li.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(li.page)
    tickets, sockets = list[Route](), list[WebSocketRoute]()
    staff.expected.append("503")

    def no_ticket(route: Route) -> None:
        tickets.append(route)
        if len(tickets) > 1:
            route.continue_()
            return
        route.fulfill(status=503, json={"code": "server.unavailable", "detail": "not just now"})

    def full(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        if len(sockets) > 1:
            socket.connect_to_server()
            return
        socket.send('{"type": "display_refused", "code": "server.busy", "detail": "too many"}')
        socket.close(code=4000, reason="server.busy")

    staff.page.route("**/shadows/*/ticket", no_ticket)
    staff.page.route_web_socket(re.compile("/shadows/.*/display"), full)
    ask(staff, "Watch")
    staff.page.evaluate(
        """() => {
          const words = document.getElementById("screen-words");
          window.said = [];
          new MutationObserver(() => window.said.push(words.textContent))
            .observe(words, { childList: true });
        }"""
    )
    li.page.locator("#shadows .watcher").get_by_role("button", name="Allow").click()
    expect(staff.page.locator("#screen")).to_have_attribute("data-open", "yes")
    said = staff.page.evaluate("window.said")
    assert [said[0], set(said[1:-1])] == ["not just now", {"too many"}]
    assert said[-1] == "you see it, and nothing you type or click gets there"


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

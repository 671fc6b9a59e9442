"""A person's own pages: connect, wait in the queue, use the desktop, log off."""

from __future__ import annotations

import re

from playwright.sync_api import Page, Route, expect

from broker.domain.lifecycle import EndpointEvent
from broker.ports import PageQuery
from tests.console.test_live import connect, until_ready
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker

PIXEL = """([x, y]) => {
  const canvas = document.querySelector("#screen canvas");
  return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3).join(",");
}"""


def open_display(page: Page) -> None:
    """Wait until the display is open and has drawn something."""
    expect(page.locator("#screen")).to_have_attribute("data-open", "yes")
    expect(page.locator("#screen")).to_have_attribute("data-frames", re.compile(r"^[1-9]"))


def bring_online(school: LiveBroker, name: str) -> None:
    """The fat endpoint of that name is there and its desktops are fresh."""

    async def bring() -> None:
        kit, works = school.services.kit, school.services.engine_work
        endpoint = await kit.store.endpoints.endpoint_by_name(name)
        assert endpoint is not None
        now = kit.clock.now()
        await kit.store.endpoints.presence(
            endpoint.id, EndpointEvent.CONNECTED, now, fresh_deadline_at=now + 60_000
        )
        await kit.store.endpoints.seen([endpoint.id], now)
        page = await kit.store.desktops.desktops(PageQuery(filters={"endpoint_id": endpoint.id}))
        for desktop in page.items:
            await works.endpoint_fresh(endpoint.id, desktop.id, desktop.generation)

    school.ask(bring())


def test_a_person_connects_and_the_desktop_opens_in_the_browser(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    one = visitor("li")
    card = one.page.get_by_role("region", name="Library 图书馆")
    card.get_by_role("button", name="Connect").click()
    expect(one.page).to_have_url(re.compile(r"/me/sessions/ses_"))
    open_display(one.page)
    expect(one.page.locator("#status")).to_contain_text("active")
    expect(one.page.locator("#status")).to_contain_text("library-")
    expect(one.page.locator("#screen")).to_contain_text("Simulated desktop")
    # the ticket was in no address
    assert "ticket" not in one.page.url


def test_the_display_draws_and_answers_a_key(school: LiveBroker, visitor: Visitors) -> None:
    until_ready(school)
    one = visitor("li")
    one.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(one.page)
    canvas = one.page.locator("#screen canvas")
    assert canvas.get_attribute("width") == "1920"
    assert one.page.evaluate(PIXEL, [4, 4]) == "38,84,124", "the wallpaper is not drawn"
    expect(canvas).to_be_focused()
    sent = one.page.locator("#screen-up")
    expect(sent).to_have_text("0 B")
    before = canvas.screenshot()
    one.page.keyboard.type("hello 你好")
    expect(sent).not_to_have_text("0 B")
    expect(one.page.locator("#screen-trip")).to_have_text(re.compile(r"^\d+ ms$"))
    assert canvas.screenshot() != before
    frames = int(one.page.locator("#screen").get_attribute("data-frames") or "0")
    canvas.click(position={"x": 300, "y": 200})
    expect(one.page.locator("#screen")).not_to_have_attribute("data-frames", str(frames))
    # Tab leaves the desktop: nobody is caught in it
    canvas.focus()
    one.page.keyboard.press("Tab")
    expect(canvas).not_to_be_focused()


def test_what_is_pressed_while_the_page_looks_again_is_done(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    one = visitor("li")
    page = one.page
    expect(page.locator("#live-sign")).to_have_text("live")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/me", hold)
    page.evaluate("document.getElementById('list').dispatchEvent(new CustomEvent('refresh'))")
    expect(page.locator("#list")).to_have_class(re.compile("htmx-request"))
    page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    for route in held:
        route.continue_()
    open_display(page)


def test_who_waits_sees_the_place_move_and_gets_the_desktop(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    school.person("zhao", groups=("pupils",))
    first = connect(school, "li").session
    second = connect(school, "zhao").session
    one = visitor("wang", hints_only=True)
    one.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    expect(one.page.locator("#place")).to_have_text("2")
    expect(one.page.locator("#live-sign")).to_have_text("live")
    zhao, li = school.users["zhao"], school.users["li"]
    school.log_off(zhao, second.id)
    expect(one.page.locator("#place")).to_have_text("1")
    school.log_off(li, first.id)
    open_display(one.page)
    expect(one.page.locator("#status")).to_contain_text("active")


def test_who_waits_may_leave_the_queue(school: LiveBroker, visitor: Visitors) -> None:
    until_ready(school)
    connect(school, "li")
    one = visitor("wang")
    card = one.page.get_by_role("region", name="Library 图书馆")
    card.get_by_role("button", name="Connect").click()
    expect(one.page.locator("#place")).to_have_text("1")
    one.open("/me")
    expect(card).to_contain_text("You are number 1 in the queue")
    card.get_by_role("button", name="Leave the queue").click()
    expect(card.get_by_role("button", name="Connect")).to_be_visible()


def test_a_person_logs_off(school: LiveBroker, visitor: Visitors) -> None:
    until_ready(school)
    one = visitor("li")
    one.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(one.page)
    one.page.get_by_role("button", name="Log off").click()
    one.page.get_by_role("dialog").get_by_role("button", name="Log off").click()
    expect(one.page.locator("#status")).to_contain_text("This session is over.")
    expect(one.page.locator("#screen")).to_be_hidden()
    one.page.get_by_role("link", name="Back to my desktops").click()
    expect(one.page.get_by_role("button", name="Connect").first).to_be_visible()


def test_a_session_that_an_operator_ends_closes_the_display(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    one = visitor("li", hints_only=True)
    one.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(one.page)
    expect(one.page.locator("#live-sign")).to_have_text("live")
    session_id = one.page.url.rpartition("/")[2]
    school.log_off(school.users["operator"], session_id)
    expect(one.page.locator("#status")).to_contain_text("This session is over.")
    expect(one.page.locator("#screen")).to_be_hidden()


def test_a_second_window_takes_the_display_over(school: LiveBroker, visitor: Visitors) -> None:
    until_ready(school)
    one = visitor("li")
    one.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(one.page)
    two = visitor("li")
    two.open("/me")
    two.page.get_by_role("link", name="Open").click()
    open_display(two.page)
    # the first one is told, and does not fight for it
    expect(one.page.locator("#screen-words")).to_have_text("opened somewhere else")
    one.page.wait_for_timeout(2_000)
    expect(two.page.locator("#screen")).to_have_attribute("data-open", "yes")
    one.page.get_by_role("button", name="Open again").click()
    open_display(one.page)


def test_the_computer_where_somebody_sits_is_found_by_part_of_its_name(
    school: LiveBroker, visitor: Visitors
) -> None:
    bring_online(school, "lab-01")
    one = visitor("li")
    card = one.page.get_by_role("region", name="Laboratory 机房")
    seat = card.get_by_label("The computer where you sit")
    seat.press_sequentially("AB-0")
    expect(card.locator("datalist option")).to_have_count(1)
    expect(card.locator("datalist option")).to_have_attribute("value", "lab-01")
    seat.fill("lab-01")
    card.get_by_role("button", name="Connect").click()
    expect(one.page.locator("#status")).to_contain_text("lab-01")
    expect(one.page.locator("#status")).to_contain_text("delivering")
    expect(one.page.locator("#screen")).to_have_count(0)


def test_the_computer_may_be_given_by_the_address(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor("li")
    one.open("/me?endpoint=lab-02")
    card = one.page.get_by_role("region", name="Laboratory 机房")
    expect(card.get_by_label("The computer where you sit")).to_have_value("lab-02")


def test_a_computer_that_is_not_there_is_said_in_words(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("li")
    one.expected.append("404")
    card = one.page.get_by_role("region", name="Laboratory 机房")
    card.get_by_label("The computer where you sit").fill("no-such")
    card.get_by_role("button", name="Connect").click()
    expect(one.page.locator("#notices")).to_contain_text("there is no endpoint 'no-such'")
    expect(one.page.locator("#notices")).to_contain_text("resource.not_found")


def test_nobody_looks_for_computers_of_pools_that_he_may_not_use(
    school: LiveBroker, visitor: Visitors
) -> None:
    bring_online(school, "lab-01")
    school.person("stranger")
    pool = school.ask(school.services.pools.find("lab"))
    one = visitor("stranger")
    expect(one.page.get_by_text("No desktops for you yet")).to_be_visible()
    answer = one.page.request.get(f"{school.url}/me/seats?pool={pool.id}")
    assert answer.json() == {"seats": []}


def test_somebody_elses_session_is_not_found(school: LiveBroker, visitor: Visitors) -> None:
    until_ready(school)
    session = connect(school, "li").session
    one = visitor("wang")
    one.expected.append("404")
    assert one.open(f"/me/sessions/{session.id}").status == 404


def test_what_is_typed_stays_while_the_page_looks_again(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    one = visitor("li", hints_only=True)
    lab = one.page.get_by_role("region", name="Laboratory 机房")
    seat = lab.get_by_label("The computer where you sit")
    seat.fill("lab-")
    one.page.get_by_role("heading", name="My desktops").click()
    library = one.page.get_by_role("region", name="Library 图书馆")
    connect(school, "li")
    expect(library.get_by_role("link", name="Open")).to_be_visible()
    expect(seat).to_have_value("lab-")

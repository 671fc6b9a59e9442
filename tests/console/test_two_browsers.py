"""One person with one session at two browsers: where it is open is asked, and nobody else
answers."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

from playwright.sync_api import Route, WebSocketRoute, expect

from broker.domain.model import SessionState
from broker.domain.settings import PoolSettings, TakeOver
from tests.console.test_live import until_ready
from tests.console.test_my_desktops import open_display
from tests.support.browsing import Visitor, Visitors
from tests.support.live_broker import LiveBroker


def asks_first(school: LiveBroker) -> None:
    async def change() -> None:
        services = school.services
        pool = await services.pools.find("library")
        settings = PoolSettings(take_over=TakeOver.ASK, consent_s=300)
        changed = replace(pool, settings=settings)
        await services.kit.store.directory.save_pool(changed, new=False)
        services.pools.forget()

    school.ask(change())


def two_browsers(school: LiveBroker, visitor: Visitors) -> tuple[Visitor, Visitor]:
    """The session is open in the first, and asked for in the second."""
    until_ready(school)
    asks_first(school)
    one = visitor("li")
    one.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(one.page)
    two = visitor("li")
    two.open("/me")
    two.page.get_by_role("link", name="Open").click()
    expect(two.page.locator("#screen-words")).to_have_text(
        "waiting for an answer from where it is open"
    )
    expect(two.page.locator("#status")).to_contain_text("Asked whether you may go on here")
    expect(two.page.get_by_role("button", name="Allow")).to_have_count(0)
    expect(one.page.locator("#status")).to_contain_text(
        "go on with this session at another browser"
    )
    expect(one.page.locator("#screen")).to_have_attribute("data-open", "yes")
    return one, two


def test_the_first_browser_lets_the_session_go_and_it_opens_in_the_second(
    school: LiveBroker, visitor: Visitors
) -> None:
    one, two = two_browsers(school, visitor)
    one.page.get_by_role("button", name="Allow").click()
    open_display(two.page)
    expect(one.page.locator("#screen-words")).to_have_text("opened somewhere else")
    one.page.wait_for_timeout(2_000)
    expect(two.page.locator("#screen")).to_have_attribute("data-open", "yes")


def test_the_first_browser_keeps_the_session_and_opens_it_again_without_being_asked(
    school: LiveBroker, visitor: Visitors
) -> None:
    one, two = two_browsers(school, visitor)
    one.page.get_by_role("button", name="Refuse").click()
    expect(two.page.locator("#screen-words")).to_have_text("it stays where it is open")
    expect(two.page.get_by_role("button", name="Open again")).to_be_visible()
    expect(one.page.locator("#screen")).to_have_attribute("data-open", "yes")
    one.page.reload()
    open_display(one.page)
    expect(one.page.locator("#status")).not_to_contain_text(re.compile("Somebody asks"))


def hears_nothing(route: Route) -> None:
    """Neither goes on nor is answered."""
    del route


def test_a_page_that_was_asleep_takes_nothing_back_by_itself(
    school: LiveBroker, visitor: Visitors
) -> None:
    """Its connection breaks when it wakes, and of what happened meanwhile it knows nothing."""
    until_ready(school)
    asleep, sockets = visitor("li"), list[WebSocketRoute]()
    asleep.expected.append("409")

    def carried(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server().on_close(lambda code, reason: None)

    asleep.page.route_web_socket(re.compile("/display$"), carried)
    card = asleep.page.get_by_role("region", name="Library")
    card.get_by_role("button", name="Connect").click()
    open_display(asleep.page)
    asleep.page.route("**/me/sessions/*", hears_nothing)
    awake = visitor("li")
    awake.open("/me")
    awake.page.get_by_role("link", name="Open").click()
    open_display(awake.page)
    sockets[0].close(code=4000, reason="server.unavailable")
    expect(asleep.page.locator("#screen-words")).to_contain_text("in use at another place")
    expect(awake.page.locator("#screen")).to_have_attribute("data-open", "yes")
    assert len(sockets) == 1


def test_a_session_that_is_open_nowhere_goes_on_where_its_person_opens_it(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    one = visitor("li")
    one.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    open_display(one.page)
    session_id = one.page.url.rpartition("/")[2]
    one.page.close()
    school.until_true(partial(disconnected, school, session_id))
    two = visitor("li")
    two.open("/me")
    expect(two.page.get_by_role("region", name="Library")).to_contain_text("kept for you")
    two.page.get_by_role("link", name="Open").click()
    open_display(two.page)
    expect(two.page.locator("#status")).to_contain_text("active")
    assert two.page.url.rpartition("/")[2] == session_id


async def disconnected(school: LiveBroker, session_id: str) -> bool:
    session = await school.store.sessions.session(session_id)
    return session is not None and session.state is SessionState.DISCONNECTED

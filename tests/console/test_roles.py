"""Who sees which page and which button."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.console.test_live import connect, until_ready
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker

PAGES = (
    "/overview",
    "/sessions",
    "/desktops",
    "/pools",
    "/endpoints",
    "/hosts",
    "/images",
    "/users",
    "/campaigns",
    "/jobs",
    "/rules",
    "/site",
)
AUDIT = "/audit"
CHANGING = "[hx-post], [hx-patch], [hx-put], [hx-delete]"
"""elements that change something"""


def every_page(school: LiveBroker) -> tuple[str, ...]:
    """The lists, and one page of each kind of thing."""
    until_ready(school)
    session = connect(school, "li").session
    return (
        *PAGES,
        f"/sessions/{session.id}",
        f"/pools/{session.pool_id}",
        f"/desktops/{session.desktop_id}",
        f"/users/{session.user_id}",
    )


def test_an_auditor_sees_everything_and_changes_nothing(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("auditor")
    for path in (*every_page(school), AUDIT):
        assert one.open(path).status == 200, path
        expect(one.page.locator(f"main :is({CHANGING})")).to_have_count(0)


def test_an_operator_manages_sessions_and_endpoints_and_restarts_desktops_only(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("operator")
    with_buttons = set()
    pages = every_page(school)
    for path in pages:
        assert one.open(path).status == 200, path
        if one.page.locator(f"main :is({CHANGING})").count():
            with_buttons.add(path.split("_")[0])
    assert with_buttons == {"/sessions", "/endpoints", "/sessions/ses", "/desktops/dsk"}
    one.open(next(path for path in pages if path.startswith("/desktops/")))
    expect(one.page.locator(f"main :is({CHANGING})")).to_have_count(1)
    expect(one.page.get_by_role("button", name="Restart")).to_be_visible()


@pytest.mark.parametrize("username", ["admin", "operator", "auditor"])
def test_the_navigation_leads_to_every_page(
    school: LiveBroker, visitor: Visitors, username: str
) -> None:
    one = visitor(username)
    links = one.page.get_by_role("navigation").get_by_role("link")
    addresses = [link.get_attribute("href") for link in links.all()]
    sees_audit = username != "operator"
    assert set(addresses) == {*PAGES, "/me"} | ({AUDIT} if sees_audit else set())
    for address in addresses:
        assert address is not None
        one.open(address)
        current = one.page.locator("nav [aria-current=page]")
        assert current.get_attribute("href") == address


def test_everything_has_a_name_for_those_who_do_not_see(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("admin")
    unnamed = """
      [...document.querySelectorAll("button, a, input:not([type=hidden]), select, iframe, canvas")]
        .filter((one) => one.checkVisibility() && !one.closest("[aria-hidden=true]"))
        .filter((one) => !(one.innerText?.trim() || one.getAttribute("aria-label") ||
                           one.title || one.labels?.length))
        .map((one) => one.outerHTML)
    """
    for path in every_page(school):
        one.open(path)
        assert one.page.evaluate(unnamed) == [], path
        expect(one.page.get_by_role("heading", level=1)).to_have_count(1)


def test_the_keyboard_reaches_the_content_and_the_theme(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("auditor")
    one.page.keyboard.press("Tab")
    expect(one.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    one.page.keyboard.press("Enter")
    expect(one.page.locator("main")).to_be_focused()
    theme = one.page.get_by_role("button", name="Use the dark theme")
    theme.focus()
    one.page.keyboard.press("Enter")
    expect(one.page.locator("html")).to_have_attribute("data-theme", "dark")
    one.page.reload()
    expect(one.page.locator("html")).to_have_attribute("data-theme", "dark")

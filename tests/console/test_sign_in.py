"""In and out of the console, and the first administrator's link."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from broker.domain.model import Role
from tests.support.browsing import PASSWORD, Visitors
from tests.support.live_broker import LiveBroker


def test_a_person_signs_in_and_out(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor("operator")
    expect(one.page).to_have_url(school.url + "/overview")
    (cookie,) = one.context.cookies()
    token = cookie["value"]
    one.page.get_by_role("button", name="Sign out").click()
    expect(one.page).to_have_url(school.url + "/sign-in")
    assert one.context.cookies() == []
    # the token itself is dead, not only forgotten by this browser
    one.context.add_cookies([{"name": "trivium", "value": token, "url": school.url}])
    one.open("/overview")
    expect(one.page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_cookie_is_out_of_reach(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor("operator")
    (cookie,) = one.context.cookies()
    assert cookie["name"] == "trivium"
    assert cookie["httpOnly"] is True
    assert cookie["sameSite"] == "Strict"
    assert cookie["path"] == "/"
    assert one.page.evaluate("document.cookie") == ""


def test_a_wrong_password_says_so_and_keeps_the_name(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor()
    one.expected.append("401")
    one.open("/sign-in")
    one.page.get_by_label("User name").fill("operator")
    one.page.get_by_label("Password").fill("not the password")
    one.page.get_by_role("button", name="Sign in").click()
    expect(one.page.get_by_role("alert")).to_contain_text("The user name or the password is wrong")
    expect(one.page.get_by_role("alert")).to_contain_text("auth.bad_credentials")
    expect(one.page.get_by_label("User name")).to_have_value("operator")
    expect(one.page.get_by_label("Password")).to_have_value("")
    expect(one.page.get_by_label("Password")).to_be_focused()


def test_an_unknown_name_looks_like_a_wrong_password(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor()
    one.expected.append("401")
    one.open("/sign-in")
    one.page.get_by_label("User name").fill("nobody")
    one.page.get_by_label("Password").fill("not the password")
    one.page.get_by_role("button", name="Sign in").click()
    expect(one.page.get_by_role("alert")).to_contain_text("The user name or the password is wrong")


def test_sign_in_leads_back_to_the_page_that_was_asked_for(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor()
    one.open("/sessions?state=active")
    one.page.get_by_label("User name").fill("auditor")
    one.page.get_by_label("Password").fill(PASSWORD)
    one.page.keyboard.press("Enter")
    expect(one.page).to_have_url(school.url + "/sessions?state=active")


def test_sign_in_leads_nowhere_else(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor()
    one.open("/sign-in?next=//elsewhere.example/x")
    one.page.get_by_label("User name").fill("auditor")
    one.page.get_by_label("Password").fill(PASSWORD)
    one.page.get_by_role("button", name="Sign in").click()
    expect(one.page).to_have_url(school.url + "/overview")


def test_a_plain_user_begins_at_his_own_page(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor("li")
    expect(one.page).to_have_url(school.url + "/me")
    expect(one.page.get_by_text("李雷 Li Lei")).to_be_visible()
    expect(one.page.get_by_role("navigation")).to_have_count(0)


def test_a_plain_user_is_refused_everything_else_in_words(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("li")
    one.expected.append("403")
    for path in ("/overview", "/sessions", "/users", "/pools", "/campaigns", "/jobs", "/hosts"):
        assert one.open(path).status == 403, path
        expect(one.page.get_by_role("heading")).to_have_text("Your role does not allow this")


def test_a_page_that_is_not_there_says_so(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor("auditor")
    one.expected.append("404")
    for path in ("/nothing", "/sessions/ses_nobody", "/pools/pol_none", "/campaigns/cmp_none"):
        assert one.open(path).status == 404, path
        expect(one.page.get_by_text("resource.not_found")).to_be_visible()


# --------------------------------------------------------------------------- first run


def test_the_first_administrator_comes_by_the_one_time_link(
    broker: LiveBroker, visitor: Visitors
) -> None:
    link = broker.running.setup_url
    assert link is not None
    one = visitor()
    sent: list[str] = []
    one.page.on("request", lambda request: sent.append(request.url))
    one.page.goto(link)
    # the secret has left the address, and never was part of a request's address
    expect(one.page).to_have_url(broker.url + "/setup")
    assert not any("secret=" in url for url in sent)
    one.page.get_by_label("User name").fill("Head")
    one.page.get_by_label("Display name").fill("校长 Head")
    one.page.get_by_label("Password").fill("a good long password")
    one.page.get_by_role("button", name="Create the account").click()
    expect(one.page).to_have_url(broker.url + "/overview")
    user = broker.ask(broker.store.directory.user_by_name("head"))
    assert user is not None
    assert user.role is Role.ADMINISTRATOR
    assert user.display_name == "校长 Head"


def test_the_link_works_once(broker: LiveBroker, visitor: Visitors) -> None:
    link = broker.running.setup_url
    assert link is not None
    broker.person("admin", role=Role.ADMINISTRATOR)
    one = visitor()
    one.expected.append("404")
    one.page.goto(link)
    expect(one.page.get_by_role("heading")).to_have_text("This link is not valid any more")


def test_a_password_that_is_too_common_keeps_the_link_good(
    broker: LiveBroker, visitor: Visitors
) -> None:
    link = broker.running.setup_url
    assert link is not None
    one = visitor()
    one.expected.append("400")
    one.page.goto(link)
    one.page.get_by_label("User name").fill("head")
    one.page.get_by_label("Password").fill("passwordpassword")
    one.page.get_by_role("button", name="Create the account").click()
    expect(one.page.get_by_role("alert").first).to_contain_text("request.invalid")
    one.page.get_by_label("Password").fill("a good long password")
    one.page.get_by_role("button", name="Create the account").click()
    expect(one.page).to_have_url(broker.url + "/overview")


def test_half_a_link_is_explained(broker: LiveBroker, visitor: Visitors) -> None:
    one = visitor()
    one.open("/setup")
    expect(one.page.get_by_role("alert")).to_contain_text("The link is not complete")
    one.open("/sign-in")
    expect(one.page.get_by_text(re.compile("There is no administrator yet"))).to_be_visible()

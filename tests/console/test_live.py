"""Pages that hear of changes: nothing here loads a page again."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from broker.services.connect import Connected
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker, identity_of


def connect(school: LiveBroker, username: str, pool: str = "library") -> Connected:
    who = identity_of(school.users[username])
    return school.ask(school.services.connect.connect(who, pool))


def until_ready(school: LiveBroker) -> None:
    """The library's one desktop is there."""

    async def ready() -> int:
        counts = await school.store.desktops.counts()
        return sum(count for (_, state), count in counts.items() if state == "ready")

    school.until_true(ready)


def test_the_overview_shows_a_session_the_moment_it_appears(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    one = visitor("auditor", hints_only=True)
    expect(one.page.locator("#live-sign")).to_have_text("live")
    loads: list[str] = []
    one.page.on("load", lambda page: loads.append(page.url))
    vdi = one.page.get_by_role("region", name="VDI", exact=True)
    expect(vdi).to_contain_text("0 live sessions")
    connect(school, "li")
    connect(school, "wang")
    expect(vdi).to_contain_text("2 live sessions")
    expect(vdi.locator("[data-figure=waiting]")).to_have_text("1")
    assert loads == []


def test_the_plot_grows_with_every_sample(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor("auditor")
    plots = one.page.locator("#plots")
    expect(plots.locator("canvas")).to_have_count(3)
    expect(plots).to_have_attribute("data-samples", re.compile(r"^\d+$"))
    first = int(plots.get_attribute("data-samples") or "0")
    later = "|".join(str(first + more) for more in range(2, 20))
    expect(plots).to_have_attribute("data-samples", re.compile(f"^({later})$"))


def test_the_list_of_sessions_hears_of_new_ones_and_keeps_its_filter(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    one = visitor("auditor", hints_only=True)
    one.open("/sessions")
    expect(one.page.get_by_text("No sessions yet")).to_be_visible()
    one.page.get_by_label("State").select_option("queued")
    expect(one.page).to_have_url(school.url + "/sessions?state=queued")
    expect(one.page.get_by_text("No session fits")).to_be_visible()
    expect(one.page.locator("#live-sign")).to_have_text("live")
    connect(school, "li")
    connect(school, "wang")
    expect(one.page.get_by_role("row")).to_have_count(2)
    expect(one.page.get_by_role("row").nth(1)).to_contain_text("wang")
    one.page.reload()
    expect(one.page.get_by_label("State")).to_have_value("queued")
    expect(one.page.get_by_role("row")).to_have_count(2)


def test_search_finds_the_sessions_of_one_person(school: LiveBroker, visitor: Visitors) -> None:
    until_ready(school)
    connect(school, "li")
    connect(school, "wang")
    one = visitor("auditor")
    one.open("/sessions")
    expect(one.page.get_by_role("row")).to_have_count(3)
    one.page.get_by_label("Person").fill("Wang")
    expect(one.page.get_by_role("row")).to_have_count(2)
    one.page.get_by_label("Person").fill("nobody")
    expect(one.page.get_by_text("No session fits")).to_be_visible()


def test_an_operator_ends_a_session_after_being_asked(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    session = connect(school, "li").session
    one = visitor("operator")
    one.open("/sessions")
    row = one.page.locator(f"#row-{session.id}")
    row.get_by_role("button", name="End").click()
    question = one.page.get_by_role("dialog")
    expect(question).to_contain_text("End the session of")
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_be_hidden()
    still = school.ask(school.store.sessions.session(session.id))
    assert still is not None
    assert still.ended_at is None
    row.get_by_role("button", name="End").click()
    question.get_by_role("button", name="End session").click()
    expect(one.page.locator("#notices")).to_contain_text("is ending")
    expect(row).to_contain_text("ended")
    expect(row).to_contain_text("ended by operator")
    expect(row.get_by_role("button")).to_have_count(0)


def test_who_is_not_signed_in_any_more_is_asked_to_and_comes_back(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    session = connect(school, "li").session
    one = visitor("operator")
    one.open(f"/sessions/{session.id}")
    one.page.get_by_role("button", name="End session").click()
    question = one.page.get_by_role("dialog")
    expect(question).to_be_visible()  # from here on the page does not fetch anything by itself
    expect(one.page.locator(".htmx-request")).to_have_count(0)  # nor is anything on its way
    # htmx notes the refused stream of events in the browser's log
    one.expected += ["401", "[object Event]"]
    school.ask(school.services.directory.change_user("operator", role=school.users["auditor"].role))
    question.get_by_role("button", name="End session").click()
    # a changed role ends the sign-in: the person is asked to sign in again, and comes back here
    expect(one.page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(one.page).to_have_url(re.compile(r"/sign-in\?next="))


def test_an_administrator_changes_a_pool(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor("admin")
    one.open("/pools")
    one.page.get_by_role("link", name="Library 图书馆").click()
    one.page.get_by_label("Size, at most").fill("3")
    one.page.get_by_label("Spare desktops wanted").fill("9")
    one.expected.append("400")
    one.page.get_by_role("button", name="Save").click()
    expect(one.page.locator("#notices")).to_contain_text("9 spares do not fit into a pool of 3")
    one.page.get_by_label("Spare desktops wanted").fill("2")
    one.page.get_by_label("Takes new sessions").select_option("closed")
    one.page.get_by_role("button", name="Save").click()
    expect(one.page.locator("#notices")).to_contain_text("The pool is changed.")
    pool = school.ask(school.services.pools.find("library"))
    assert (pool.size_max, pool.spares_min, pool.enabled) == (3, 2, False)
    expect(one.page.locator("#standing")).to_contain_text("closed")


def test_an_administrator_drains_a_host(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor("admin")
    one.open("/hosts")
    one.page.get_by_role("button", name="Drain").click()
    one.page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(one.page.get_by_role("row").nth(1)).to_contain_text("draining")
    one.page.get_by_role("button", name="Put back").click()
    expect(one.page.get_by_role("row").nth(1)).to_contain_text("up")


def test_an_operator_makes_enrolment_tokens_and_retires_an_endpoint(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("operator")
    one.open("/endpoints")
    one.page.get_by_text("Enrol endpoints").click()
    one.page.get_by_label("How many").fill("3")
    one.page.get_by_role("button", name="Make tokens").click()
    secrets = one.page.locator("#tokens pre")
    expect(secrets).to_be_visible()
    assert len(secrets.inner_text().split()) == 3
    one.page.locator("tr", has_text="lab-02").get_by_role("button", name="Retire").click()
    one.page.get_by_role("dialog").get_by_role("button", name="Retire").click()
    expect(one.page.locator("tr", has_text="lab-02")).to_contain_text("retired")
    expect(one.page.locator("tr", has_text="lab-02").get_by_role("button")).to_have_count(0)


def test_an_administrator_disables_a_person_who_is_signed_in(
    school: LiveBroker, visitor: Visitors
) -> None:
    pupil = visitor("li")
    # his page hears that its stream has ended, and asks for it again
    pupil.expected += ["[object Event]", "401"]
    one = visitor("admin")
    one.open("/users?text=li")
    row = one.page.locator("tr", has_text="李雷")
    row.get_by_role("button", name="Disable").click()
    one.page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(row).to_contain_text("disabled")
    pupil.open("/me")
    expect(pupil.page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_role_that_was_chosen_and_not_confirmed_stays(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("admin")
    one.open("/users?text=wang")
    role = one.page.get_by_label("Role of 王芳 Wang Fang", exact=True)
    role.select_option("operator")
    one.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(role).to_have_value("user")
    role.select_option("operator")
    one.page.get_by_role("dialog").get_by_role("button", name="Change role").click()
    expect(one.page.locator("#notices")).to_contain_text("is changed")
    user = school.ask(school.services.directory.user("wang"))
    assert user.role == "operator"


def test_lists_go_on_page_by_page(school: LiveBroker, visitor: Visitors) -> None:
    lines = "".join(f"thin-{number:03d},thin,Room 2,\n" for number in range(120))
    school.roster(endpoints="name,kind,location,pools\n" + lines)
    one = visitor("auditor")
    one.open("/endpoints?kind=thin")
    seen: list[str] = []
    for _ in range(3):
        seen += one.page.locator("tbody th").all_inner_texts()
        following = one.page.get_by_role("link", name="Next page")
        if following.count():
            address = following.get_attribute("href") or ""
            following.click()
            one.page.wait_for_url(school.url + address)
    assert len(seen) == len(set(seen)) == 120
    one.page.get_by_role("link", name="First page").click()
    expect(one.page).to_have_url(school.url + "/endpoints?kind=thin")


def test_a_button_that_was_drawn_anew_works_at_once(school: LiveBroker, visitor: Visitors) -> None:
    """Not a moment later, in which a click would go nowhere."""
    del school
    one = visitor("admin")
    one.open("/hosts")
    asked = one.page.evaluate(
        """() => new Promise((resolve) => {
          const button = () => document.querySelector("button[id^=drain-]");
          const before = button();
          new MutationObserver((_, seen) => {
            if (!button() || button() === before) return;
            seen.disconnect();
            button().click();
            setTimeout(() => resolve(document.getElementById("ask").open), 0);
          }).observe(document.body, { childList: true, subtree: true });
          document.getElementById("list").dispatchEvent(new CustomEvent("refresh"));
        })"""
    )
    assert asked

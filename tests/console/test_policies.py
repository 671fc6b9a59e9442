"""What administrators set: how pools behave, rules, quotas, the site; and what is kept of it."""

from __future__ import annotations

import re
from datetime import date

from playwright.sync_api import expect

from broker.domain.calendar import Holiday, Window
from broker.domain.policy.rules import Effect
from broker.domain.settings import AfterGrace, ServiceState
from broker.ports import PageQuery
from broker.services.rulebook import RuleWish
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker


def test_a_pools_behaviour_and_schedule_are_set_and_shown_again(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("admin")
    one.open("/pools")
    one.page.get_by_role("link", name="Library 图书馆").click()
    form = one.page.locator("#settings")
    form.locator("[name='settings.after_grace']").select_option("suspend")
    form.get_by_label("Idle limit").fill("20")
    form.get_by_text("Schedule", exact=True).click()
    form.get_by_role("button", name="Add a part of the week").click()
    row = form.locator(".form-row")
    row.get_by_label("Name").fill("Lessons")
    row.get_by_label("Spares", exact=True).fill("1")
    row.locator("[name$='.open']").select_option("given")
    form.get_by_role("button", name="Apply").click()
    expect(one.page.locator("#notices")).to_contain_text("behaves so from now on")
    settings = school.ask(school.services.pools.find("library")).settings
    assert (settings.after_grace, settings.idle_s) == (AfterGrace.SUSPEND, 1200)
    (entry,) = settings.schedule
    assert (entry.name, entry.spares_min, entry.open, entry.power) == ("Lessons", 1, True, None)
    assert entry.window == Window(days=(0, 1, 2, 3, 4), start_min=450, end_min=1020)

    one.page.reload()
    expect(form.get_by_label("Idle limit")).to_have_value("20")
    expect(row.get_by_label("Name")).to_have_value("Lessons")
    row.get_by_role("button", name="Remove").click()
    form.get_by_role("button", name="Apply").click()
    expect(one.page.locator("#notices")).to_contain_text("behaves so from now on")
    assert school.ask(school.services.pools.find("library")).settings.schedule == ()


def test_a_contradiction_is_told_and_nothing_is_changed(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("admin")
    one.expected.append("400")
    pool = school.ask(school.services.pools.find("library"))
    one.open(f"/pools/{pool.id}")
    one.page.locator("#settings").get_by_label("Idle limit").fill("1")
    one.page.locator("#settings").get_by_role("button", name="Apply").click()
    expect(one.page.locator("#notices")).to_contain_text("leaves no room to warn")
    assert school.ask(school.services.pools.find("library")) == pool


def test_a_rule_with_its_hours_is_added_shown_in_words_and_removed(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("admin")
    one.open("/rules")
    form = one.page.locator("#add-rule")
    form.get_by_label("Name", exact=True).fill("No nights")
    form.get_by_label("Effect").select_option("deny")
    form.get_by_label("Groups").fill("pupils")
    form.get_by_role("button", name="Only at certain times").click()
    form.locator("[name$='.days']").select_option("every day")
    form.get_by_label("From").fill("22:00")
    form.get_by_label("To", exact=True).fill("06:00")
    form.get_by_role("button", name="Add rule").click()
    row = one.page.get_by_role("row", name="No nights")
    expect(row).to_contain_text("Pupils 学生")
    expect(row).to_contain_text("every day 22:00 to 06:00")
    (rule,) = school.ask(school.services.rulebook.rules())
    assert rule.effect is Effect.DENY
    assert rule.windows == (Window(start_min=1320, end_min=360),)
    row.get_by_role("button", name="Switch off").click()
    expect(row).to_contain_text("deny, off")
    (rule,) = school.ask(school.services.rulebook.rules())
    assert not rule.enabled
    row.get_by_role("button", name="Switch on").click()
    expect(row).not_to_contain_text("deny, off")
    row.get_by_role("button", name="Remove").click()
    one.page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(one.page.locator("#list")).to_contain_text("No rules")
    assert school.ask(school.services.rulebook.rules()) == ()


def test_a_quota_is_added_and_its_sentence_says_what_it_counts(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("admin")
    one.open("/rules")
    form = one.page.locator("#add-quota")
    form.get_by_label("Name", exact=True).fill("One each")
    form.get_by_label("Group", exact=True).fill("pupils")
    form.get_by_role("button", name="Add quota").click()
    row = one.page.get_by_role("row", name="One each")
    expect(row).to_contain_text(
        "at most 1 live sessions: each of Pupils 学生, over all pools together"
    )


def test_what_a_person_can_do_now_is_shown_with_the_reason(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("operator")
    one.open("/users?text=li")
    one.page.get_by_role("link", name="李雷 Li Lei").click()
    row = one.page.get_by_role("row", name=re.compile("Library"))
    expect(row).to_contain_text(re.compile("would get a desktop|would wait"))
    school.ask(
        school.services.site.set_state(ServiceState.DRAINING, actor=school.users["admin"].id)
    )
    one.page.reload()
    expect(row).to_contain_text("refused")


def test_it_is_also_shown_as_if_asked_from_another_address_and_at_an_endpoint(
    school: LiveBroker, visitor: Visitors
) -> None:
    wish = RuleWish(name="Not from home", effect=Effect.DENY, networks=("192.0.2.0/24",))
    school.ask(school.services.rulebook.add_rule(wish))
    one = visitor("auditor")
    one.open(f"/users/{school.users['li'].id}")
    row = one.page.get_by_role("row", name=re.compile("Library"))
    foot = one.page.locator("#list .foot")
    expect(row).to_contain_text(re.compile("would get a desktop|would wait"))
    expect(foot).to_contain_text("In a browser, from any address")
    one.page.get_by_label("From the address").fill("192.0.2.7")
    expect(row).to_contain_text("refused")
    one.page.get_by_label("At the endpoint").fill("lab-01")
    expect(foot).to_contain_text("At lab-01, from 192.0.2.7")
    one.page.get_by_label("At the endpoint").fill("<b>nowhere")
    expect(foot).to_contain_text("There is no endpoint “<b>nowhere”.")
    one.page.get_by_label("At the endpoint").fill("")
    one.page.get_by_label("From the address").fill("home")
    expect(foot).to_contain_text("“home” is no IP address.")
    assert one.page.url.endswith("?address=home")


def test_the_site_is_drained_with_a_message_and_its_holidays_are_kept(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("admin")
    one.open("/site")
    form = one.page.locator("#site")
    form.get_by_label("Service").select_option("draining")
    form.get_by_label("Message to those turned away").fill("Back on Monday")
    form.get_by_role("button", name="Add a holiday").click()
    form.get_by_label("Day", exact=True).fill("2026-12-25")
    form.locator(".form-row").get_by_label("Name").fill("Christmas")
    form.get_by_role("button", name="Save").click()
    expect(one.page.locator("#notices")).to_contain_text("The site is changed.")
    saved = school.ask(school.services.site.read()).settings
    assert (saved.state, saved.message) == (ServiceState.DRAINING, "Back on Monday")
    assert saved.holidays == (Holiday(day=date(2026, 12, 25), name="Christmas"),)


def test_the_audit_trail_shows_who_did_what_to_those_who_may(
    school: LiveBroker, visitor: Visitors
) -> None:
    admin = visitor("admin")
    admin.open("/rules")
    form = admin.page.locator("#add-quota")
    form.get_by_label("Name", exact=True).fill("Two each")
    form.get_by_role("button", name="Add quota").click()
    expect(admin.page.get_by_role("row", name="Two each")).to_be_visible()
    page = school.ask(school.store.audit.entries(PageQuery(filters={"action": "quota.create"})))
    assert len(page.items) == 1
    auditor = visitor("auditor")
    auditor.open("/audit?action=quota.create")
    row = auditor.page.get_by_role("row", name=re.compile("quota.create"))
    expect(row).to_contain_text("admin")
    expect(row).to_contain_text("done")
    operator = visitor("operator")
    operator.expected.append("403")
    answer = operator.open("/audit")
    assert answer.status == 403
    operator.open("/overview")
    expect(operator.page.get_by_role("link", name="Rules")).to_be_visible()
    expect(operator.page.get_by_role("link", name="Audit")).to_have_count(0)

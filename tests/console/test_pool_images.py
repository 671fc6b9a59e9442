"""A pool gets another version of its image in the console; desktops say which they are of."""

from __future__ import annotations

from playwright.sync_api import expect

from broker.domain.model import Pool
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker

RENEWED_MS = 60_000
"""for a stand-in and a reset, on a busy machine"""


def test_a_pool_gets_another_version_and_its_desktops_follow(
    school: LiveBroker, visitor: Visitors
) -> None:
    school.roster(images="name,version,size_gib,boot_mib\nstudy,2,1,50\n")
    one = visitor("admin")
    pool: Pool = school.ask(school.services.pools.find("library"))
    one.open(f"/desktops?pool_id={pool.id}")
    expect(one.page.locator("#list tbody tr")).to_have_count(1, timeout=RENEWED_MS)
    row = one.page.locator("#list tbody tr").first
    expect(row).to_contain_text("study@1", timeout=RENEWED_MS)
    expect(row).to_contain_text("ready", timeout=RENEWED_MS)

    one.open(f"/pools/{pool.id}")
    choice = one.page.get_by_label("Image")
    expect(choice).to_have_value("study@1")
    expect(choice.locator("option")).to_have_text(["study version 2", "study version 1"])
    choice.select_option("study@2")
    one.page.locator("#change ~ form, section[aria-labelledby=change] form").get_by_role(
        "button", name="Save"
    ).click()
    expect(one.page.get_by_text("The pool is changed.")).to_be_visible()
    one.page.reload()
    expect(one.page.get_by_text("study version 2 (")).to_be_visible()
    assert one.overflow() == 0

    one.open(f"/desktops?pool_id={pool.id}")
    row = one.page.locator("#list tbody tr").first
    expect(row).to_contain_text("study@2", timeout=RENEWED_MS)
    expect(row).not_to_contain_text("the pool has")
    row.get_by_role("link").first.click()
    facts = one.page.locator("#desktop dl.facts").first
    expect(facts).to_contain_text("study@2")
    expect(facts).to_contain_text("Generation2")


def test_a_desktop_in_use_says_that_its_pool_has_another_image_by_now(
    school: LiveBroker, visitor: Visitors
) -> None:
    school.roster(images="name,version,size_gib,boot_mib\nstudy,2,1,50\n")
    one = visitor("admin")
    pool: Pool = school.ask(school.services.pools.find("library"))
    one.open(f"/desktops?pool_id={pool.id}")
    row = one.page.locator("#list tbody tr").first
    expect(row).to_contain_text("ready", timeout=RENEWED_MS)
    pupil = visitor("li")
    pupil.open("/me")
    pupil.page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    expect(row).to_contain_text("assigned", timeout=RENEWED_MS)
    school.ask(school.services.directory.change_pool("library", image="study@2"))
    one.page.reload()
    expect(row).to_contain_text("study@1, the pool has study@2")
    row.get_by_role("link").first.click()
    facts = one.page.locator("#desktop dl.facts").first
    expect(facts).to_contain_text("study@1, the pool has study@2")
    one.page.set_viewport_size({"width": 390, "height": 844})
    assert one.overflow() == 0

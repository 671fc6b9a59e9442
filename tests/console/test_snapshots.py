"""The desktop's page: an administrator takes a snapshot, goes back to it, drops it."""

from __future__ import annotations

from dataclasses import replace

from playwright.sync_api import Page, expect

from broker.domain.model import Desktop, LogOff, PoolKind
from tests.console.test_live import connect, until_ready
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker


def kept(school: LiveBroker) -> str:
    """The id of a desktop that is li's for good, and that nobody uses."""
    until_ready(school)

    async def keep() -> None:
        pool = await school.services.pools.find("library")
        changed = replace(pool, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
        await school.store.directory.save_pool(changed, new=False)
        school.services.pools.forget()

    school.ask(keep())
    given = connect(school, "li")
    assert given.desktop is not None
    desktop_id = given.desktop.id
    school.log_off(school.users["li"], given.session.id)

    async def free() -> bool:
        found: Desktop | None = await school.store.desktops.desktop(desktop_id)
        return found is not None and found.state == "ready" and found.owner_id is not None

    school.until_true(free)
    return desktop_id


def agree(page: Page, button: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=button).click()


def test_a_snapshot_is_taken_gone_back_to_and_dropped(
    school: LiveBroker, visitor: Visitors
) -> None:
    desktop_id = kept(school)
    one = visitor("admin")
    one.open("/desktops")
    one.page.locator(f'a[href="/desktops/{desktop_id}"]').click()
    page, card = one.page, one.page.get_by_role("region", name="Snapshots")
    expect(card).to_contain_text("None yet")
    form = page.locator("#take-snapshot")
    form.get_by_label("Name").fill("before the update")
    form.get_by_label("Note").fill("office 2027")
    form.get_by_role("button", name="Take it").click()
    expect(card).to_contain_text("before the update")
    expect(card).to_contain_text("office 2027")
    expect(card.locator(".state")).to_have_text("ready")
    card.get_by_role("button", name="Go back").click()
    agree(page, "Go back")
    state = page.get_by_role("region", name="State", exact=True)
    generation = state.locator('dt:has-text("Generation") + dd')
    expect(generation).to_have_text("2")
    expect(state.locator(".state")).to_have_text("ready")
    card.get_by_role("button", name="Drop").click()
    agree(page, "Drop")
    expect(card).to_contain_text("None yet")
    expect(page.get_by_role("region", name="What was decided")).to_contain_text("snapshot")


def test_the_page_says_why_a_desktop_takes_none(school: LiveBroker, visitor: Visitors) -> None:
    until_ready(school)
    given = connect(school, "li")
    assert given.desktop is not None
    one = visitor("admin")
    one.open(f"/desktops/{given.desktop.id}")
    card = one.page.get_by_role("region", name="Snapshots")
    expect(card).to_contain_text("keeps nobody's work")
    expect(one.page.locator("#take-snapshot")).to_have_count(0)


def test_who_may_not_manage_sees_them_and_no_buttons(school: LiveBroker, visitor: Visitors) -> None:
    desktop_id = kept(school)
    actor = school.users["admin"].id
    school.ask(school.services.snapshots.take(desktop_id, "before", "", actor=actor))
    one = visitor("operator")
    one.open(f"/desktops/{desktop_id}")
    card = one.page.get_by_role("region", name="Snapshots")
    expect(card.locator(".state")).to_have_text("ready")
    expect(card.get_by_role("button")).to_have_count(0)
    expect(one.page.locator("#take-snapshot")).to_have_count(0)

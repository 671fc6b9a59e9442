"""The desktop's and the session's page: the staff restarts a machine, and moves it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from broker.domain.drift import Difference
from broker.domain.model import HostState
from broker.ports import Operation
from tests.console.test_live import connect, until_ready
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker


def agree(page: Page, button: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=button).click()


def test_a_desktop_is_restarted_under_its_person_who_sees_it_again_by_itself(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    person = visitor("li")
    library = person.page.get_by_role("region", name="Library")
    library.get_by_role("button", name="Connect").click()
    screen = person.page.locator("#screen")
    expect(screen).to_have_attribute("data-open", "yes")
    page_of_person = person.page.url
    session_id = page_of_person.rsplit("/", 1)[1]
    staff = visitor("operator")
    staff.open(f"/sessions/{session_id}")
    staff.page.get_by_role("button", name="Restart").click()
    expect(staff.page.get_by_role("dialog")).to_contain_text("not saved is lost")
    agree(staff.page, "Restart")
    expect(staff.page.locator("#notices")).to_contain_text("is being restarted")
    expect(screen).not_to_have_attribute("data-open", "yes")
    expect(screen).to_have_attribute("data-open", "yes")
    assert person.page.url == page_of_person
    expect(person.page.locator("main")).to_contain_text("was restarted by the staff")
    expect(staff.page.get_by_role("button", name="Restart")).to_be_visible()
    why = staff.page.get_by_role("region", name="Why")
    expect(why).to_contain_text("The desktop was switched off and on again")


def test_the_desktops_page_restarts_it_and_offers_that_only_while_it_runs(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    given = connect(school, "li")
    assert given.desktop is not None
    staff, onlooker = visitor("admin"), visitor("auditor")
    onlooker.open(f"/desktops/{given.desktop.id}")
    staff.open(f"/desktops/{given.desktop.id}")
    state = staff.page.get_by_role("region", name="State", exact=True)
    expect(onlooker.page.get_by_role("button", name="Restart")).to_have_count(0)
    state.get_by_role("button", name="Restart").click()
    expect(staff.page.get_by_role("dialog")).to_contain_text("li works in it")
    agree(staff.page, "Restart")
    decided = staff.page.get_by_role("region", name="What was decided")
    expect(decided).to_contain_text("The desktop was switched off and on again")
    expect(state.locator(".state")).to_have_text("assigned")
    expect(state.get_by_role("button", name="Restart")).to_be_visible()
    expect(state.locator('dt:has-text("Generation") + dd')).to_have_text("1")
    school.ask(school.services.engine_work.lost(given.desktop, "it crashed"))
    expect(state.locator(".state")).not_to_have_text("assigned")
    expect(state.get_by_role("button", name="Restart")).to_have_count(0)


def another_host(school: LiveBroker, **changes: Any) -> None:
    """srv-2, of the first host's kind unless `changes` say otherwise."""

    async def add() -> None:
        [load, *_] = await school.store.directory.host_loads()
        like = replace(load.host, id="hst_2", name="srv-2", **changes)
        await school.store.directory.save_host(like, new=True)

    school.ask(add())


def test_a_desktop_is_moved_to_a_host_that_would_take_it(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    given = connect(school, "li")
    assert given.desktop is not None
    another_host(school)
    staff = visitor("admin")
    staff.open(f"/desktops/{given.desktop.id}")
    state = staff.page.get_by_role("region", name="State", exact=True)
    expect(state).to_contain_text("host srv-1")
    card = staff.page.get_by_role("region", name="Move to another host")
    card.get_by_label("Host").select_option("srv-2")
    card.get_by_role("button", name="Move it").click()
    expect(staff.page.locator("#notices")).to_contain_text("is on its way")
    expect(state).to_contain_text("host srv-2")
    expect(card.get_by_role("option")).to_have_text(["srv-1"])
    decided = staff.page.get_by_role("region", name="What was decided")
    expect(decided).to_contain_text("The desktop moves to another host for an administrator")


def test_where_a_desktop_cannot_go_the_page_says_why_and_offers_nothing(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    given = connect(school, "li")
    assert given.desktop is not None
    another_host(school, state=HostState.MAINTENANCE)
    staff, onlooker = visitor("admin"), visitor("operator")
    for one in (staff, onlooker):
        one.open(f"/desktops/{given.desktop.id}")
    card = staff.page.get_by_role("region", name="Move to another host")
    expect(card).to_contain_text("srv-2 is under maintenance")
    expect(card.get_by_role("button")).to_have_count(0)
    expect(onlooker.page.get_by_role("region", name="Move to another host")).to_have_count(0)


class Comparing:
    """An engine that finds a disk too many."""

    async def drift(self, operation: Operation) -> tuple[Difference, ...]:
        del operation
        return (Difference(what="disk vdb", found="/x", wanted=""),)


def test_a_machine_is_compared_from_its_page(
    school: LiveBroker, visitor: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_ready(school)
    given = connect(school, "li")
    assert given.desktop is not None
    engines = {"simulated": Comparing()}
    monkeypatch.setattr(school.services.drifts, "_engines", engines.__getitem__)
    one = visitor("auditor")
    one.open(f"/desktops/{given.desktop.id}")
    card = one.page.get_by_role("region", name="As it should be?")
    card.get_by_role("button", name="Compare now").click()
    expect(card).to_contain_text("disk vdb: /x instead of none")

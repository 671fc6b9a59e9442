"""The agent in a desktop on the console's pages: who is logged on, the policy, and the lock."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from playwright.sync_api import expect

from broker.domain.model import Identity, Session
from broker.engines.simulated import SimulatedEngine
from broker.engines.simulated.guest import SimulatedGuest
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker

WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


def with_guests(broker: LiveBroker, more: str = "") -> None:
    """Desktops have an agent in them from now on."""
    profile = f"bare-metal?guest=1{more}"
    broker.ask(broker.services.directory.change_host("srv-1", profile=profile))


def live_session(broker: LiveBroker) -> tuple[Session, SimulatedGuest]:
    """li's, in front of li, and what is inside the desktop."""
    services = broker.services
    engine = cast("SimulatedEngine", broker.running.broker.engines["simulated"])

    async def begin() -> Session:
        store = services.kit.store
        user = await store.directory.user_by_name("li")
        assert user is not None
        identity = Identity(
            user_id=user.id,
            username=user.username,
            role=user.role,
            token_id="tok_li",
            group_ids=user.group_ids,
        )
        while True:
            given = await services.connect.connect(identity, "library")
            if given.desktop is not None:
                break
            await asyncio.sleep(0.1)
        await engine.console(given.desktop, given.session.id)
        await services.sessions.live(given.session.id, None, given.session.generation)
        return given.session

    session = broker.ask(begin())
    return session, engine.plant.machines[session.desktop_id or ""].guest


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_who_is_logged_on_is_shown_and_the_screen_is_locked_by_a_button(
    school: LiveBroker, visitor: Visitors, scheme: str, size: dict[str, int]
) -> None:
    with_guests(school)
    session, inside = live_session(school)
    admin = visitor("admin", viewport=size, color_scheme=scheme)
    for path in (f"/sessions/{session.id}", f"/desktops/{session.desktop_id}"):
        admin.open(path)
        facts = admin.page.locator("dl.facts").filter(has_text="Logged on")
        expect(facts).to_contain_text("person, without input for")
        expect(facts).to_contain_text("laid down in the desktop")
        assert admin.overflow() == 0
    admin.open(f"/sessions/{session.id}")
    admin.page.get_by_role("button", name="Lock", exact=True).click()
    expect(admin.page.get_by_text("The screen is locked.")).to_be_visible()
    assert inside.locked


def test_a_policy_that_is_not_laid_down_stands_on_the_page(
    school: LiveBroker, visitor: Visitors
) -> None:
    with_guests(school, "&guest_refuse=1")
    session, _ = live_session(school)
    admin = visitor("admin")
    admin.open(f"/sessions/{session.id}")
    facts = admin.page.locator("dl.facts").filter(has_text="Logged on")
    expect(facts).to_contain_text("not laid down the guest agent of")
    assert admin.overflow() == 0


def test_a_pools_channels_and_its_lock_are_set_in_its_form(
    school: LiveBroker, visitor: Visitors
) -> None:
    admin = visitor("admin")
    pool = school.ask(school.services.pools.find("library"))
    admin.open(f"/pools/{pool.id}")
    form = admin.page.locator("#settings")
    form.get_by_label("Clipboard").select_option("in")
    form.get_by_label("Watermark").select_option("true")
    form.get_by_label("When disconnected").select_option("false")
    form.get_by_role("button", name="Apply").click()
    expect(admin.page.get_by_text("The pool behaves so from now on.")).to_be_visible()
    school.services.pools.forget()
    settings = school.ask(school.services.pools.find("library")).settings
    assert (settings.channels.clipboard, settings.channels.watermark) == ("in", True)
    assert not settings.lock_on_disconnect
    assert not settings.channels.usb

"""The person's page: a button saves the file that opens the desktop outside the browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import asyncvnc
import pytest
from playwright.sync_api import Page, expect

from tests.console.test_live import until_ready
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker, identity_of, live_broker
from tests.support.rfb_server import colour_after
from tests.support.screens import shown_in, with_screen

pytestmark = pytest.mark.filterwarnings(
    "ignore:TripleDES has been moved", "ignore:Single-key TripleDES"
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LiveBroker]:
    """One that takes VNC and RDP viewers."""
    listen = {"vnc_listen": "127.0.0.1:0", "rdp_listen": "127.0.0.1:0"}
    with live_broker(tmp_path, listen) as running:
        yield running


async def first_pixel(file: str) -> tuple[int, ...]:
    """What a viewer sees that is given the file's lines."""
    values = dict(line.split("=", 1) for line in file.splitlines() if "=" in line)
    port, password = int(values["port"]), values["password"]
    async with asyncvnc.connect(values["host"], port, password=password) as client:
        picture = await client.screenshot()
    return tuple(int(part) for part in picture[0, 0][:3])


def test_a_person_saves_a_file_and_goes_on_in_a_viewer(
    school: LiveBroker, visitor: Visitors, tmp_path: Path
) -> None:
    until_ready(school)
    with with_screen(school) as engine:
        page = visitor("li").page
        page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
        expect(page.locator("#screen")).to_have_attribute("data-open", "yes")
        button = page.get_by_role("button", name="Open in a VNC viewer")
        with page.expect_download() as saving:
            button.click()
        download = saving.value
        assert download.suggested_filename == "library.vv"
        expect(page.locator("#notices")).to_contain_text("The file is saved")
        saved = tmp_path / "library.vv"
        download.save_as(saved)
        pixel = school.ask(first_pixel(saved.read_text(encoding="utf-8")))
        assert pixel == colour_after(len(engine.server.keys))
        # the display in the browser gave way to the viewer
        expect(page.locator("#screen-again")).to_be_visible()


# ------------------------------------------------------------ desktops that no browser shows


def connected(visitor: Visitors) -> Page:
    """The page of Li's session, just asked for."""
    page = visitor("li").page
    page.get_by_role("region", name="Library").get_by_role("button", name="Connect").click()
    expect(page).to_have_url(re.compile("/me/sessions/"))
    return page


def test_a_desktop_that_is_seen_over_rdp_alone_is_opened_in_a_viewer_and_no_canvas_tries(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    with shown_in(school, "rdp"):
        page = connected(visitor)
        box = page.locator("#viewers")
        expect(box).to_contain_text("opens in a viewer for RDP, not in the browser")
        expect(page.locator("#status")).to_have_attribute("data-shown", "viewer")
        with page.expect_download() as saving:
            page.get_by_role("button", name="Open in an RDP viewer").click()
        assert saving.value.suggested_filename == "library.rdp"
        expect(page.get_by_role("button", name="VNC")).to_have_count(0)
        expect(page.locator("#screen")).to_be_hidden()

        async def put_aside() -> None:
            sessions = school.services.sessions
            session_id = page.url.rpartition("/")[2]
            session = await school.store.sessions.session(session_id)
            assert session is not None
            await sessions.live(session_id, None, session.generation)
            admin = await school.services.directory.user("admin")
            await sessions.disconnect(identity_of(admin), session_id)

        school.ask(put_aside())
        expect(box).to_contain_text("Connect here first")
        expect(page.get_by_role("button", name="Open in an RDP viewer")).to_have_count(0)
        page.get_by_role("button", name="Connect here").click()
        expect(page.get_by_role("button", name="Open in an RDP viewer")).to_be_visible()
        expect(page.locator("#screen")).to_be_hidden()


@pytest.mark.parametrize(
    ("displays", "says"),
    [
        ((), "Its host shows none to this broker"),
        (("spice",), "shown by SPICE only, and this broker takes no such viewers"),
    ],
)
def test_a_desktop_that_nothing_shows_says_so_and_what_to_do(
    displays: tuple[str, ...], says: str, school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    with shown_in(school, *displays):
        page = connected(visitor)
        box = page.locator("#viewers")
        expect(box).to_contain_text("This desktop has no display here")
        expect(box).to_contain_text(says)
        expect(box).to_contain_text("tell those who run this site")
        expect(box.get_by_role("button")).to_have_count(0)
        expect(page.get_by_role("button", name="Log off")).to_be_visible()
        expect(page.locator("#screen")).to_be_hidden()

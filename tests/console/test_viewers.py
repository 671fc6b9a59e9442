"""The person's page: a button saves the file that opens the desktop outside the browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncvnc
import pytest
from playwright.sync_api import expect

from tests.console.test_live import until_ready
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker, live_broker
from tests.support.rfb_server import colour_after
from tests.support.screens import with_screen

pytestmark = pytest.mark.filterwarnings(
    "ignore:TripleDES has been moved", "ignore:Single-key TripleDES"
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LiveBroker]:
    """One that takes VNC viewers."""
    with live_broker(tmp_path, {"vnc_listen": "127.0.0.1:0"}) as running:
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

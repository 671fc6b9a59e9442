"""Light and dark, wide and narrow: nothing sticks out, and everything can be read."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from playwright.sync_api import expect

from tests.console.test_live import connect, until_ready
from tests.console.test_roles import every_page
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker

NARROW: Final[dict[str, Any]] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
TABLET: Final[dict[str, Any]] = {"viewport": {"width": 820, "height": 1180}}
SMALL: Final[dict[str, Any]] = {"viewport": {"width": 1240, "height": 800}}
CONTRAST_MIN: Final = 4.5
"""WCAG 2.2, 1.4.3: of text and its ground"""

SCROLLING = """[...document.querySelectorAll(".table-wrap")]
  .filter((one) => one.scrollWidth > one.clientWidth).length"""
FAINT = """(least) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, under) =>
    [0, 1, 2].map((i) => top[i] * top[3] / 255 + under[i] * (1 - top[3] / 255)).concat(255);
  const ground = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      layers.push(rgba(getComputedStyle(one).backgroundColor));
    }
    return layers.reduceRight((under, top) => over(top, under), [255, 255, 255, 255]);
  };
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility() || element.closest(":disabled, svg, .sr")) continue;
    const under = ground(element);
    const text = over(rgba(getComputedStyle(element).color), under);
    const [high, low] = [light(text), light(under)].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < least) found.push(`${contrast.toFixed(2)} ${element.outerHTML.slice(0, 90)}`);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(school: LiveBroker, visitor: Visitors, scheme: str) -> None:
    one = visitor("admin", color_scheme=scheme)
    for path in (*every_page(school), "/me"):
        one.open(path)
        assert one.page.evaluate(FAINT, CONTRAST_MIN) == [], path
    ground = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 20, 26)") == (scheme == "dark")


@pytest.mark.parametrize("window", [NARROW, TABLET, SMALL], ids=["phone", "tablet", "small"])
def test_no_page_is_wider_than_its_window(
    school: LiveBroker, visitor: Visitors, window: dict[str, Any]
) -> None:
    school.person("long", display_name="A" * 60 + " " + "长" * 59)
    one = visitor("admin", **window)
    for path in (*every_page(school), "/me", "/endpoints?text=nothing"):
        one.open(path)
        assert one.overflow() == 0, path
        assert one.page.evaluate(SCROLLING) == 0, f"a list in {path} scrolls sideways"
    pupil = visitor("li", **window)
    assert pupil.overflow() == 0
    pupil.page.get_by_role("link", name="Open").click()
    expect(pupil.page.locator("#screen")).to_be_visible()
    assert pupil.overflow() == 0
    stranger = visitor(**window)
    for path in ("/sign-in", "/setup", "/nothing"):
        stranger.expected.append("404")
        stranger.open(path)
        assert stranger.overflow() == 0, path


TOPS = """[...document.querySelector("tbody tr").querySelectorAll("td, th")]
  .filter((cell) => cell.checkVisibility())
  .map((cell) => cell.getBoundingClientRect().y)"""


def test_on_a_phone_the_menu_opens_and_a_row_is_a_card(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    connect(school, "li")
    one = visitor("auditor", **NARROW)
    menu = one.page.get_by_role("navigation")
    expect(menu).to_be_hidden()
    button = one.page.get_by_role("button", name="Menu")
    button.click()
    expect(button).to_have_attribute("aria-expanded", "true")
    menu.get_by_role("link", name="Sessions").click()
    one.page.wait_for_url("**/sessions")
    expect(one.page.locator("tbody tr").first).to_be_visible()
    # found and measured in one go: the list may be drawn anew at any moment
    tops = set(one.page.evaluate(TOPS))
    assert len(tops) >= 6, "the cells stand beside each other"


def test_the_chosen_theme_goes_before_the_systems(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor("auditor", color_scheme="dark")
    one.page.get_by_role("button", name="Use the light theme").click()
    ground = "getComputedStyle(document.body).backgroundColor"
    assert one.page.evaluate(ground) == "rgb(245, 246, 248)"
    one.open("/pools")
    assert one.page.evaluate(ground) == "rgb(245, 246, 248)"


def test_times_are_in_the_browsers_zone_and_exact_in_the_title(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    session = connect(school, "li").session
    one = visitor("auditor")
    one.open(f"/sessions/{session.id}")
    time = one.page.locator("#session time").first
    title = time.get_attribute("title") or ""
    assert title.endswith(" UTC")
    utc_hour, minute = title[11:13], title[14:16]
    local = (int(utc_hour) + 8) % 24
    expect(time).to_have_text(re.compile(f"^{local:02d}:{minute}:"))


def test_pages_are_there_without_scripts(school: LiveBroker, visitor: Visitors) -> None:
    until_ready(school)
    connect(school, "li")
    one = visitor("auditor", java_script_enabled=False)
    for path in ("/overview", "/sessions", "/pools"):
        assert one.open(path).status == 200
    one.open("/sessions")
    one.page.get_by_label("Person").fill("wang")
    one.page.get_by_role("button", name="Filter").click()
    expect(one.page.get_by_text("No session fits")).to_be_visible()

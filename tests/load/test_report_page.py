"""The report page in real Chromium: light and dark, wide and narrow, and nothing is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from loadtests.analyse import analyse
from loadtests.calibration import read_calibration
from loadtests.report import render
from loadtests.verdict import Criteria
from tests.support.browsing import ARGUMENTS
from tests.support.campaigns import evidence_of, plan_of

WIDTHS = {"wide": 1200, "narrow": 360}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=ARGUMENTS
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = analyse(evidence_of(plan_of(sessions=40)), read_calibration(), Criteria())
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(report, read_calibration()), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("form", WIDTHS)
def test_the_page_fits_says_nothing_to_the_console_and_loads_nothing(
    browser: Browser, page_file: Path, scheme: str, form: str
) -> None:
    context = browser.new_context(
        viewport={"width": WIDTHS[form], "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[form]
    assert page.locator(f"svg.chart.{form}").first.is_visible()
    other = next(name for name in WIDTHS if name != form)
    assert not page.locator(f"svg.chart.{other}").first.is_visible()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(paper.removeprefix("rgb(").split(",")[0])
    assert (red < 64) == (scheme == "dark")
    assert said == []
    assert asked == [page_file.as_uri()]
    context.close()


def test_every_label_of_every_chart_lies_on_its_paper(browser: Browser, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(page_file.as_uri())
    outside = page.evaluate(
        """() => [...document.querySelectorAll('svg.chart.wide')].flatMap(svg => {
            const paper = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < paper.left - 8 || box.right > paper.right + 8
                    || box.top < paper.top - 8 || box.bottom > paper.bottom + 8;
            }).map(text => text.textContent);
        })"""
    )
    assert outside == []
    page.close()


def test_labels_on_one_axis_do_not_overlap(browser: Browser, page_file: Path) -> None:
    for form, width in WIDTHS.items():
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(page_file.as_uri())
        overlapping = page.evaluate(
            """form => [...document.querySelectorAll(`svg.chart.${form}`)].flatMap(svg => {
                const boxes = [...svg.querySelectorAll('text')].map(text =>
                    [text.getBoundingClientRect(), text.textContent]);
                return boxes.flatMap(([a, one], i) => boxes.slice(i + 1).filter(([b]) =>
                    a.left < b.right - 1 && b.left < a.right - 1 &&
                    a.top < b.bottom - 3 && b.top < a.bottom - 3
                ).map(([, other]) => `${one} / ${other}`));
            })""",
            form,
        )
        assert overlapping == [], form
        page.close()

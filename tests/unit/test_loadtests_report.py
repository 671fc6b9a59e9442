"""The report page: whole, self-contained, escaped, for every kind of campaign."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import msgspec
import pytest

from loadtests.analyse import analyse
from loadtests.calibration import Calibration, Figure, read_calibration
from loadtests.evidence import Evidence
from loadtests.records import Trouble
from loadtests.report import FOLDERS, render
from loadtests.result import Report, schema
from loadtests.verdict import Criteria
from tests.support.campaigns import evidence_of, plan_of, record_of

CALIBRATION = read_calibration()
VOID = {"meta", "br", "path", "rect", "circle", "line", "polyline", "polygon", "link", "img"}


class Page(HTMLParser):
    """Collects what a test asks about, and that every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def report_of(evidence: Evidence) -> Report:
    return analyse(evidence, CALIBRATION, Criteria())


def good_report(**values: object) -> Report:
    return report_of(evidence_of(plan_of(**values)))


def failed_report() -> Report:
    plan = plan_of(sessions=30)
    records = [record_of(arrival) for arrival in plan.arrivals]
    for i in range(0, 30, 3):
        records[i] = msgspec.structs.replace(
            records[i],
            trouble=Trouble(step="assign", error="problem:<script>alert(1)</script>"),
        )
    return report_of(evidence_of(plan, records))


def invalid_report() -> Report:
    return report_of(evidence_of(plan_of(sessions=4), [], []))


REPORTS = {
    "good": good_report(sessions=60),
    "fail": failed_report(),
    "invalid": invalid_report(),
    "one": good_report(sessions=1, mix={"voi": 1.0}),
    "vdi only": good_report(sessions=6, mix={"vdi": 1.0}),
}


@pytest.fixture(params=list(REPORTS))
def html(request: pytest.FixtureRequest) -> str:
    return render(REPORTS[request.param], CALIBRATION)


def test_every_element_is_closed_and_every_id_is_there_once(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    for tag, name, value in page.attributes:
        if tag == "a" and name == "href":
            assert value.removeprefix("#") in page.ids


def test_nothing_is_asked_of_anybody(html: str) -> None:
    page = Page(html)
    for tag, name, value in page.attributes:
        assert name not in {"src", "srcset", "style", "action", "poster"}, (tag, name)
        assert not name.startswith("on"), (tag, name)
        if name == "href":
            assert value.startswith("#")
    assert not re.search(r"url\((?!#)", html)
    assert "@import" not in html
    assert "<script" not in html.lower()
    assert "://" not in html


def test_the_policy_allows_the_style_sheet_and_nothing_else(html: str) -> None:
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    assert html.count("<style") == 1
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(
        value
        for tag, name, value in Page(html).attributes
        if tag == "meta" and name == "content" and "default-src" in value
    )
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_no_figure_is_left_unwritten(html: str) -> None:
    text = " ".join(Page(html).text)
    body = text[text.index("Trivium load campaign") :]
    for word in ("None", "nan", "inf ms", "Undefined", "{{", "}}"):
        assert word not in body, word


@pytest.mark.parametrize("name", REPORTS)
def test_the_verdict_and_its_reasons_come_first(name: str) -> None:
    report = REPORTS[name]
    text = " ".join(Page(render(report, CALIBRATION)).text)
    where = text.index(report.verdict.upper())
    assert where < text.index("Comparison")
    for reason in report.reasons:
        assert where < text.index(reason) < text.index("Comparison")


def test_what_a_broker_says_is_text_and_not_markup() -> None:
    html = render(REPORTS["fail"], CALIBRATION)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_every_figure_of_the_calibration_is_there_and_assumptions_are_marked() -> None:
    text = " ".join(Page(render(REPORTS["good"], CALIBRATION)).text)
    for figure in CALIBRATION.figures.values():
        assert figure.source in text
    marked = sum(1 for figure in CALIBRATION.figures.values() if figure.assumption)
    rows = sum(1 for row in REPORTS["good"].break_even.rows if row.assumption)
    assert text.count("assumption") >= marked + rows


def test_seed_plan_and_command_are_there_to_reproduce_it() -> None:
    report = REPORTS["good"]
    text = " ".join(Page(render(report, CALIBRATION)).text)
    assert report.plan_sha256 in text
    assert report.command in text
    assert f"seed {report.seed}" in text


def test_charts_have_a_wide_and_a_narrow_form_and_say_what_they_show() -> None:
    attributes = Page(render(REPORTS["good"], CALIBRATION)).attributes
    classes = [value for tag, name, value in attributes if (tag, name) == ("svg", "class")]
    assert classes.count("chart wide") == classes.count("chart narrow") == 7
    images = sum(1 for tag, name, value in attributes if (name, value) == ("role", "img"))
    labels = [value for tag, name, value in attributes if (tag, name) == ("svg", "aria-label")]
    assert images == len(labels)
    assert all(labels)


def test_a_calibration_with_markup_in_it_is_escaped() -> None:
    figure = Figure(
        name="phases.logon", low=1, high=2, unit="s", source="<b>bold</b>", assumption=False
    )
    spoilt = Calibration(figures={**CALIBRATION.figures, "phases.logon": figure})
    assert "<b>bold</b>" not in render(REPORTS["good"], spoilt)


def colours(block: str) -> dict[str, tuple[float, float, float]]:
    """The custom properties of a rule that are colours, as linear light."""

    def linear(part: str) -> float:
        value = int(part, 16) / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    found = {}
    for name, text in re.findall(r"--([\w-]+): #([0-9a-f]{6}|[0-9a-f]{3});", block):
        digits = text if len(text) == 6 else "".join(2 * digit for digit in text)
        red, green, blue = (linear(digits[i : i + 2]) for i in (0, 2, 4))
        found[name] = (red, green, blue)
    return found


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """As WCAG 2 defines it."""
    bright, dark = sorted(
        (0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (one, other)), reverse=True
    )
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_every_text_colour_stands_out_from_its_paper(scheme: str) -> None:
    style = (FOLDERS[0] / "style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    found = colours(blocks[0]) | colours(blocks[["light", "dark", "print"].index(scheme)])
    pairs = [(text, "paper") for text in ("ink", "soft", "vdi", "idv", "voi")]
    pairs += [("ink", "card"), ("soft", "card"), ("soft", "faint")]
    pairs += [(name, f"{name}-paper") for name in ("good", "bad", "odd")]
    for text, paper in pairs:
        assert contrast(found[text], found[paper]) >= 4.5, (scheme, text, paper)


def test_report_json_keeps_to_its_published_schema() -> None:
    found = schema()
    properties = found["$defs"]["Report"]["properties"]
    assert {"verdict", "seed", "plan_sha256", "architectures", "invariants"} <= properties.keys()
    phases = found["$defs"]["Distribution"]["properties"]
    assert {"n", "p50_ms", "p95_ms", "p99_ms"} <= phases.keys()
    assert {"control", "display", "image", "total"} <= found["$defs"]["Bytes"]["properties"].keys()

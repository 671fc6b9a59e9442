"""Campaigns and their reports, which are files with scripts of their own."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from broker.domain.model import Campaign, CampaignState
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker

REPORT = """<!doctype html><meta charset="utf-8"><title>Report</title>
<style>h1 { color: rgb(1, 2, 3); }</style>
<h1 id="title">a report</h1>
<script>
document.getElementById("title").textContent = "changed by a script";
parent.document.title = "taken over";
</script>"""
"""a report has its own style sheet; a script in it is none of ours"""


def store_campaign(school: LiveBroker, *, finished: bool) -> None:
    now = school.services.kit.clock.now()
    school.ask(
        school.store.campaigns.save(
            Campaign(
                id="cmp_1",
                name="first lesson 第一节课",
                seed=7,
                plan_sha256="ab" * 32,
                state=CampaignState.FINISHED if finished else CampaignState.RUNNING,
                verdict="pass" if finished else "",
                report_path="one/report.html" if finished else "",
                summary={
                    "architectures": {
                        "vdi": {"sessions": 40, "failures": 0, "phases": {}, "bytes": 12_000},
                        "voi": {"sessions": 30, "failures": 2, "phases": {}, "bytes": 9e9},
                    },
                    "invariants": {"double_assignments": 0, "lost_sessions": 0},
                }
                if finished
                else {},
                started_at=now - 5_000,
                finished_at=now if finished else None,
            )
        )
    )
    school.services.kit.events.publish("campaign", id="cmp_1")


def test_a_campaign_that_ends_shows_its_result_without_a_reload(
    school: LiveBroker, visitor: Visitors
) -> None:
    store_campaign(school, finished=False)
    one = visitor("auditor", hints_only=True)
    one.open("/campaigns")
    one.page.get_by_role("link", name="first lesson 第一节课").click()
    result = one.page.get_by_role("region", name="Result")
    expect(result).to_contain_text("running")
    expect(one.page.locator("#live-sign")).to_have_text("live")
    store_campaign(school, finished=True)
    expect(result).to_contain_text("pass")
    expect(result).to_contain_text("Double assignments")
    expect(result.get_by_role("row", name=re.compile("^Sessions"))).to_contain_text("40")
    expect(result.get_by_role("row", name=re.compile("^On the wire"))).to_contain_text("9.0 GB")


def test_a_report_is_shown_in_a_sandbox(school: LiveBroker, visitor: Visitors) -> None:
    folder = school.running.broker.config.reports / "one"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text(REPORT)
    store_campaign(school, finished=True)
    one = visitor("auditor")
    one.expected.append("Blocked script execution")
    one.open("/campaigns/cmp_1")
    report = one.page.frame_locator("iframe")
    expect(report.locator("h1")).to_have_text("a report")
    expect(report.locator("h1")).to_have_css("color", "rgb(1, 2, 3)")
    # it is another origin, without our sign-in, and has no hand on the page around it
    assert one.page.frames[1].evaluate("origin") == "null"
    expect(one.page).to_have_title(re.compile("^first lesson"))

"""Names that try to be markup or script are shown as what they are, on every page."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final
from urllib.parse import unquote

import pytest
from playwright.sync_api import expect

from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import (
    Campaign,
    CampaignState,
    PhaseReport,
    Traffic,
)
from broker.ports import PageQuery, RosterChange
from tests.console.test_live import connect, until_ready
from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker

CORPUS: Final = (
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=2>",
    "\"'><svg/onload=window.hit=3>",
    "' onfocus='window.hit=4' autofocus='",
    '" hx-get="/overview" hx-trigger="load" x="',
    "</title></select></textarea></template><b>out</b>",
    "{{ 7*7 }} {% raw %} ${7*7} #{7*7}",
    "javascript:window.hit=5",
    "&lt;script&gt;window.hit=6&lt;/script&gt;",
    "<!-- --><style>*{display:none}</style>",
    "%3Cscript%3Ewindow.hit=7%3C/script%3E",
    "<a href=//elsewhere.example>x</a>",
    "\u202egpj.exe\u2066 右 张三",
)
"""put into every text that somebody else than the reader chooses"""
NAMES: Final = (" ".join(CORPUS[:5]), " ".join(CORPUS[5:9]), " ".join(CORPUS[9:]))
"""several to a name, as each run takes seconds: one that is not shown whole is found"""


def is_searched(text: str, url: str) -> bool:
    return text in unquote(url)


def spoil(school: LiveBroker, text: str) -> dict[str, str]:
    """Give everything this name, past every check; answers a page of each kind."""
    until_ready(school)
    session = connect(school, "li").session
    connect(school, "wang")
    people = {**school.users}

    async def change() -> str:
        store, now = school.store, school.services.kit.clock.now()
        pools = await store.directory.pools()
        groups = await store.directory.groups(PageQuery())
        endpoints = await store.endpoints.endpoints(PageQuery())
        hosts = await store.directory.host_loads()
        images = await store.directory.images()
        await store.directory.apply_roster(
            RosterChange(
                groups=tuple(replace(one, title=text) for one in groups.items),
                users=tuple(replace(one, display_name=text) for one in people.values()),
                pools=tuple(replace(one, title=text) for one in pools),
                hosts=tuple(replace(one.host, profile=text) for one in hosts),
                images=images,
                endpoints=tuple(
                    replace(one, name=f"{text} {place}", location=text, agent_version=text)
                    for place, one in enumerate(endpoints.items)
                ),
            )
        )
        await store.sessions.note_phases(
            session.id, [PhaseReport(name=text, took_ms=5)], Traffic(display=10)
        )
        (vdi,) = (await store.desktops.desktops(PageQuery(filters={"state": "assigned"}))).items
        await store.desktops.advance(vdi.id, DesktopEvent.FAILED, now, note=text)
        campaign = Campaign(
            id="cmp_1",
            name=text,
            seed=1,
            plan_sha256=text,
            state=CampaignState.FINISHED,
            verdict=text,
            report_path="",
            summary={"architectures": {"vdi": {"phases": {text: {"p50_ms": 1}}}}},
            started_at=now,
            finished_at=now,
        )
        await store.campaigns.save(campaign)
        return session.id

    session_id = school.ask(change())
    school.services.pools.forget()
    return {"session": session_id, "pool": session.pool_id}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("text", NAMES)
def test_a_hostile_name_stays_a_name(school: LiveBroker, visitor: Visitors, text: str) -> None:
    ids = spoil(school, text)
    one = visitor("admin")
    shown = ("/sessions", "/endpoints", "/users", "/pools", "/campaigns", "/hosts", "/desktops")
    pages = (
        "/overview",
        *shown,
        "/jobs",
        f"/sessions/{ids['session']}",
        f"/pools/{ids['pool']}",
        "/campaigns/cmp_1",
        "/me",
    )
    for path in pages:
        assert one.open(path).status == 200, path
        if path in shown:
            assert text in one.page.locator("#list").inner_text(), path
        assert one.page.evaluate("window.hit") is None, path
        assert one.page.locator("main script, main style, main img").count() == 0, path
        assert one.page.evaluate("[...document.links].every(a => a.host === location.host)")
    pupil = visitor("li")
    expect(pupil.page.locator("main")).to_contain_text(text)
    pupil.open(f"/me/sessions/{ids['session']}")
    expect(pupil.page.get_by_role("heading", level=1)).to_have_text(text)
    # who leaves before the display has answered makes the browser complain
    expect(pupil.page.locator("#screen-words")).not_to_have_text("connecting")


@pytest.mark.parametrize("text", NAMES)
def test_a_hostile_name_stays_a_name_in_what_scripts_write(
    school: LiveBroker, visitor: Visitors, text: str
) -> None:
    """Questions, notices and the choice of seats are written by scripts."""
    spoil(school, text)
    one = visitor("admin")
    one.open("/endpoints")
    one.page.get_by_role("button", name="Retire").first.click()
    question = one.page.get_by_role("dialog")
    expect(question.get_by_role("heading")).to_contain_text(text)
    question.get_by_role("button", name="Retire").click()
    expect(one.page.locator("#notices")).to_contain_text(text)
    assert one.page.evaluate("window.hit") is None
    pupil = visitor("li")
    pupil.expected.append("404")
    seat = pupil.page.locator("[data-seats]").first
    seat.fill(f"{text} none")
    seat.locator("xpath=ancestor::form").get_by_role("button", name="Connect").click()
    expect(pupil.page.locator("#notices")).to_contain_text("there is no endpoint")
    assert pupil.page.evaluate("window.hit") is None


def test_a_hostile_search_stays_a_search(school: LiveBroker, visitor: Visitors) -> None:
    one = visitor("auditor")
    fields = (("/users", "Search"), ("/endpoints", "Search"), ("/sessions", "Person"))
    for path, label in fields:
        one.open(path)
        for text in CORPUS:
            one.page.get_by_label(label).fill(text)
            one.page.wait_for_url(partial(is_searched, text))
            expect(one.page.locator("#list .empty")).to_be_visible()
            assert one.page.evaluate("window.hit") is None
            one.page.reload()
            expect(one.page.get_by_label(label)).to_have_value(text)
            assert one.page.evaluate("window.hit") is None


def test_a_hostile_user_name_stays_a_name_at_the_sign_in(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor()
    one.expected += ["401", "429"]
    for text in CORPUS:
        one.open("/sign-in?next=" + "%22%3E%3Cscript%3Ewindow.hit=1%3C/script%3E")
        one.page.get_by_label("User name").fill(text)
        one.page.get_by_label("Password").fill("wrong")
        one.page.get_by_role("button", name="Sign in").click()
        expect(one.page.get_by_role("alert")).to_be_visible()
        expect(one.page.get_by_label("User name")).to_have_value(text)
        assert one.page.evaluate("window.hit") is None


def test_the_eyes_of_these_tests_see_what_they_look_for(
    school: LiveBroker, visitor: Visitors
) -> None:
    """Planted: a page that lets a name through would be noticed."""
    one = visitor("auditor")
    one.page.evaluate(
        """document.querySelector("main").insertAdjacentHTML(
             "beforeend", "<img src=x onerror=window.hit=2><p style='color:red'>x</p>")"""
    )
    one.page.wait_for_timeout(300)
    violations = [found for found in one.trouble if "Content Security Policy" in found]
    assert len(violations) >= 2
    one.trouble.clear()

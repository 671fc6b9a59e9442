"""A stored host's connection is edited in the page that hosts are added with: prefilled, looked at
first, and saved only as it was looked at."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Page, Route, expect

from broker.domain.model import Host
from tests.console.test_add_host import KEY, rows
from tests.console.test_live import until_ready
from tests.console.test_looks import CONTRAST_MIN, FAINT, NARROW
from tests.support.browsing import Visitors
from tests.support.builders import make_host
from tests.support.live_broker import LiveBroker

OLD_KEY = "SHA256:" + "b" * 43
FAR = (
    "qemu?uri=qemu%2Bssh%3A%2F%2Ftrivium%40127.0.0.1%3A1%2Fsystem"
    f"&host_key={OLD_KEY}&pool=fast&moves_tls=yes&append=root%3D%2Fdev%2Fvda1+quiet"
)


def stored(school: LiveBroker, name: str = "") -> Host:
    """By name, or one that has desktops."""
    loads = school.ask(school.services.kit.store.directory.host_loads())
    return next(one.host for one in loads if one.host.name == name or (not name and one.by_pool))


def far_host(school: LiveBroker, profile: str = FAR) -> Host:
    host = make_host(id="hst_far", name="far", engine="libvirt", profile=profile)
    return school.ask(school.services.kit.store.directory.save_host(host, new=True))


def edited(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).first.click()
    page.get_by_role("link", name="Edit connection").click()


def test_a_knob_is_added_to_a_host_that_has_desktops_once_it_was_looked_at(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    one = visitor("admin")
    before = stored(school)
    one.open("/hosts")
    edited(one.page, before.name)
    form, save = one.page.locator("#add-host"), one.page.get_by_role("button", name="Save")
    expect(form.locator("[name=name]")).to_have_value(before.name)
    expect(form.locator("[name=kind]")).to_have_value(before.profile.partition("?")[0])
    expect(form.locator("[name=engine] option")).to_have_count(1)
    expect(form.locator("[name=memory_mib]")).to_have_value(str(before.capacity.memory_mib))
    form.locator("[name=more]").fill("migrate=maybe")
    one.page.get_by_role("button", name="Look at it").click()
    expect(rows(one.page).first).to_contain_text("knob migrate: 'maybe' is out of range")
    expect(save).to_be_disabled()
    form.locator("[name=more]").fill("migrate=0")
    one.page.get_by_role("button", name="Look at it").click()
    expect(save).to_be_enabled()
    save.click()
    one.page.wait_for_url(f"**/hosts/{before.id}")
    expect(one.page.locator("main")).to_contain_text("?migrate=0")
    now = stored(school, before.name)
    assert now.profile.endswith("?migrate=0")
    assert (now.capacity, now.revision) == (before.capacity, before.revision + 1)

    # what it has now is what the page begins with
    one.open(f"/hosts/{before.id}/connection")
    expect(form.locator("[name=more]")).to_have_value("migrate=0")


def test_what_is_refused_when_it_is_saved_says_what_to_do(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    one = visitor("admin")
    one.expected.append("409")
    host = stored(school)
    kinds = {"bare-metal", "hosted"} - {host.profile.partition("?")[0]}
    one.open(f"/hosts/{host.id}/connection")
    one.page.locator("[name=kind]").select_option(min(kinds))
    one.page.get_by_role("button", name="Look at it").click()
    one.page.get_by_role("button", name="Save").click()
    refused = rows(one.page).last
    expect(refused).to_contain_text("could not be found any more")
    expect(refused).to_contain_text("under maintenance and wait until it is empty")
    assert stored(school, host.name).profile == host.profile


def test_the_new_key_of_a_host_that_was_installed_anew_is_confirmed_and_saved(
    school: LiveBroker, visitor: Visitors
) -> None:
    """The broker's answers are canned: whether libvirt is here does not matter."""
    host = far_host(school)
    one = visitor("admin")
    asked: list[dict[str, Any]] = []

    def look(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or "{}"))
        key = {
            "name": "key", "verdict": "missing", "says": f"the host shows {KEY}",
            "advice": "Find out which.", "found": {"host_key": KEY},
        }  # fmt: skip
        known = key | {"verdict": "ok", "found": {}}
        lines = [key, {"fits": False}] if len(asked) == 1 else [known, {"fits": True}]
        body = "".join(json.dumps(line) + "\n" for line in lines)
        route.fulfill(content_type="application/x-ndjson", body=body)

    def save(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or "{}"))
        route.fulfill(content_type="application/json", body="{}")

    one.open(f"/hosts/{host.id}/connection")
    form = one.page.locator("#add-host")
    for name, value in (
        ("way", "ssh"), ("address", "127.0.0.1"), ("port", "1"), ("user", "trivium"),
        ("host_key", OLD_KEY), ("pool", "fast"), ("network", ""),
    ):  # fmt: skip
        expect(form.locator(f"[name={name}]")).to_have_value(value)
    one.page.route("**/api/v1/hosts/check", look)
    one.page.route(f"**/api/v1/hosts/{host.id}", save)
    one.page.get_by_role("button", name="Look at it").click()
    one.page.get_by_role("button", name="confirm this key").click()
    one.page.get_by_role("button", name="Save").click()
    one.page.wait_for_url(f"**/hosts/{host.id}")
    first, second, saved = asked
    knobs = parse_qs(host.profile.partition("?")[2])
    assert parse_qs(first["profile"].partition("?")[2]) == knobs
    assert saved == {"profile": second["profile"], "revision": host.revision}
    assert parse_qs(saved["profile"].partition("?")[2]) == knobs | {"host_key": [KEY]}


@pytest.mark.parametrize(
    "uri",
    [
        "qemu%2Btcp://127.0.0.1:1/system&plain=yes",
        "qemu%2Bunix:///session?socket=/run/no",
        "qemu%2Btls://[::1]:1/system",
        "qemu://127.0.0.1:1/system",
    ],
)
def test_an_address_of_any_form_stays_as_it_was_written(
    school: LiveBroker, visitor: Visitors, uri: str
) -> None:
    host = far_host(school, f"qemu?uri={uri}&pool=fast&rdp=10.0.0.0/16&accel=tcg&clone=full")
    one = visitor("admin")
    asked: list[dict[str, Any]] = []

    def look(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or "{}"))
        route.fulfill(content_type="application/x-ndjson", body='{"fits": true}\n')

    one.open(f"/hosts/{host.id}/connection")
    one.page.route("**/api/v1/hosts/check", look)
    one.page.get_by_role("button", name="Look at it").click()
    expect(one.page.get_by_role("button", name="Save")).to_be_enabled()
    assert parse_qs(asked[0]["profile"].partition("?")[2]) == parse_qs(
        host.profile.partition("?")[2]
    )


@pytest.mark.parametrize(
    ("scheme", "options"), [("light", {}), ("dark", {}), ("dark", NARROW), ("light", NARROW)]
)
def test_the_page_can_be_read_in_light_and_dark_and_fits_a_phone(
    school: LiveBroker, visitor: Visitors, scheme: str, options: dict[str, Any]
) -> None:
    host = far_host(school)
    one = visitor("admin", color_scheme=scheme, **options)
    for path in (f"/hosts/{host.id}", f"/hosts/{host.id}/connection"):
        one.open(path)
        assert one.page.evaluate(FAINT, CONTRAST_MIN) == []
        assert one.overflow() == 0
    one.page.get_by_role("button", name="Look at it").click()
    expect(rows(one.page).first).to_be_visible()
    expect(one.page.locator("#profile")).to_contain_text("host_key")
    assert one.page.evaluate(FAINT, CONTRAST_MIN) == []
    assert one.overflow() == 0


def test_operators_are_not_offered_to_edit_connections(
    school: LiveBroker, visitor: Visitors
) -> None:
    until_ready(school)
    host = stored(school)
    one = visitor("operator")
    one.expected.append("403")
    one.open(f"/hosts/{host.id}")
    expect(one.page.get_by_role("link", name="Edit connection")).to_have_count(0)
    assert one.open(f"/hosts/{host.id}/connection").status == 403

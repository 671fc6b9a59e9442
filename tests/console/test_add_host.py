"""A host is looked at step by step before it is added; and each says what it can do."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, unquote

from playwright.sync_api import Locator, Page, Route, expect

from tests.support.browsing import Visitors
from tests.support.live_broker import LiveBroker

KEY = "SHA256:" + "a" * 43


def rows(page: Page) -> Locator:
    return page.locator("#steps tbody tr")


def filled(page: Page, **fields: str) -> None:
    form = page.locator("#add-host")
    form.locator("[name=engine]").select_option("simulated")
    form.locator("[name=name]").fill("srv-9")
    for name, value in fields.items():
        form.locator(f"[name={name}]:enabled").fill(value)


def test_a_host_that_would_do_is_shown_so_and_then_added(
    school: LiveBroker, visitor: Visitors
) -> None:
    one = visitor("admin")
    one.open("/hosts")
    one.page.get_by_role("link", name="Add a host").click()
    add = one.page.get_by_role("button", name="Add this host")
    filled(one.page, cpus="16", memory_mib="65536", more="migrate=0")
    expect(one.page.get_by_label("Host key")).to_be_hidden()
    expect(add).to_be_disabled()
    one.page.get_by_role("button", name="Look at it").click()
    expect(rows(one.page)).to_have_count(2)
    expect(rows(one.page).first).to_contain_text("profile")
    expect(add).to_be_enabled()
    add.click()
    one.page.wait_for_url("**/hosts")
    expect(one.page.locator("#list")).to_contain_text("srv-9")
    loads = school.ask(school.services.kit.store.directory.host_loads())
    [host] = [load.host for load in loads if load.host.name == "srv-9"]
    assert host.profile.endswith("?migrate=0")
    assert (host.capacity.cpus, host.capacity.memory_mib) == (16, 65536)

    one.open(f"/hosts/{host.id}/abilities")
    told = one.page.locator("main")
    expect(told).to_contain_text("the host's profile turns it off")
    expect(told).to_contain_text("65,536 MiB")


def test_what_is_missing_is_shown_with_what_to_do_and_nothing_can_be_added(
    school: LiveBroker, visitor: Visitors
) -> None:
    del school
    one = visitor("admin")
    one.open("/hosts/add")
    filled(one.page, more="speed=<b>warp</b>")
    one.page.get_by_role("button", name="Look at it").click()
    expect(rows(one.page).first).to_contain_text("missing")
    expect(rows(one.page).first).to_contain_text("no knob is called 'speed'")
    expect(rows(one.page).first).to_contain_text("docs/engines.md")
    expect(one.page.get_by_role("button", name="Add this host")).to_be_disabled()


def test_what_was_changed_after_the_look_must_be_looked_at_again(
    school: LiveBroker, visitor: Visitors
) -> None:
    del school
    one = visitor("admin")
    one.open("/hosts/add")
    filled(one.page)
    one.page.get_by_role("button", name="Look at it").click()
    add = one.page.get_by_role("button", name="Add this host")
    expect(add).to_be_enabled()
    one.page.locator("[name=more]").fill("boot_fail=1")
    expect(add).to_be_disabled()


def test_steps_are_shown_as_they_come_and_a_key_is_confirmed_by_its_button(
    school: LiveBroker, visitor: Visitors
) -> None:
    """The broker's answers are canned: whether libvirt is here does not matter."""
    del school
    one = visitor("admin")
    asked: list[dict[str, str]] = []

    def answer(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or "{}"))
        key = {
            "name": "key", "verdict": "unknown", "says": f"<i>{KEY}</i>", "advice": "Compare.",
            "found": {"host_key": KEY},
        }  # fmt: skip
        known = key | {"verdict": "ok", "found": {}}
        size = {
            "name": "libvirt", "verdict": "ok", "says": "9.0", "advice": "",
            "found": {"cpus": "48", "memory_mib": "9000"},
        }  # fmt: skip
        lines = [key, {"fits": False}] if len(asked) == 1 else [known, size, {"fits": True}]
        route.fulfill(
            content_type="application/x-ndjson",
            body="".join(json.dumps(line) + "\n" for line in lines),
        )

    one.open("/hosts/add")
    one.page.evaluate(
        """() => {
          const option = (text) => {
            const made = document.createElement("option");
            return Object.assign(made, { value: text, textContent: text });
          };
          const engine = document.querySelector("[name=engine]");
          if (![...engine.options].some((one) => one.value === "libvirt")) {
            engine.append(option("libvirt"));
            const kind = Object.assign(document.createElement("select"), { name: "kind" });
            kind.append(option("qemu"));
            const label = document.createElement("label");
            label.dataset.engine = "libvirt";
            label.append(kind);
            engine.closest("div").append(label);
          }
        }"""
    )
    form = one.page.locator("#add-host")
    form.locator("[name=engine]").select_option("libvirt")
    form.locator("[name=name]").fill("srv-9")
    form.locator("[name=way]").select_option("ssh")
    form.locator("[name=address]").fill("host-7")
    form.locator("[name=user]").fill("trivium")
    form.locator("[name=accel]").select_option("kvm")
    form.locator("[name=clone]").select_option("instant")
    form.locator("[name=storage]").select_option("shared")
    one.page.route("**/api/v1/hosts/check", answer)
    one.page.get_by_role("button", name="Look at it").click()
    expect(rows(one.page).first).to_contain_text(f"<i>{KEY}</i>")
    one.page.get_by_role("button", name="confirm this key").click()
    expect(rows(one.page)).to_have_count(2)
    expect(one.page.get_by_role("button", name="Add this host")).to_be_enabled()
    expect(form.locator("[name=cpus]")).to_have_value("48")
    first, second = (parse_qs(one["profile"].partition("?")[2]) for one in asked)
    chosen = {"accel": ["kvm"], "clone": ["instant"], "storage": ["shared"]}
    assert first == {"uri": ["qemu+ssh://trivium@host-7/system"]} | chosen
    assert second == first | {"host_key": [unquote(KEY)]}
    assert asked[0]["engine"] == "libvirt"


def test_operators_are_not_offered_to_add_hosts(school: LiveBroker, visitor: Visitors) -> None:
    del school
    one = visitor("operator")
    one.open("/hosts")
    expect(one.page.get_by_role("link", name="Add a host")).to_have_count(0)

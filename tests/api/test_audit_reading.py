"""The trail as it is looked at, exported and checked; and sealed by a running broker."""

from __future__ import annotations

import json
from pathlib import Path

from broker.domain.audit import AuditEntry, Outcome
from tests.support.app import App
from tests.support.audited_requests import as_alice
from tests.support.live_broker import live_broker


async def test_the_trail_is_listed_newest_first_and_filtered(app: App) -> None:
    for title in ("one", "two", "three"):
        await as_alice("PATCH", "/pools/library", {"title": title})(app)
    audrey = app.people["audrey"]
    first = (await app.call("GET", "/audit?action=pool.change&limit=2", audrey)).json
    assert [one["details"]["fields"]["title"] for one in first["items"]] == ["three", "two"]
    assert first["items"][0]["actor"] == {"id": app.people["alice"].id, "name": "alice"}
    second = (
        await app.call("GET", f"/audit?action=pool.change&after={first['next']}", audrey)
    ).json
    assert [one["details"]["fields"]["title"] for one in second["items"]] == ["one"]
    at = first["items"][0]["at"]
    later = await app.call("GET", f"/audit?action=pool.change&since={at}&until={at}", audrey)
    assert later.json["items"] == []
    for bad in ("since=yesterday", "outcome=good", "limit=0", "since=2026-11-21T08:00:00"):
        assert (await app.call("GET", f"/audit?{bad}", audrey)).status == 400


async def test_an_export_holds_the_sealed_chain_and_says_where_it_ends(app: App) -> None:
    for title in ("one", "two", "three"):
        await as_alice("PATCH", "/pools/library", {"title": title})(app)
    await app.services.audit.seal()
    audrey = app.people["audrey"]
    lines = (await app.call("GET", "/audit/export", audrey)).body.splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["number"] for one in found[:-1]] == list(range(1, len(found)))
    assert found[-1] == {
        "end": {"last_number": found[-2]["number"], "last_seal": found[-2]["seal"]}
    }
    rest = (await app.call("GET", "/audit/export?after=2", audrey)).body.splitlines()
    assert rest == lines[2:]


async def test_a_check_tells_that_the_chain_holds_and_gives_an_anchor(app: App) -> None:
    await as_alice("PATCH", "/pools/library", {"title": "one"})(app)
    await app.services.audit.seal()
    audrey = app.people["audrey"]
    found = (await app.call("GET", "/audit/check", audrey)).json
    assert found["break"] is None
    assert found["sealed"] == found["last_number"] >= 1
    anchor = f"{found['last_number']}:{found['last_seal']}"
    good = (await app.call("GET", f"/audit/check?anchor={anchor}&since={anchor}", audrey)).json
    assert good["break"] is None
    wrong = f"{found['last_number']}:{'0' * 64}"
    bad = (await app.call("GET", f"/audit/check?anchor={wrong}", audrey)).json
    assert bad["break"]["number"] == found["last_number"]
    assert bad["break"]["here"]["entry"]["action"]
    refused = await app.call("GET", "/audit/check?anchor=7", audrey)
    assert (refused.status, refused.json["field"]) == (400, "anchor")


def test_a_running_broker_seals_by_itself(tmp_path: Path) -> None:
    with live_broker(tmp_path) as broker:

        async def sealed() -> bool:
            return (await broker.store.audit.last_seal())[0] > 0

        entry = AuditEntry(id="aud_1", at=1, actor="", action="x.y", outcome=Outcome.DONE)
        broker.ask(broker.store.audit.append([entry]))
        broker.until_true(sealed)

"""A host that does not answer, as people see it: API, console, command line, metrics, settings."""

from __future__ import annotations

import asyncio

from broker.domain.silence import SILENCE_DOCUMENT, Silence, plain
from broker.limits import LOST_AFTER_S_MIN
from tests.api.test_host_page import host_id, page
from tests.support.app import App
from tests.support.builders import NOW
from tests.support.cli import run

WHY = "server-1 was not reached <over SSH>"


async def silence(app: App) -> str:
    ref = await host_id(app)
    value = plain({ref: Silence(since=NOW, why=WHY)})
    await app.services.kit.store.documents.save(SILENCE_DOCUMENT, value, revision=0)
    return ref


async def hosts(app: App) -> list[dict[str, object]]:
    found: list[dict[str, object]] = (await app.call("GET", "/hosts", app.people["audrey"])).json[
        "items"
    ]
    return found


async def test_the_api_tells_since_when_and_why(app: App) -> None:
    assert {one["silent"] for one in await hosts(app)} == {None}
    ref = await silence(app)
    [told] = [one["silent"] for one in await hosts(app) if one["id"] == ref]
    assert isinstance(told, dict)
    assert (told["since"].endswith("Z"), told["why"]) == (True, WHY)
    changed = await app.call("PATCH", f"/hosts/{ref}", app.people["alice"], body={"cpus": 8})
    assert changed.json["silent"] == told


async def test_the_console_tells_it_and_offers_what_an_administrator_may_decide(app: App) -> None:
    ref = await silence(app)
    assert "does not answer since" in await page(app, "/hosts")
    text = await page(app, f"/hosts/{ref}")
    assert "It does not answer since" in text
    assert "was not reached &lt;over SSH&gt;" in text
    assert 'id="lost">It is lost</button>' in text
    assert "the broker does so after" not in text
    reply = await app.call(
        "PATCH", "/site", app.people["alice"], body={"lost_after_s": LOST_AFTER_S_MIN}
    )
    assert (reply.status, reply.json["lost_after_s"]) == (200, LOST_AFTER_S_MIN)
    assert "the broker does so after" in await page(app, f"/hosts/{ref}")
    auditor = await app.call("GET", f"/hosts/{ref}", app.people["audrey"], base="")
    assert 'id="lost"' not in auditor.body.decode()


async def test_a_site_that_would_give_hosts_up_too_soon_is_told_so(app: App) -> None:
    body = {"lost_after_s": LOST_AFTER_S_MIN - 1}
    reply = await app.call("PATCH", "/site", app.people["alice"], body=body)
    assert (reply.status, reply.json["field"]) == (400, "lost_after_s")
    for wrong in (-1, 10**9, "soon"):
        asked = {"lost_after_s": wrong}
        assert (await app.call("PATCH", "/site", app.people["alice"], body=asked)).status == 400
    assert 'name="lost_after_s"' in await page(app, "/site")


async def test_the_command_line_tells_it(app: App) -> None:
    await silence(app)
    env = {"TRIVIUM_URL": app.url, "TRIVIUM_TOKEN": app.people["alice"].token}
    listed = await asyncio.to_thread(run, "host", "list", env=env)
    assert (listed.code, "silent since" in listed.out) == (0, True)
    name = next(str(one["name"]) for one in await hosts(app) if one["silent"])
    shown = await asyncio.to_thread(run, "host", "show", name, env=env)
    assert "was not reached <over SSH>" in shown.out


async def test_how_many_there_are_is_a_metric_where_this_broker_does_that_work(app: App) -> None:
    async def metric() -> str:
        text = (await app.call("GET", "/metrics", app.people["alice"], base="")).body.decode()
        return next((one for one in text.splitlines() if one.startswith("trivium_hosts_sil")), "")

    assert await metric() == ""
    app.services.host_silence.count = 2
    assert await metric() == "trivium_hosts_silent 2.0"

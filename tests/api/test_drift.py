"""Whether a machine is what it should be: asked over HTTP and by command, and shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.domain.drift import Difference
from broker.domain.model import DesktopState
from broker.ports import Operation, PageQuery
from broker.services.drifts import DOCUMENT
from tests.support.api_documents import page
from tests.support.app import App
from tests.support.canned_api import CannedApi, canned_api
from tests.support.cli import run
from tests.support.prompt_engine import PromptEngine

FOUND = Difference(what="disk vdb", found="/x", wanted="")


class Comparing(PromptEngine):
    async def drift(self, operation: Operation) -> tuple[Difference, ...]:
        del operation
        return (FOUND,)


async def ready(app: App) -> str:
    query = PageQuery(limit=1, filters={"state": DesktopState.READY.value, "architecture": "vdi"})
    [desktop] = (await app.services.kit.store.desktops.desktops(query)).items
    return desktop.id


async def test_a_desktops_machine_is_compared_over_http(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/desktops/{await ready(app)}/drift"
    reply = await app.call("GET", path, app.people["audrey"])
    assert (reply.status, reply.code) == (409, "engine.unsupported")
    engine = Comparing()
    monkeypatch.setattr(app.services.drifts, "_engines", {"simulated": engine}.__getitem__)
    reply = await app.call("GET", path, app.people["audrey"])
    assert reply.status == 200, reply.body
    assert reply.json["differences"] == [{"what": "disk vdb", "found": "/x", "wanted": ""}]
    assert (await app.call("GET", path, app.people["ann"])).status == 403
    assert (await app.call("GET", "/desktops/nowhere/drift", app.people["alice"])).status == 404


async def test_the_desktops_page_tells_what_was_found_of_this_generation(app: App) -> None:
    desktop_id = await ready(app)
    store = app.services.kit.store
    desktop = await store.desktops.desktop(desktop_id)
    assert desktop is not None
    found = {"what": "disk <vdb>", "found": "/x", "wanted": ""}
    for revision, generation, shown in ((0, desktop.generation, 1), (1, desktop.generation + 1, 0)):
        drifted = {"generation": generation, "since": 1, "differences": [found]}
        value = {"count": 1, "desktops": {desktop_id: drifted}}
        await store.documents.save(DOCUMENT, value, revision=revision)
        for path in ("/desktops", f"/desktops/{desktop_id}"):
            reply = await app.call("GET", path, app.people["alice"], base="")
            text = reply.body.decode()
            assert text.count("disk &lt;vdb&gt;: /x instead of none") == shown


async def test_the_desktops_page_offers_to_compare_only_where_its_engine_can(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/desktops/{await ready(app)}"

    async def read(more: str = "") -> str:
        reply = await app.call("GET", path + more, app.people["audrey"], base="")
        return reply.body.decode()

    assert "Compare now" not in await read()
    assert "does not compare machines" in await read("/drift")
    engine = Comparing()
    monkeypatch.setattr(app.services.drifts, "_engines", {"simulated": engine}.__getitem__)
    assert "Compare now" in await read()
    assert "disk vdb: /x instead of none" in await read("/drift")


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        yield made


@pytest.mark.parametrize("found", [[], [{"what": "CPUs", "found": "4", "wanted": "[2]"}]])
def test_a_desktops_machine_is_compared_by_command(
    api: CannedApi, found: list[dict[str, str]]
) -> None:
    api.answers["GET /desktops"] = page({"id": "dsk_1", "name": "library-001"})
    answer = {"desktop": {"id": "dsk_1", "name": "library-001"}, "generation": 1}
    api.answers["GET /desktops/dsk_1/drift"] = (200, {**answer, "differences": found})
    env = {"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t"}
    ran = run("desktop", "drift", "library-001", env=env)
    assert ran.code == 0, ran.err
    assert ("as it should be" in ran.out) is not bool(found)
    assert ("[2]" in ran.out) is bool(found)
    assert run("desktop", "drift", "library-001", "--json", env=env).document == {
        **answer, "differences": found,
    }  # fmt: skip

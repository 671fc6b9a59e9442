"""What support staff do from a shell: tell people things, extend, look at desktops, ask why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from broker.limits import EXTEND_S_MAX
from broker.ports import PageQuery
from tests.support.api_documents import POOL, SESSION, page
from tests.support.app import App
from tests.support.canned_api import CannedApi, canned_api, problem
from tests.support.cli import Ran, run

DESKTOP: dict[str, Any] = {
    "id": "dsk_1",
    "name": "library-007",
    "pool": {"id": "pol_1", "name": "library"},
    "architecture": "vdi",
    "host": {"id": "hst_1", "name": "server-1"},
    "endpoint": None,
    "owner": None,
    "state": "starting",
    "target": "ready",
    "deadline_at": "2026-11-21T08:05:00.000Z",
    "generation": 3,
    "resources": {"cpus": 2, "memory_mib": 4096, "disk_mib": 0},
    "note": "its last host was lost",
    "created_at": "2026-11-21T07:00:00.000Z",
    "changed_at": "2026-11-21T08:00:00.000Z",
}
DECISION: dict[str, Any] = {
    "id": "aud_1",
    "at": "2026-11-21T08:00:00.000Z",
    "action": "host.drain",
    "outcome": "done",
    "text": "The host takes nothing new: a [fan] is loud.",
    "reasons": ["asked by alice", "\x1b[31mred"],
    "by": "alice",
}
NOTICE: dict[str, Any] = {
    "id": "ntc_1",
    "text": "The room closes.\nSave [now].",
    "sender": "olga",
    "at": "2026-11-21T08:30:00.000Z",
}
HOST = {"id": "hst_1", "name": "server-1"}


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        yield made


def ask(api: CannedApi, *words: str) -> Ran:
    return run(*words, env={"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t0ken"})


# ------------------------------------------------------------------------------- sessions


def test_a_message_is_sent_as_it_was_typed_and_shown_with_its_session(api: CannedApi) -> None:
    told = SESSION | {"notice": NOTICE}
    api.answers["POST /sessions/ses_1/message"] = (200, told)
    shown = ask(api, "session", "message", "ses_1", NOTICE["text"])
    assert api.asked[-1].body == {"text": NOTICE["text"]}
    assert "The room closes." in shown.out
    assert "Save [now]. (olga," in shown.out
    assert ask(api, "session", "message", "ses_1", "x", "--json").document == told
    assert ask(api, "session", "message", "ses_1").code == 2


def test_a_session_is_extended_by_minutes_within_the_limit(api: CannedApi) -> None:
    later = SESSION | {"ends_at": "2026-11-21T23:59:00.000+00:00"}
    api.answers["POST /sessions/ses_1/extend"] = (200, later)
    shown = ask(api, "session", "extend", "ses_1", "45")
    assert api.asked[-1].body == {"seconds": 2700}
    assert any(line.split()[0] == "ends" for line in shown.out.splitlines() if line)
    asked = len(api.asked)
    for minutes in ("0", "-5", str(EXTEND_S_MAX // 60 + 1), "soon"):
        assert ask(api, "session", "extend", "ses_1", "--", minutes).code == 2
    assert len(api.asked) == asked


@pytest.mark.parametrize("words", [("message", "ses_1", "hello"), ("extend", "ses_1", "5")])
def test_a_refusal_is_told_with_its_advice(api: CannedApi, words: tuple[str, ...]) -> None:
    refusal = problem(409, "resource.conflict", detail="it is over", advice="Look at it again.")
    api.answers[f"POST /sessions/ses_1/{words[0]}"] = refusal
    ran = ask(api, "session", *words)
    assert (ran.code, ran.out) == (1, "")
    assert "it is over" in ran.err
    assert "Look at it again." in ran.err


# ------------------------------------------------------------------------------------ why


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("session", "why", "ses_1"), "/sessions/ses_1/why"),
        (("pool", "why", "library"), "/pools/library/why"),
        (("host", "why", "server-1"), "/hosts/server-1/why"),
        (("desktop", "why", "library-007"), "/desktops/dsk_1/why"),
    ],
)
def test_decisions_are_shown_with_their_reasons(
    api: CannedApi, words: tuple[str, ...], path: str
) -> None:
    api.answers["GET /desktops"] = page(DESKTOP)
    api.answers[f"GET {path}"] = page(DECISION)
    shown = ask(api, *words)
    assert shown.code == 0
    assert "a [fan] is loud" in shown.out
    assert "· asked by alice" in shown.out
    assert "\x1b" not in shown.out
    assert ask(api, *words, "--json").document == {"items": [DECISION], "next": None}


def test_as_many_decisions_are_asked_for_as_wanted_and_more_are_told_of(api: CannedApi) -> None:
    api.answers["GET /pools/library/why"] = page(DECISION, DECISION, after="more")
    ran = ask(api, "pool", "why", "library", "--limit", "2")
    assert api.asked[-1].query == {"limit": "2"}
    assert "--limit shows more" in ran.err


def test_nothing_decided_is_said_and_no_empty_table_shown(api: CannedApi) -> None:
    api.answers["GET /pools/library/why"] = page()
    ran = ask(api, "pool", "why", "library")
    assert (ran.code, ran.out) == (0, "")
    assert "nothing was decided" in ran.err
    assert ask(api, "pool", "why", "library", "--json").document["items"] == []


# ------------------------------------------------------------------------------- desktops


def test_desktops_are_listed_with_where_they_are_and_go(api: CannedApi) -> None:
    at_endpoint = {"host": None, "endpoint": {"id": "ept_1", "name": "LAB-01"}, "target": None}
    api.answers["GET /desktops"] = page(DESKTOP, DESKTOP | at_endpoint | {"name": "LAB-01/lab"})
    shown = ask(api, "desktop", "list").out
    assert "starting → ready" in shown
    assert "server-1" in shown
    assert "its last host was lost" in shown
    lab = next(line for line in shown.splitlines() if "LAB-01/lab" in line)
    assert lab.split()[3:5] == ["starting", "LAB-01"]


def test_filters_are_sent_as_the_api_names_them(api: CannedApi) -> None:
    api.answers["GET /desktops"] = page(DESKTOP)
    api.answers["GET /pools/library"] = (200, POOL)
    api.answers["GET /hosts"] = page(HOST | {"name": "other", "id": "hst_0"}, HOST)
    words = ("--state", "ready", "--architecture", "vdi", "--text", "lib", "--limit", "7")
    assert ask(api, "desktop", "list", *words, "--pool", "library", "--host", "server-1").code == 0
    assert api.asked[-1].query == {
        "state": "ready",
        "architecture": "vdi",
        "text": "lib",
        "pool_id": "pol_1",
        "host_id": "hst_1",
        "limit": "7",
    }
    assert ask(api, "desktop", "list", "--state", "sleepy").code == 2


def test_a_desktop_is_shown_by_its_whole_name_or_its_id(api: CannedApi) -> None:
    api.answers["GET /desktops"] = page(DESKTOP | {"id": "dsk_0", "name": "x-library-007"}, DESKTOP)
    api.answers["GET /desktops/dsk_9"] = (200, DESKTOP | {"id": "dsk_9", "name": "old"})
    assert ask(api, "desktop", "show", "library-007", "--json").document == DESKTOP
    assert "4,096 MiB" in ask(api, "desktop", "show", "library-007").out
    assert "old" in ask(api, "desktop", "show", "dsk_9").out


@pytest.mark.parametrize(
    "words",
    [
        ("desktop", "show", "nowhere"),
        ("desktop", "why", "nowhere"),
        ("desktop", "list", "--host", "nowhere"),
        ("host", "show", "nowhere"),
    ],
)
def test_what_is_not_there_is_told_with_where_to_look(
    api: CannedApi, words: tuple[str, ...]
) -> None:
    api.answers["GET /desktops"] = page(DESKTOP)
    api.answers["GET /hosts"] = page(HOST)
    ran = ask(api, *words)
    assert (ran.code, ran.out) == (1, "")
    assert "'nowhere'" in ran.err
    assert "list` shows the names" in ran.err
    assert "resource.not_found" in ran.err


# ----------------------------------------------------------------------- with a real broker


async def test_a_real_broker_answers_every_one_of_them(app: App) -> None:
    pool = await app.services.pools.find("library")
    timed = replace(pool, settings=replace(pool.settings, session_max_s=3600))
    await app.services.kit.store.directory.save_pool(timed, new=False)
    app.services.pools.forget()
    made = await app.call("POST", "/sessions", app.people["ann"], body={"pool": "library"})
    one = made.json["session"]
    await app.services.sessions.live(one["id"], None, one["generation"])

    async def ran(*words: str) -> Any:
        env = {"TRIVIUM_URL": app.url, "TRIVIUM_TOKEN": app.people["oliver"].token}
        found = await asyncio.to_thread(run, *words, "--json", env=env)
        assert found.code == 0, found.err
        return found.document

    assert (await ran("session", "message", one["id"], "Hello"))["notice"]["sender"] == "oliver"
    before = (await ran("session", "show", one["id"]))["ends_at"]
    assert (await ran("session", "extend", one["id"], "10"))["ends_at"] > before
    told = [entry["action"] for entry in (await ran("session", "why", one["id"]))["items"]]
    assert "session.connect" in told
    shown = await ran("desktop", "show", one["desktop"]["name"])
    assert shown["id"] == one["desktop"]["id"]
    mine = await ran("desktop", "list", "--pool", "library", "--host", shown["host"]["name"])
    assert shown in mine["items"]
    for words in (
        ("pool", "why", "library"),
        ("host", "why", shown["host"]["name"]),
        ("desktop", "why", shown["name"]),
    ):
        assert isinstance((await ran(*words))["items"], list)
    page_ = await app.services.kit.store.audit.entries(PageQuery(limit=50))
    assert {"session.message", "session.extend"} <= {entry.action for entry in page_.items}

"""`trivium rule`, `quota`, `preview`, `site` and `audit` against an API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from broker.domain.audit import GENESIS, AuditEntry, Outcome, SealedEntry, sealed
from tests.support.api_documents import page
from tests.support.canned_api import Answer, Asked, CannedApi, canned_api
from tests.support.cli import Ran, run

RULE: dict[str, Any] = {
    "id": "rul_1",
    "name": "exam",
    "effect": "deny",
    "users": [],
    "groups": ["07-maple"],
    "pools": ["library"],
    "endpoints": [],
    "networks": ["10.2.0.0/16"],
    "windows": [
        {"days": ["mon", "tue"], "start": "08:00", "end": "12:00", "holidays": "never"},
        {"days": [], "start": "00:00", "end": "24:00", "holidays": "only"},
    ],
    "enabled": True,
    "note": "",
}
QUOTA: dict[str, Any] = {
    "id": "quo_1",
    "name": "two",
    "scope": "user",
    "sessions_max": 2,
    "group": "07-maple",
    "pools": [],
    "enabled": True,
}
SITE: dict[str, Any] = {
    "state": "draining",
    "message": "back at noon",
    "time_zone": "Asia/Shanghai",
    "holidays": [{"day": "2026-10-01", "name": "国庆"}],
    "desktops_max": 500,
    "memory_mib_max": 0,
    "rebalance_above": 0.8,
    "rebalance_by": 0.1,
    "lost_after_s": 0,
    "revision": 3,
}
PREVIEW: dict[str, Any] = {
    "user": {"id": "usr_1", "username": "li.ming"},
    "enabled": False,
    "at": "2026-11-21T08:00:00.000Z",
    "endpoint": {"id": "ept_1", "name": "lib-01"},
    "address": "10.2.0.1",
    "pools": [
        {
            "pool": {"id": "pol_1", "name": "library"},
            "title": "Library",
            "architecture": "vdi",
            "may": False,
            "why": "the rule “exam” does not allow library here or now",
            "code": "admission.denied",
            "ready": 3,
            "place": None,
            "wait_s": None,
            "session": None,
            "quotas": [{"name": "two", "scope": "user", "used": 1, "sessions_max": 2}],
            "reasons": [
                {
                    "rule": {"id": "rul_1", "name": "exam"},
                    "effect": "deny",
                    "applies": True,
                    "text": "the rule “exam” denies it",
                }
            ],
        }
    ],
}
ENTRY: dict[str, Any] = {
    "id": "aud_1",
    "at": "2026-11-21T08:00:00.000Z",
    "actor": {"id": "usr_1", "name": "li.ming"},
    "action": "pool.change",
    "outcome": "done",
    "why": "done",
    "details": {},
    "user_id": "",
    "session_id": "",
    "desktop_id": "",
    "pool_id": "pol_1",
    "host_id": "",
    "endpoint_id": "",
    "request_id": "req_1",
    "source": "10.2.0.1",
}
SEAL = "ab" * 32


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        yield made


def ask(api: CannedApi, *words: str) -> Ran:
    return run(*words, env={"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t0ken"})


# --------------------------------------------------------------------------------- rules, quotas


def test_rules_are_listed_in_the_words_they_are_typed_in(api: CannedApi) -> None:
    api.answers["GET /rules"] = page(RULE, {**RULE, "name": "old", "enabled": False})
    shown = ask(api, "rule", "list").out
    assert "mon,tue 08:00-12:00; 00:00-24:00 holidays only" in shown
    assert "old (off)" in shown
    assert ask(api, "rule", "list", "--json").document["items"][0] == RULE


def test_a_rule_is_added_with_what_was_said_and_no_more(api: CannedApi) -> None:
    api.answers["POST /rules"] = (201, RULE)
    words = ("--deny", "--group", "a", "--group", "b", "--pool", "library")
    more = ("--network", "10.0.0.0/8", "--when", "fri-mon 8:00-12:30", "--when", "wed")
    ran = ask(api, "rule", "add", "exam", *words, *more, "--holidays", "also", "--off")
    assert ran.code == 0
    window = {"start": "00:00", "end": "24:00", "holidays": "also"}
    assert api.asked[-1].body == {
        "name": "exam",
        "effect": "deny",
        "groups": ["a", "b"],
        "pools": ["library"],
        "networks": ["10.0.0.0/8"],
        "windows": [
            {**window, "days": ["fri", "sat", "sun", "mon"], "start": "08:00", "end": "12:30"},
            {**window, "days": ["wed"]},
        ],
        "enabled": False,
    }


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--deny", "--allow"),
        ("--deny", "--when", "someday"),
        ("--deny", "--when", ""),
        ("--deny", "--when", "mon-"),
        ("--deny", "--when", "mon 25:00-26:00"),
        ("--deny", "--when", "mon 24:00-24:00"),
    ],
)
def test_a_rule_that_cannot_be_read_is_not_sent(api: CannedApi, words: tuple[str, ...]) -> None:
    assert ask(api, "rule", "add", "exam", *words).code == 2
    assert api.asked == []


def test_quotas_are_listed_added_and_removed(api: CannedApi) -> None:
    api.answers["GET /quotas"] = page(QUOTA)
    api.answers["POST /quotas"] = (201, QUOTA)
    api.answers["DELETE /quotas/two"] = (204, None)
    line = next(one for one in ask(api, "quota", "list").out.splitlines() if "two" in one)
    assert line.split() == ["two", "user", "07-maple", "all", "2"]
    ask(api, "quota", "add", "two", "--of", "user", "--max", "2", "--group", "07-maple")
    assert api.asked[-1].body == {
        "name": "two", "scope": "user", "sessions_max": 2, "group": "07-maple",
    }  # fmt: skip
    assert ask(api, "quota", "remove", "two", "--json").document == {"removed": "two"}
    assert ask(api, "rule", "remove", "none").code == 1


@pytest.mark.parametrize("noun", ["rule", "quota"])
@pytest.mark.parametrize(("word", "on"), [("on", True), ("off", False)])
def test_a_rule_and_a_quota_are_switched(api: CannedApi, noun: str, word: str, on: bool) -> None:
    kept = (RULE if noun == "rule" else QUOTA) | {"name": "exam", "enabled": on}
    api.answers[f"PATCH /{noun}s/exam"] = (200, kept)
    ran = ask(api, noun, word, "exam")
    assert ("in force" if on else "switched off") in ran.err
    assert api.asked[-1].body == {"enabled": on}
    assert ask(api, noun, word, "exam", "--json").document == kept


def test_a_quota_gets_another_limit(api: CannedApi) -> None:
    api.answers["PATCH /quotas/two"] = (200, {**QUOTA, "sessions_max": 5})
    assert "allows 5 sessions" in ask(api, "quota", "limit", "two", "5").err
    assert api.asked[-1].body == {"sessions_max": 5}
    assert ask(api, "quota", "limit", "two", "-1").code == 2


# --------------------------------------------------------------------------------- preview, site


def test_a_preview_says_no_why_and_by_which_rule(api: CannedApi) -> None:
    api.answers["GET /users/li.ming/preview"] = (200, PREVIEW)
    words = ("--endpoint", "lib-01", "--address", "10.2.0.1", "--at", "2026-11-21T08:00:00Z")
    ran = ask(api, "preview", "li.ming", *words, "--rules")
    assert api.asked[-1].query == {
        "endpoint": "lib-01", "address": "10.2.0.1", "at": "2026-11-21T08:00:00Z",
    }  # fmt: skip
    assert "does not allow library here or now" in ran.out
    assert "two 1/2" in ran.out
    assert "the rule “exam” denies it" in ran.out
    assert "disabled" in ran.err
    assert ask(api, "preview", "li.ming", "--json").document == PREVIEW


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"place": 4, "wait_s": 90}, "place 4 in the queue, about 90 s"),
        ({"place": 4}, "place 4 in the queue"),
        ({}, "a desktop at once"),
        ({"session": {"id": "ses_1", "state": "active"}}, "has one, active"),
    ],
)
def test_a_preview_says_what_would_be_given_now(
    api: CannedApi, changes: dict[str, Any], text: str
) -> None:
    pool = {**PREVIEW["pools"][0], "may": True, **changes}
    api.answers["GET /users/li.ming/preview"] = (200, {**PREVIEW, "pools": [pool]})
    assert text in ask(api, "preview", "li.ming").out


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (("drain", "--message", "soon"), {"state": "draining", "message": "soon"}),
        (("drain",), {"state": "draining"}),
        (("maintenance", "--why", "power"), {"state": "maintenance", "why": "power"}),
        (("open",), {"state": "open", "message": ""}),
    ],
)
def test_the_site_is_drained_and_opened(
    api: CannedApi, words: tuple[str, ...], body: dict[str, str]
) -> None:
    api.answers["PATCH /site"] = (200, SITE)
    assert ask(api, "site", *words).code == 0
    assert api.asked[-1].body == body


def test_the_site_is_shown(api: CannedApi) -> None:
    api.answers["GET /site"] = (200, SITE)
    shown = ask(api, "site", "show").out
    assert "back at noon" in shown
    assert "2026-10-01 国庆" in shown
    assert "80%" in shown
    assert ask(api, "site", "show", "--json").document == SITE


# --------------------------------------------------------------------------------- audit


def test_the_trail_is_listed_with_the_filters_that_were_said(api: CannedApi) -> None:
    api.answers["GET /audit"] = page(ENTRY, {**ENTRY, "actor": None})
    words = ("--action", "pool.change", "--pool", "pol_1", "--since", "2026-11-21T08:00:00Z")
    ran = ask(api, "audit", "list", *words)
    assert api.asked[-1].query == {
        "action": "pool.change", "pool_id": "pol_1", "since": "2026-11-21T08:00:00Z", "limit": "50",
    }  # fmt: skip
    assert "li.ming" in ran.out


def checked(**changes: Any) -> tuple[int, dict[str, Any]]:
    found = {"sealed": 9, "last_number": 9, "last_seal": SEAL, "unsealed": 2, "break": None}
    return 200, {**found, **changes}


def test_a_chain_that_holds_gives_an_anchor(api: CannedApi) -> None:
    api.answers["GET /audit/check"] = checked()
    ran = ask(api, "audit", "check", "--anchor", f"7:{SEAL}")
    assert ran.code == 0
    assert f"9:{SEAL}" in ran.err
    assert api.asked[-1].query == {"anchor": f"7:{SEAL}"}


def test_a_broken_chain_fails_and_says_where(api: CannedApi) -> None:
    here = {"number": 4, "seal": SEAL, "entry": ENTRY}
    broken = {"number": 4, "why": "changed, or one before it was", "before": None, "here": here}
    api.answers["GET /audit/check"] = checked(**{"break": broken, "last_number": 3})
    ran = ask(api, "audit", "check")
    assert ran.code == 1
    assert "breaks at number 4" in ran.err
    assert "pool.change" in ran.err
    assert "audit.broken_chain" in ran.err
    as_json = ask(api, "audit", "check", "--json")
    assert (as_json.code, as_json.document["break"]["number"]) == (1, 4)


def chain_of(count: int) -> tuple[SealedEntry, ...]:
    entries = [
        AuditEntry(
            id=f"aud_{n}", at=n, actor="", action="x.y", outcome=Outcome.DONE, details={"n": n}
        )
        for n in range(count)
    ]
    return sealed(GENESIS, 0, entries)


def lines_of(chain: tuple[SealedEntry, ...], *, end: bool = True) -> str:
    lines = [
        {"number": one.number, "seal": one.seal.hex(), "entry": asdict(one.entry)} for one in chain
    ]
    last = [{"end": {"last_number": len(chain), "last_seal": ""}}] if end else []
    return "".join(json.dumps(line) + "\n" for line in [*lines, *last])


@pytest.fixture
def exporting(api: CannedApi) -> CannedApi:
    """An API with a trail of five sealed entries."""

    def export(asked: Asked) -> Answer:
        rest = chain_of(5)[int(asked.query["after"]) :]
        return 200, lines_of(rest), {"Content-Type": "application/x-ndjson"}

    api.answers["GET /audit/export"] = export
    return api


def test_an_export_is_written_gone_on_with_and_checked_without_a_broker(
    exporting: CannedApi, tmp_path: Path
) -> None:
    file = tmp_path / "trail.jsonl"
    made = ask(exporting, "audit", "export", str(file), "--json").document
    assert (made["entries"], made["last_number"]) == (5, 5)
    assert file.stat().st_mode & 0o777 == 0o600
    whole = file.read_text()
    assert whole == lines_of(chain_of(5), end=False)

    # as a run that was cut off in the middle of a line leaves it
    file.write_text(whole[: whole.rindex('"seal"')])
    again = ask(exporting, "audit", "export", str(file), "--json").document
    assert (again["entries"], exporting.asked[-1].query["after"]) == (1, "4")
    assert file.read_text() == whole
    assert ask(exporting, "audit", "check", "--file", str(file)).code == 0


def test_an_export_that_was_changed_is_found(exporting: CannedApi, tmp_path: Path) -> None:
    file = tmp_path / "trail.jsonl"
    ask(exporting, "audit", "export", str(file))
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:2], lines[2].replace('"x.y"', '"x.z"'), *lines[3:]]))
    ran = ask(exporting, "audit", "check", "--file", str(file), "--json")
    assert (ran.code, ran.document["break"]["number"]) == (1, 3)
    file.write_text("".join([*lines[:2], *lines[3:]]))
    ran = ask(exporting, "audit", "check", "--file", str(file), "--json")
    assert (ran.code, ran.document["break"]["number"]) == (1, 3)
    file.write_text(lines[0].replace('"x.y"', '"x.z"'))
    assert ask(exporting, "audit", "check", "--file", str(file)).code == 1
    file.write_text("".join(lines[3:]))
    assert ask(exporting, "audit", "check", "--file", str(file)).code == 0


def test_an_export_that_breaks_off_keeps_what_it_has_and_fails(
    api: CannedApi, tmp_path: Path
) -> None:
    file = tmp_path / "trail.jsonl"
    api.answers["GET /audit/export"] = (200, lines_of(chain_of(2), end=False))
    ran = ask(api, "audit", "export", str(file))
    assert ran.code == 1
    assert "cli.export_cut" in ran.err
    assert len(file.read_text().splitlines()) == 2


def test_a_file_that_is_no_export_is_left_alone(exporting: CannedApi, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("my notes\n")
    for words in (("export", str(file)), ("check", "--file", str(file))):
        ran = ask(exporting, "audit", *words)
        assert ran.code == 1
        assert "cli.export_broken" in ran.err
    assert file.read_text() == "my notes\n"


def test_an_export_to_stdout_is_lines_alone(exporting: CannedApi) -> None:
    ran = ask(exporting, "audit", "export", "-")
    assert ran.out == lines_of(chain_of(5), end=False)

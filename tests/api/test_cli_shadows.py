"""`trivium session shadow`: what is sent, and what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.canned_api import CannedApi, canned_api
from tests.support.cli import Ran, run

SHADOW: dict[str, Any] = {
    "id": "shd_1",
    "session_id": "ses_1",
    "user": {"id": "usr_1", "username": "ann"},
    "staff": {"id": "usr_2", "username": "oliver"},
    "mode": "view",
    "reason": "the printer",
    "state": "asked",
    "code": None,
    "why": "",
    "asked_at": "2026-11-21T08:00:00.000Z",
    "changed_at": "2026-11-21T08:00:00.000Z",
    "until": "2026-11-21T08:01:00.000Z",
    "ends_at": None,
}
PATH = "/sessions/ses_1/shadows"


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        yield made


def ask(api: CannedApi, *words: str) -> Ran:
    env = {"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t0ken"}
    return run("session", "shadow", *words, env=env)


@pytest.mark.parametrize(("more", "mode"), [((), "view"), (("--take-part",), "interactive")])
def test_the_person_is_asked_and_told_why(api: CannedApi, more: tuple[str, ...], mode: str) -> None:
    api.answers[f"POST {PATH}"] = (201, SHADOW)
    ran = ask(api, "ask", "ses_1", "--reason", "the printer", *more)
    assert ran.code == 0, ran.err
    assert "oliver" in ran.out
    assert f"/sessions/ses_1/shadows/{SHADOW['id']}" in ran.err
    assert api.asked[-1].body == {"mode": mode, "reason": "the printer"}


def test_nobody_is_asked_without_a_reason(api: CannedApi) -> None:
    assert ask(api, "ask", "ses_1").code == 2
    assert not api.asked


def test_who_waits_is_told_the_answer(api: CannedApi) -> None:
    api.answers[f"POST {PATH}"] = (201, SHADOW)
    refused = SHADOW | {"state": "refused", "why": "the person refused"}
    api.answers[f"GET {PATH}/shd_1"] = (200, refused)
    ran = ask(api, "ask", "ses_1", "--reason", "the printer", "--wait", "--json")
    assert ran.code == 0, ran.err
    assert ran.document == refused


def test_who_sees_a_session_is_listed(api: CannedApi) -> None:
    api.answers[f"GET {PATH}"] = (200, {"items": [SHADOW]})
    ran = ask(api, "list", "ses_1")
    assert "the printer" in ran.out
    assert ask(api, "list", "ses_1", "--json").document == {"items": [SHADOW]}


def test_it_is_ended(api: CannedApi) -> None:
    ended = SHADOW | {"state": "ended", "code": "shadow.ended", "why": "the staff ended it"}
    api.answers[f"DELETE {PATH}/shd_1"] = (200, ended)
    ran = ask(api, "end", "ses_1", "shd_1")
    assert ran.code == 0, ran.err
    assert "ended" in ran.out

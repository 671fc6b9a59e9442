"""Campaign commands: lists, the cast, the harness as a child, the comparison."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.cli import campaign_process
from tests.support.api_documents import CAMPAIGN, ENDPOINT, POOL, USER, page
from tests.support.canned_api import Answer, Asked, CannedApi, canned_api, problem
from tests.support.cli import Ran, run
from tests.support.reports import PLAN, report

HARNESS = """
import json, pathlib, sys
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
folder = pathlib.Path([b for a, b in zip(sys.argv, sys.argv[1:]) if a == "--out"][0])
(folder.parent / "seen.json").parent.mkdir(parents=True, exist_ok=True)
(folder.parent / "seen.json").write_text(json.dumps(sys.argv[1:]))
def say(**line): print(json.dumps(line), flush=True)
say(type="stage", stage="probe")
say(type="stage", stage="run", plan_sha256="PLAN")
say(type="progress", elapsed_s=1.0, total=9, arrived=4, live=2, done=1, failed=0)
if "MODE" == "crash":
    print("the plan does not fit", file=sys.stderr)
    sys.exit(2)
folder.mkdir()
(folder / "report.json").write_text(json.dumps(REPORT))
(folder / "report.html").write_text("<html></html>")
sys.exit(0 if "MODE" == "pass" else 1)
"""


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        yield made


def ask(api: CannedApi, data: Path, *words: str, stdin: str | None = None) -> Ran:
    env = {"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t", "TRIVIUM_DATA": str(data)}
    return run(*words, env=env, stdin=stdin)


def test_campaigns_are_listed_and_shown_with_their_comparison(
    api: CannedApi, tmp_path: Path
) -> None:
    short = {
        "verdict": "pass",
        "speed": 1,
        "bytes_scale": 1,
        "architectures": {},
        "invariants": {"double_assignments": 0, "lost_sessions": None},
    }
    api.answers["GET /campaigns"] = page(CAMPAIGN)
    api.answers["GET /campaigns/cam_1"] = (200, {**CAMPAIGN, "summary": short})
    assert "cam_1" in ask(api, tmp_path, "campaign", "list").out
    shown = ask(api, tmp_path, "campaign", "show", "cam_1").out
    assert "double assignments 0" in shown
    assert "lost sessions –" in shown
    found = ask(api, tmp_path, "campaign", "show", "cam_1", "--json").document
    assert found["summary"] == short


@pytest.fixture
def school(api: CannedApi) -> CannedApi:
    """An API that has everything which a campaign asks for."""
    people = [{**USER, "username": f"pupil{number}"} for number in range(100)]
    boss = {**USER, "username": "boss", "role": "administrator"}
    passwords: dict[str, str] = {}

    def set_passwords(asked: Asked) -> Answer:
        passwords.update(asked.body["passwords"])
        return 200, {"set": len(asked.body["passwords"])}

    def sign_in(asked: Asked) -> Answer:
        if passwords.get(asked.body["username"]) != asked.body["password"]:
            return problem(401, "auth.bad_credentials")
        return 200, {"token": "x"}

    api.answers |= {
        "GET /pools": page(POOL, {**POOL, "name": "shut", "enabled": False}),
        "GET /endpoints": page(ENDPOINT, {**ENDPOINT, "name": "lib-02", "pools": ["library", "x"]}),
        "GET /users": page(*people, boss),
        "POST /users/passwords": set_passwords,
        "POST /auth/login": sign_in,
        "POST /campaigns": (201, CAMPAIGN),
        "PATCH /campaigns/cam_1": (200, CAMPAIGN),
    }
    return api


def use_harness(monkeypatch: pytest.MonkeyPatch, mode: str, verdict: str = "pass") -> None:
    script = (
        HARNESS.replace("REPORT", repr(report(verdict))).replace("PLAN", PLAN).replace("MODE", mode)
    )
    monkeypatch.setattr(
        campaign_process, "python", lambda _, *words: (sys.executable, "-c", script, *words)
    )


def asked_for(api: CannedApi, method: str, path: str) -> list[Any]:
    return [one.body for one in api.asked if (one.method, one.path) == (method, path)]


RUN = ("campaign", "run", "--set-passwords", "--seed", "7", "--people", "60", "--duration", "30")


def test_a_campaign_casts_runs_registers_and_compares(
    school: CannedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_harness(monkeypatch, "pass")
    ran = ask(school, tmp_path, *RUN, "--speed", "8", "--bytes-scale", "256")
    assert ran.code == 0, ran.err
    for part in ("VDI", "IDV", "VOI", "3.60 s", "9.00 GB", "8 times faster", "verdict pass"):
        assert part in ran.out, part
    file = tmp_path / "campaign" / "cast.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    cast = json.loads(file.read_text())
    assert cast["scale"] == {"speed": 8.0, "bytes_scale": 256.0}
    assert cast["pools"] == [{"name": "library", "architecture": "vdi"}]
    assert cast["endpoints"][1] == {"name": "lib-02", "pools": ["library"]}
    assert len(cast["people"]) == 60
    assert all(person["username"].startswith("pupil") for person in cast["people"])
    sent = [
        name for body in asked_for(school, "POST", "/users/passwords") for name in body["passwords"]
    ]
    assert sorted(sent) == sorted(person["username"] for person in cast["people"])
    assert asked_for(school, "POST", "/campaigns") == [
        {"name": "demo", "seed": 7, "plan_sha256": PLAN}
    ]
    (change,) = asked_for(school, "PATCH", "/campaigns/cam_1")
    assert (change["state"], change["verdict"]) == ("finished", "pass")
    assert (tmp_path / "reports" / change["report_path"]).is_file()
    assert change["summary"]["architectures"]["voi"]["bytes"]["image"] == 9_000_000_000
    words = json.loads((tmp_path / "reports" / "seen.json").read_text())
    assert words[words.index("--window-s") + 1] == "15"
    # two endpoints seat no more
    assert words[words.index("--sessions") + 1] == "1"
    assert str(file) in words


def test_a_second_campaign_keeps_passwords_that_still_work_and_renews_those_that_do_not(
    school: CannedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_harness(monkeypatch, "pass")
    assert ask(school, tmp_path, *RUN).code == 0
    people = tmp_path / "campaign" / "people.json"
    first = json.loads(people.read_text())["passwords"]
    assert stat.S_IMODE(people.stat().st_mode) == 0o600
    school.asked.clear()
    assert ask(school, tmp_path, *RUN).code == 0
    assert asked_for(school, "POST", "/users/passwords") == []
    school.answers["POST /auth/login"] = problem(401, "auth.bad_credentials")
    assert ask(school, tmp_path, *RUN).code == 0
    assert asked_for(school, "POST", "/users/passwords")
    assert json.loads(people.read_text())["passwords"] != first


def test_a_bad_verdict_is_exit_code_1_and_is_told_with_its_reasons(
    school: CannedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_harness(monkeypatch, "fail", verdict="fail")
    ran = ask(school, tmp_path, *RUN)
    assert ran.code == 1
    assert "a person waited too long" in ran.out
    as_json = ask(school, tmp_path, *RUN, "--json")
    assert as_json.code == 1
    assert as_json.document["verdict"] == "fail"


def test_a_harness_that_fails_is_told_and_the_brokers_record_says_failed(
    school: CannedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_harness(monkeypatch, "crash")
    ran = ask(school, tmp_path, *RUN)
    assert ran.code == 1
    assert "the plan does not fit" in ran.err
    assert "campaign.log" in ran.err
    (change,) = asked_for(school, "PATCH", "/campaigns/cam_1")
    assert change["state"] == "failed"


def test_nobodys_password_is_set_without_a_yes(school: CannedApi, tmp_path: Path) -> None:
    words = [word for word in RUN if word != "--set-passwords"]
    assert ask(school, tmp_path, *words, stdin="n\n").code == 1
    assert school.asked == []


def test_without_people_there_is_no_campaign(school: CannedApi, tmp_path: Path) -> None:
    school.answers["GET /users"] = page()
    ran = ask(school, tmp_path, *RUN)
    assert ran.code == 1
    assert "trivium import" in ran.err

"""Whole small campaigns, as processes, against a small broker that can be told to misbehave."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loadtests.plan import read_plan
from loadtests.records import DROPPED
from tests.support.fake_api import TOKEN
from tests.support.harness import (
    RECIPE,
    SMALL,
    Ran,
    campaign,
    command,
    environment,
    fake_broker,
    prepared_cast,
)

STALL_FROM_S, STALL_FOR_S = 1.0, 1.5


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A campaign in which nothing goes wrong but three sign-ins that are asked to come again."""
    folder = tmp_path_factory.mktemp("good")
    with fake_broker({"busy_first": 3}) as (url, _):
        return campaign(folder, url, "--latest")


def test_a_good_campaign_passes_and_leaves_everything_in_its_folder(good: Ran) -> None:
    assert good.code == 0, good.errors
    assert good.report.verdict == "pass"
    assert {path.name for path in good.folder.iterdir()} == {
        "evidence.json.gz",
        "locust.log",
        "phases.hdr.json",
        "plan.jsonl",
        "report.html",
        "report.json",
        "sessions.jsonl.gz",
        "settings.json",
    }
    assert (good.folder.parent / "latest").resolve() == good.folder.resolve()


def test_every_planned_arrival_has_one_record_and_its_desktop(good: Ran) -> None:
    plan, sha256 = read_plan(good.folder / "plan.jsonl")
    assert sha256 == good.report.plan_sha256
    assert [each.index for each in good.sessions] == [each.index for each in plan.arrivals]
    for record, arrival in zip(good.sessions, plan.arrivals, strict=True):
        assert (record.username, record.pool) == (arrival.username, arrival.pool)
        assert record.trouble is None
        assert record.desktop_id is not None
        assert record.work_ms is not None
        assert record.work_ms >= arrival.work_s * 1000 - 1


def test_people_without_an_endpoint_opened_the_display_themselves(good: Ran) -> None:
    browsers = [record for record in good.sessions if record.endpoint is None]
    assert browsers
    for record in browsers:
        assert [phase.name for phase in record.phases] == ["display_open", "first_frame"]


def test_tries_again_are_counted_and_are_no_failures(good: Ran) -> None:
    assert sum(record.retries for record in good.sessions) == 3
    assert good.report.generator.retries == 3
    sign_in = next(row for row in good.report.requests if row.name == "sign in")
    assert (sign_in.count, sign_in.failures) == (23, 3)


def test_progress_is_told_line_by_line_up_to_the_result(good: Ran) -> None:
    kinds = [line["type"] for line in good.lines]
    assert kinds[0] == "stage"
    assert kinds[-1] == "result"
    stages = [line["stage"] for line in good.lines if line["type"] == "stage"]
    assert stages == ["probe", "run", "settle", "report"]
    progress = [line for line in good.lines if line["type"] == "progress"]
    assert progress[-1]["total"] == progress[-1]["arrived"] == progress[-1]["done"] == 20
    assert [line["arrived"] for line in progress] == sorted(line["arrived"] for line in progress)
    assert good.lines[-1]["verdict"] == "pass"
    assert good.lines[-1]["plan_sha256"] == good.report.plan_sha256


def test_no_secret_is_in_what_a_campaign_leaves(good: Ran) -> None:
    for path in good.folder.iterdir():
        assert b"secret of" not in path.read_bytes(), path.name
        assert TOKEN.encode() not in path.read_bytes(), path.name
    assert stat.S_IMODE((good.folder.parent / "cast.json").stat().st_mode) == 0o600


def test_the_same_plan_comes_from_the_plan_command(good: Ran, tmp_path: Path) -> None:
    cast = good.folder.parent / "cast.json"
    planned = subprocess.run(
        command("plan", "--cast", str(cast), "--out", str(tmp_path / "plan.jsonl"), *RECIPE),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=True,
    )
    assert planned.stdout.strip() == good.report.plan_sha256


def test_the_report_can_be_computed_again_from_the_raw_data(good: Ran) -> None:
    before = (good.folder / "report.json").read_bytes()
    (good.folder / "report.json").unlink()
    (good.folder / "report.html").unlink()
    again = subprocess.run(
        command("analyse", str(good.folder)), timeout=60, env=environment(), check=False,
        capture_output=True,
    )  # fmt: skip
    assert again.returncode == 0
    assert (good.folder / "report.json").read_bytes() == before
    assert (good.folder / "report.html").stat().st_size > 50_000


def test_two_processes_share_the_plan_and_compare_well_with_one(good: Ran, tmp_path: Path) -> None:
    with fake_broker() as (url, _):
        ran = campaign(tmp_path, url, "--workers", "2")
    assert ran.code == 0, ran.errors
    assert ran.report.generator.workers == 2
    assert ran.report.plan_sha256 == good.report.plan_sha256
    assert Counter(record.worker for record in ran.sessions) == {0: 10, 1: 10}
    compared = subprocess.run(
        command("compare", "--json", str(good.folder), str(ran.folder)),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    rows = {row["name"]: row for row in json.loads(compared.stdout)["rows"]}
    assert rows["voi bytes per session"]["ratio"] == 1.0
    assert rows["double assignments"]["ok"]


def test_a_stall_shows_in_the_times_of_everybody_who_was_due_in_it(tmp_path: Path) -> None:
    """The open loop: a closed one would have sent one request into the stall and waited."""
    with fake_broker({"stall": [STALL_FROM_S, STALL_FOR_S]}) as (url, _):
        ran = campaign(tmp_path, url, "--sessions", "40", "--browser-share", "0")
    plan, _ = read_plan(ran.folder / "plan.jsonl")
    due = {each.index: each.due_s for each in plan.arrivals}
    stalled = [
        record
        for record in ran.sessions
        if STALL_FROM_S + 0.1 < due[record.index] < STALL_FROM_S + STALL_FOR_S - 0.2
    ]
    assert len(stalled) >= 10
    for record in stalled:
        left_ms = (STALL_FROM_S + STALL_FOR_S - due[record.index]) * 1000
        assert record.sign_in_ms is not None
        assert record.sign_in_ms >= left_ms - 100
        assert record.lag_ms < 500


def test_who_has_to_queue_is_timed_in_the_queue_and_gets_a_desktop(tmp_path: Path) -> None:
    pools = {"maths": ["vdi", 1], "art": ["idv", 1], "lab": ["voi", 1]}
    with fake_broker({"pools": pools}) as (url, _):
        ran = campaign(tmp_path, url, "--live-s", "30")
    assert ran.report.verdict == "pass", ran.report.reasons
    queued = [record for record in ran.sessions if record.queued]
    assert queued
    for record in queued:
        assert record.queue_ms
        assert record.total_ms is not None
        parts = (record.sign_in_ms, record.assign_ms, record.queue_ms, record.deliver_ms)
        assert record.total_ms == pytest.approx(sum(part or 0.0 for part in parts), abs=0.01)
    found = {name: arch.phases["queue"].n for name, arch in ran.report.architectures.items()}
    assert sum(found.values()) == len(queued)


def test_arrivals_past_the_cap_are_dropped_counted_and_make_it_invalid(tmp_path: Path) -> None:
    with fake_broker({"deliver_s": 2.0}) as (url, _):
        ran = campaign(tmp_path, url, "--in-flight-max", "4")
    dropped = [
        record for record in ran.sessions if record.trouble and record.trouble.error == DROPPED
    ]
    assert dropped
    assert len(ran.sessions) == 20
    assert ran.report.generator.dropped == len(dropped)
    assert ran.report.verdict == "invalid"
    assert ran.code == 3


@pytest.mark.parametrize(
    ("knobs", "invariant"),
    [
        ({"double_desktop": True}, "double_assignments"),
        ({"forget_every": 6}, "lost_sessions"),
        ({"never_end_every": 6}, "lost_sessions"),
    ],
    ids=["double", "forgotten", "never ending"],
)
def test_a_broker_that_breaks_an_invariant_is_found_out(
    tmp_path: Path, knobs: dict[str, Any], invariant: str
) -> None:
    with fake_broker(knobs) as (url, _):
        ran = campaign(tmp_path, url)
    assert ran.code == 1
    assert ran.report.verdict == "fail"
    assert getattr(ran.report.invariants, invariant) > 0
    assert ran.report.invariants.examples


def test_errors_get_stable_classes_and_stay_out_of_the_percentiles(tmp_path: Path) -> None:
    faults = {
        "fail_every": 5,
        "no_display_every": 1,
        "wrong_for": "art",
        "busy_first": 1,
        "retry_after": "900",
    }
    with fake_broker(faults) as (url, _):
        ran = campaign(tmp_path, url)
    classes = Counter((row.error, row.step) for row in ran.report.errors)
    assert set(classes) == {
        ("session.failed", "deliver"),
        ("problem:ticket.refused", "deliver"),
        ("problem:admission.not_entitled", "assign"),
        ("problem:server.busy", "sign_in"),
    }
    assert ran.report.generator.retries == 0
    assert ran.report.architectures["idv"].phases == {}
    assert ran.report.verdict == "fail"


def test_a_broker_that_goes_away_is_a_class_of_error_and_makes_it_invalid(
    tmp_path: Path,
) -> None:
    with fake_broker({"die_after": 30}) as (url, _):
        ran = campaign(tmp_path, url, "--live-s", "2")
    errors = {row.error for row in ran.report.errors}
    assert errors & {"transport:refused", "transport:reset"}
    assert all(error.startswith("transport:") for error in errors), errors
    assert ran.report.verdict == "invalid"
    assert not ran.report.invariants.broker_records


def test_without_a_token_the_campaign_runs_and_is_invalid(tmp_path: Path) -> None:
    with fake_broker() as (url, _):
        ran = campaign(tmp_path, url, token=None, variables={"TRIVIUM_TOKEN": ""})
    assert ran.code == 3
    assert [line["type"] for line in ran.lines].count("warning") == 1


@pytest.mark.parametrize(
    ("number", "workers", "slow"),
    [
        (signal.SIGINT, 1, {}),
        (signal.SIGTERM, 2, {}),
        (signal.SIGTERM, 2, {"log_off_s": 3.0}),
        (signal.SIGTERM, 1, {"answer_s": 3.0}),
    ],
    ids=["one", "two", "slow log-offs", "slow connects"],
)
def test_an_interrupted_campaign_logs_everybody_off(
    tmp_path: Path, number: signal.Signals, workers: int, slow: dict[str, float]
) -> None:
    """Also where a log-off takes longer than Locust's master waits for its workers, and who has a
    session without knowing yet."""
    with fake_broker(slow) as (url, _):
        cast = prepared_cast(tmp_path, url)
        arguments = ["--cast", str(cast), "--out", str(tmp_path / "out"), "--json"]
        process = subprocess.Popen(
            command("run", *arguments, *SMALL, "--work-s", "60", "--workers", str(workers)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("live", 0) >= 5:
                break
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(timeout=60) == 130
        process.stdout.close()
        states = settled_states(url)
    assert states["ended"] >= 5
    assert states.keys() <= {"ended", "cancelled"}
    assert not (tmp_path / "out" / "report.json").exists()


def settled_states(url: str) -> Counter[str]:
    """States of all sessions of the fake broker, once none is ending."""
    deadline = time.monotonic() + 20
    while True:
        states: Counter[str] = Counter()
        after: str | None = ""
        while after is not None:
            request = urllib.request.Request(
                f"{url}/api/v1/sessions?limit=500&after={after}",
                headers={"Authorization": f"Bearer {TOKEN}"},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                page = json.load(answer)
            states.update(item["state"] for item in page["items"])
            after = page["next"]
        if not states["ending"] or time.monotonic() > deadline:
            return +states
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--sessions", "200"), "too small"),
        (("--mix", "tele=1"), "mix"),
        (("--work-s", "long"), "recipe"),
        (("--work-s", "9:3"), "shorter"),
    ],
    ids=["small cast", "mix", "number", "order"],
)
def test_what_cannot_be_planned_is_told_in_one_line(
    tmp_path: Path, options: tuple[str, ...], text: str
) -> None:
    ran = campaign(tmp_path, "http://127.0.0.1:9", *options)
    assert ran.code == 2
    assert text in ran.errors
    assert ran.errors.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_locust_that_cannot_start_is_told(tmp_path: Path) -> None:
    with fake_broker() as (url, _), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = campaign(tmp_path, url, "--workers", "2", "--port", port)
    assert ran.code == 2
    assert "locust.log" in ran.errors
    assert not (ran.folder / "report.json").exists()

"""The comparison of two campaigns: what is in the gate decides, wall times only show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from loadtests.calibration import read_calibration
from loadtests.compare import Bands, Comparison, compare
from loadtests.evidence import Evidence, FolderError
from loadtests.evidence import write_evidence as keep
from loadtests.plan import Plan
from loadtests.records import SessionRecord, TrafficBytes, Trouble
from loadtests.run import publish_latest, write_report
from loadtests.tell import table_of
from loadtests.verdict import Criteria
from tests.support.campaigns import evidence_of, plan_of, record_of

PLAN = plan_of(sessions=30)


def campaign(folder: Path, evidence: Evidence) -> Path:
    folder.mkdir()
    keep(folder, evidence)
    write_report(folder, evidence, read_calibration(), Criteria())
    return folder


def records(plan: Plan = PLAN) -> list[SessionRecord]:
    return [record_of(arrival) for arrival in plan.arrivals]


def with_sessions(seen: Sequence[SessionRecord]) -> Evidence:
    return evidence_of(PLAN, seen)


def refused(found: Comparison) -> list[str]:
    return [row.name for row in found.rows if row.ok is False]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return campaign(tmp_path / "a", evidence_of(PLAN))


def test_a_campaign_holds_against_itself(tmp_path: Path, before: Path) -> None:
    found = compare(before, campaign(tmp_path / "b", evidence_of(PLAN)), Bands())
    assert found.ok
    assert found.same_plan
    ratios = [row.ratio for row in found.rows if row.unit == "ms"]
    assert ratios
    assert set(ratios) == {1.0}


def test_slower_sessions_are_shown_with_an_interval_and_decide_nothing(
    tmp_path: Path, before: Path
) -> None:
    slow = [msgspec.structs.replace(r, total_ms=(r.total_ms or 0) * 3) for r in records()]
    found = compare(before, campaign(tmp_path / "b", with_sessions(slow)), Bands())
    row = next(row for row in found.rows if row.name == "vdi total p50")
    assert row.ratio == pytest.approx(3, rel=1e-3)
    assert row.interval is not None
    assert row.interval[0] < 3 < row.interval[1]
    assert row.ok is None
    assert found.ok


def test_more_failures_break_the_gate(tmp_path: Path, before: Path) -> None:
    seen = records()
    for i in range(6):
        seen[i] = msgspec.structs.replace(seen[i], trouble=Trouble(step="assign", error="http:500"))
    found = compare(before, campaign(tmp_path / "b", with_sessions(seen)), Bands())
    assert not found.ok
    assert any(name.endswith("failures") for name in refused(found))


def test_more_bytes_break_the_gate(tmp_path: Path, before: Path) -> None:
    seen = [
        msgspec.structs.replace(r, traffic=TrafficBytes(control=9, image=4_000_000))
        if r.architecture == "voi"
        else r
        for r in records()
    ]
    found = compare(before, campaign(tmp_path / "b", with_sessions(seen)), Bands())
    assert refused(found) == ["voi bytes per session"]


def test_more_cpu_for_a_session_breaks_the_gate(tmp_path: Path, before: Path) -> None:
    evidence = evidence_of(PLAN)
    hungry = tuple(
        msgspec.structs.replace(second, broker_cpu_s=2 * (second.broker_cpu_s or 0))
        for second in evidence.machine
    )
    after = campaign(tmp_path / "b", msgspec.structs.replace(evidence, machine=hungry))
    assert refused(compare(before, after, Bands())) == ["broker CPU per session"]


def test_a_broken_invariant_breaks_the_gate(tmp_path: Path, before: Path) -> None:
    evidence = evidence_of(PLAN)
    assert evidence.broker_sessions is not None
    short = msgspec.structs.replace(evidence, broker_sessions=evidence.broker_sessions[1:])
    found = compare(before, campaign(tmp_path / "b", short), Bands())
    assert refused(found) == ["lost sessions"]


def test_different_plans_are_told(tmp_path: Path, before: Path) -> None:
    after = campaign(tmp_path / "b", evidence_of(plan_of(sessions=30, seed=8)))
    assert not compare(before, after, Bands()).same_plan


def test_a_folder_without_a_report_is_told(tmp_path: Path, before: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match="empty holds no report"):
        compare(before, tmp_path / "empty", Bands())


def test_the_table_has_a_line_for_every_figure(tmp_path: Path, before: Path) -> None:
    found = compare(before, campaign(tmp_path / "b", evidence_of(PLAN)), Bands())
    lines = table_of(found).splitlines()
    assert len(lines) == len(found.rows) + 1
    assert lines[1].startswith("double assignments")
    assert lines[1].endswith("ok")


def test_latest_points_at_the_newest_campaign(tmp_path: Path, before: Path) -> None:
    assert publish_latest(before).resolve() == before.resolve()
    after = campaign(tmp_path / "b", evidence_of(PLAN))
    assert publish_latest(after).resolve() == after.resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "latest"]

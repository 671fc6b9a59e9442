"""The analysis: phases that add up, errors kept apart, Little's law, bytes, the verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loadtests.analyse import analyse, phase_histograms
from loadtests.calibration import read_calibration
from loadtests.evidence import Evidence, FolderError, read_evidence, write_evidence
from loadtests.histograms import Histogram
from loadtests.records import (
    DROPPED,
    HARNESS,
    STUCK,
    GeneratorSecond,
    SessionRecord,
    TrafficBytes,
    Trouble,
    WorkerEnd,
    read_sessions,
    write_sessions,
)
from loadtests.result import Report, decode_report, encode_report
from loadtests.stats import percentile
from loadtests.traffic import break_even_minutes
from loadtests.verdict import Criteria
from tests.support.campaigns import evidence_of, plan_of, record_of

PLAN = plan_of(sessions=60, browser_share=0.0)
CALIBRATION = read_calibration()


def report_of(evidence: Evidence) -> Report:
    return analyse(evidence, CALIBRATION, Criteria())


def records() -> list[SessionRecord]:
    return [record_of(arrival) for arrival in PLAN.arrivals]


def failed(record: SessionRecord, error: str, step: str = "deliver") -> SessionRecord:
    return msgspec.structs.replace(
        record,
        total_ms=None,
        deliver_ms=None,
        work_ms=None,
        log_off_ms=None,
        trouble=Trouble(step=step, error=error),
    )


def test_a_good_campaign_passes_and_has_all_that_others_rely_on() -> None:
    report = msgspec.json.decode(encode_report(report_of(evidence_of(PLAN))))
    assert report["verdict"] == "pass"
    assert report["seed"] == 7
    assert len(report["plan_sha256"]) == 64
    for name in ("vdi", "idv", "voi"):
        found = report["architectures"][name]
        assert found["sessions"] == 20
        assert found["failures"] == 0
        assert {"control", "display", "image", "total"} <= found["bytes"].keys()
        for phase in ("sign_in", "assign", "deliver", "total", "log_off"):
            assert found["phases"][phase]["n"] == 20
            assert {"p50_ms", "p95_ms", "p99_ms"} <= found["phases"][phase].keys()
    assert report["invariants"]["double_assignments"] == 0
    assert report["invariants"]["lost_sessions"] == 0


def test_an_architecture_without_sessions_is_there_with_zeros() -> None:
    plan = plan_of(sessions=10, mix={"vdi": 1.0})
    report = report_of(evidence_of(plan))
    assert report.architectures["voi"].sessions == 0
    assert report.architectures["voi"].phases == {}
    assert report.architectures["idv"].bytes.total == 0
    assert report.break_even.rows
    assert decode_report(encode_report(report)) == report


def test_the_parts_add_up_to_the_whole() -> None:
    for found in report_of(evidence_of(PLAN)).architectures.values():
        assert sum(found.stack.values()) == pytest.approx(found.phases["total"].mean_ms, abs=0.01)
        assert abs(found.residual_ms) < 0.01


def test_an_instrument_that_loses_time_shows_as_a_residual() -> None:
    broken = [
        msgspec.structs.replace(record, assign_ms=(record.assign_ms or 0) - 5)
        for record in records()
    ]
    report = report_of(evidence_of(PLAN, broken))
    assert report.architectures["vdi"].residual_ms == pytest.approx(5, abs=0.01)


def test_percentiles_are_those_of_the_sessions_without_trouble() -> None:
    seen = records()
    fast = min((r for r in seen if r.architecture == "vdi"), key=lambda r: r.total_ms or 0)
    # a failure that was quick must not flatter the percentiles
    seen[fast.index] = msgspec.structs.replace(
        fast, total_ms=0.001, trouble=Trouble(step="log_off", error="transport:reset")
    )
    report = report_of(evidence_of(PLAN, seen))
    good = sorted(
        r.total_ms
        for r in seen
        if r.architecture == "vdi" and r.trouble is None and r.total_ms is not None
    )
    total = report.architectures["vdi"].phases["total"]
    assert total.n == 19
    assert total.p50_ms == percentile(good, 50)
    assert total.max_ms == good[-1]
    assert report.architectures["vdi"].failures == 1


def test_the_time_from_due_holds_the_late_start_and_the_time_from_start_does_not() -> None:
    late = [
        msgspec.structs.replace(
            r,
            lag_ms=3000.0,
            sign_in_ms=(r.sign_in_ms or 0) + 3000,
            total_ms=(r.total_ms or 0) + 3000,
        )
        for r in records()
    ]
    report = report_of(evidence_of(PLAN, late))
    found = report.architectures["vdi"]
    assert found.phases["sign_in"].p50_ms > 3000
    assert found.start_to_live.p50_ms == pytest.approx(found.phases["total"].p50_ms - 3000)
    assert report.generator.late == 60
    assert report.verdict == "invalid"
    assert "Start after the due instant" in report.reasons[0]


def test_errors_are_listed_by_class_and_step() -> None:
    seen = records()
    for i in (3, 4, 5):
        seen[i] = failed(seen[i], "problem:admission.queue_full", "assign")
    seen[6] = failed(seen[6], STUCK)
    report = report_of(evidence_of(PLAN, seen))
    classes = {(row.error, row.step): 0 for row in report.errors}
    for row in report.errors:
        classes[row.error, row.step] += row.count
        assert 0 <= row.first_s <= row.last_s <= 60
    assert classes == {("problem:admission.queue_full", "assign"): 3, (STUCK, "deliver"): 1}
    assert report.verdict == "fail"


def spoil_dropped(seen: list[SessionRecord]) -> str:
    seen[0] = failed(seen[0], DROPPED, "arrive")
    return "Arrivals dropped"


def spoil_missing(seen: list[SessionRecord]) -> str:
    del seen[0]
    return "Arrivals recorded"


def spoil_harness(seen: list[SessionRecord]) -> str:
    seen[0] = failed(seen[0], HARNESS)
    return "Harness errors"


@pytest.mark.parametrize("spoil", [spoil_dropped, spoil_missing, spoil_harness])
def test_a_measurement_with_a_hole_in_it_is_invalid(
    spoil: Callable[[list[SessionRecord]], str],
) -> None:
    seen = records()
    reason = spoil(seen)
    report = report_of(evidence_of(PLAN, seen))
    assert report.verdict == "invalid"
    assert any(text.startswith(reason) for text in report.reasons)


def test_without_the_brokers_records_the_campaign_is_invalid() -> None:
    evidence = msgspec.structs.replace(evidence_of(PLAN), broker_sessions=None)
    report = report_of(evidence)
    assert report.verdict == "invalid"
    assert report.reasons[0].startswith("Broker's records read")


def test_a_generator_without_cpu_left_makes_the_campaign_invalid() -> None:
    evidence = evidence_of(PLAN)
    busy = tuple(msgspec.structs.replace(second, cpu_pct=97.0) for second in evidence.seen.seconds)
    seen = msgspec.structs.replace(evidence.seen, seconds=busy)
    report = report_of(msgspec.structs.replace(evidence, seen=seen))
    assert report.verdict == "invalid"


def test_littles_law_agrees_for_honest_counts_and_not_for_others() -> None:
    evidence = evidence_of(PLAN)
    honest = report_of(evidence).little
    assert honest.difference_pct == pytest.approx(0, abs=5)
    counted_twice = tuple(
        msgspec.structs.replace(second, in_system=2 * second.in_system)
        for second in evidence.seen.seconds
    )
    seen = msgspec.structs.replace(evidence.seen, seconds=counted_twice)
    report = report_of(msgspec.structs.replace(evidence, seen=seen))
    assert report.little.difference_pct == pytest.approx(100, abs=10)
    assert report.verdict == "invalid"


def test_bytes_are_added_by_kind_and_scaled_to_real_size() -> None:
    report = report_of(evidence_of(PLAN))
    voi = report.architectures["voi"].bytes
    assert voi.image == 20 * 1_970_000
    assert voi.total == voi.control + voi.display + voi.image
    assert voi.per_session.image == 1_970_000
    assert voi.modelled.image == 1_970_000 * report.bytes_scale
    assert voi.modelled.control == voi.per_session.control
    assert voi.moved_image == 20
    assert voi.real_image_bytes == 197_000_000
    assert report.architectures["vdi"].bytes.image == 0


def test_the_display_rate_is_of_the_live_time_and_of_real_speed() -> None:
    seen = records()
    for record in seen:
        if record.architecture == "vdi":
            live_s = ((record.work_ms or 0) + (record.log_off_ms or 0)) / 1000
            display = sum(phase.bytes_down for phase in record.phases) + round(25_000 * live_s)
            seen[record.index] = msgspec.structs.replace(
                record, traffic=TrafficBytes(control=10, display=display)
            )
    report = report_of(evidence_of(PLAN, seen))
    assert report.architectures["vdi"].bytes.display_kbit_s == pytest.approx(200, rel=0.001)
    assert report.speed == 10
    assert report.break_even.measured_kbit_s == pytest.approx(20, rel=0.001)


def test_an_image_that_was_in_the_cache_is_told_apart_from_one_that_was_moved() -> None:
    seen = records()
    idv = [record for record in seen if record.architecture == "idv"]
    for record in idv[:15]:
        seen[record.index] = msgspec.structs.replace(record, traffic=TrafficBytes(control=90))
    found = report_of(evidence_of(PLAN, seen)).architectures["idv"].bytes
    assert found.moved_image == 5
    assert found.modelled.image == pytest.approx(11_000_000 * 100 * 5 / 20)
    assert found.real_image_bytes == pytest.approx(11_000_000 * 100)


def test_the_brokers_count_of_bytes_is_taken_where_it_is_later() -> None:
    evidence = evidence_of(PLAN)
    assert evidence.broker_sessions is not None
    grown = tuple(
        msgspec.structs.replace(session, traffic=TrafficBytes(control=5))
        for session in evidence.broker_sessions
    )
    report = report_of(msgspec.structs.replace(evidence, broker_sessions=grown))
    assert report.architectures["idv"].bytes.total == 20 * 5


def test_break_even_is_bytes_over_rate() -> None:
    # the sum of loadtest facts, part 5c: 200 MB at 300 kbit/s are 89 minutes
    assert break_even_minutes(200e6, 300) == pytest.approx(88.9, abs=0.1)
    report = report_of(evidence_of(PLAN))
    for row in report.break_even.rows:
        assert row.minutes.low <= row.minutes.mean <= row.minutes.high
        assert row.minutes_measured is not None


def test_simulated_steps_are_taken_back_to_real_speed() -> None:
    report = report_of(evidence_of(PLAN))
    voi = report.architectures["voi"]
    assert voi.real_stack["os_start"] == pytest.approx(10 * voi.stack["os_start"], rel=1e-3)
    assert voi.real_stack["assign"] == voi.stack["assign"]
    # 1.97 MB times 100 over 117 MB/s
    assert voi.real_stack["boot_stream"] == pytest.approx(1970 * 100 / 117, rel=1e-3)


def test_the_brokers_cpu_is_told_per_live_session() -> None:
    evidence = evidence_of(PLAN)
    spent_s = (len(evidence.machine) - 1) * 0.21
    found = report_of(evidence).surroundings.broker_cpu_ms_per_session
    assert found == pytest.approx(1000 * spent_s / 60, rel=1e-3)


def test_a_broker_that_was_started_again_has_no_cpu_figure() -> None:
    evidence = evidence_of(PLAN)
    reset = msgspec.structs.replace(evidence.machine[-1], broker_cpu_s=0.1)
    machine = (*evidence.machine[:-1], reset)
    report = report_of(msgspec.structs.replace(evidence, machine=machine))
    assert report.surroundings.broker_cpu_ms_per_session is None


def test_samples_of_two_processes_are_added_second_by_second() -> None:
    evidence = evidence_of(PLAN)
    twin = tuple(
        msgspec.structs.replace(second, worker=1, lag_max_ms=40.0)
        for second in evidence.seen.seconds
    )
    ends = (*evidence.seen.ends, msgspec.structs.replace(evidence.seen.ends[0], worker=1))
    seen = msgspec.structs.replace(evidence.seen, seconds=evidence.seen.seconds + twin, ends=ends)
    alone = report_of(evidence).series
    both = report_of(msgspec.structs.replace(evidence, seen=seen)).series
    assert both.live == tuple(2 * n for n in alone.live)
    assert set(both.lag_max_ms) == {40.0}


def test_histograms_for_other_tools_hold_every_phase_of_good_sessions() -> None:
    encoded = phase_histograms(records())
    merged = Histogram()
    merged.merge(encoded["voi"]["total"])
    assert merged.count == 20
    assert encoded["idv"].keys() >= {"lease", "image_check", "image_fetch", "local_boot"}


def test_raw_data_gives_the_same_report_again(tmp_path: Path) -> None:
    evidence = evidence_of(PLAN)
    write_evidence(tmp_path, evidence)
    again = read_evidence(tmp_path)
    assert report_of(again) == report_of(evidence)


def test_a_folder_without_a_campaign_is_told(tmp_path: Path) -> None:
    with pytest.raises(FolderError):
        read_evidence(tmp_path)


def test_sessions_are_read_back_and_the_same_ones_give_the_same_bytes(tmp_path: Path) -> None:
    write_sessions(tmp_path / "one.gz", records())
    write_sessions(tmp_path / "other.gz", records())
    assert read_sessions(tmp_path / "one.gz") == tuple(records())
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes()


def test_a_campaign_in_which_nothing_was_seen_is_invalid_and_not_a_crash() -> None:
    evidence = evidence_of(PLAN, [], [])
    report = report_of(evidence)
    assert report.verdict == "invalid"
    assert report.generator.recorded == 0


def test_the_lag_of_all_processes_is_merged() -> None:
    evidence = evidence_of(PLAN)
    slow = WorkerEnd(
        worker=1,
        arrivals=1,
        begun_at_ms=evidence.seen.ends[0].begun_at_ms,
        ended_at_ms=evidence.seen.ends[0].ended_at_ms,
        cpu_s=1.0,
        lag=Histogram.of([750.0]).encode(),
    )
    seen = msgspec.structs.replace(evidence.seen, ends=(*evidence.seen.ends, slow))
    generator = report_of(msgspec.structs.replace(evidence, seen=seen)).generator
    assert generator.lag_ms["100"] == pytest.approx(750, rel=0.002)
    assert generator.workers == 2


def test_the_peak_rate_counts_requests_between_samples() -> None:
    evidence = evidence_of(PLAN)
    first = evidence.seen.seconds[0]
    samples = tuple(
        msgspec.structs.replace(first, at_ms=first.at_ms + 1000 * i, requests=n)
        for i, n in enumerate((0, 10, 60, 65))
    )
    seen = msgspec.structs.replace(evidence.seen, seconds=samples)
    generator = report_of(msgspec.structs.replace(evidence, seen=seen)).generator
    assert generator.requests_per_s_peak == 50
    assert isinstance(samples[0], GeneratorSecond)

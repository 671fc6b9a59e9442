"""Numbers as people read them, steps as bars, and addresses that stay on this site."""

from __future__ import annotations

import pytest

from broker.domain.model import Architecture, PhaseReport
from broker.services.tally import Sample
from broker.web.console import figures
from broker.web.console.campaigns import comparison, invariants
from broker.web.console.overview import columns
from broker.web.console.sign_in import local_path
from broker.web.console.steps import steps_of
from tests.support.builders import NOW, make_session


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "0 ms"),
        (4.13, "4.1 ms"),
        (85, "85 ms"),
        (1_240, "1.24 s"),
        (12_300, "12.3 s"),
        (125_000, "2 min 5 s"),
        (3_780_000, "1 h 3 min"),
    ],
)
def test_durations_have_a_unit_that_fits(ms: float, words: str) -> None:
    assert figures.took(ms) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (45_000_000, "45 MB"), (3.1e9, "3.1 GB")],
)
def test_bytes_are_counted_in_decimal_units(count: float, words: str) -> None:
    assert figures.size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(604_800, "7 days"), (3_600, "1 hour"), (900, "15 minutes"), (90, "90 seconds")],
)
def test_settings_are_said_in_their_largest_whole_unit(seconds: int, words: str) -> None:
    assert figures.seconds(seconds) == words


def test_memory_is_counted_in_binary_units() -> None:
    assert figures.mebibytes(512) == "512 MiB"
    assert figures.mebibytes(393_216) == "384 GiB"


def test_the_exact_time_is_in_utc() -> None:
    assert figures.utc_words(1_790_000_000_123) == "2026-09-21 14:13:20.123 UTC"


# ------------------------------------------------------------------------------- steps


def test_steps_cover_the_whole_way_and_stay_within_the_axis() -> None:
    session = make_session(
        architecture=Architecture.VDI,
        requested_at=NOW,
        assigned_at=NOW + 500,
        live_at=NOW + 3_000,
        phases=(
            PhaseReport(name="display_open", took_ms=400, bytes_down=100, bytes_up=20),
            PhaseReport(name="first_frame", took_ms=600, bytes_down=5_000),
            PhaseReport(name="logon", took_ms=1_000),
        ),
    )
    steps = steps_of(session)
    assert [step.kind for step in steps.rows] == [
        "waited", "measured", "measured", "modelled", "rest",
    ]  # fmt: skip
    assert steps.total_ms == pytest.approx(3_000)
    assert sum(step.took_ms for step in steps.rows) == pytest.approx(3_000)
    assert all(step.x >= 0 and step.x + step.width <= 1000 for step in steps.rows)
    assert steps.rows[1].bytes == 120
    assert steps.modelled


def test_a_session_that_waits_has_no_steps_yet() -> None:
    assert steps_of(make_session(assigned_at=None, desktop_id=None)).rows == ()


def test_a_step_too_short_to_see_is_still_shown() -> None:
    session = make_session(
        assigned_at=NOW,
        phases=(PhaseReport(name="a", took_ms=0), PhaseReport(name="b", took_ms=9e6)),
    )
    assert all(step.width > 0 for step in steps_of(session).rows)


def test_a_phase_that_the_architecture_does_not_know_is_shown_as_it_is() -> None:
    session = make_session(phases=(PhaseReport(name="<b>x", took_ms=10),))
    assert "<b>x" in [step.name for step in steps_of(session).rows]


# --------------------------------------------------------------------------- comparison


def test_a_summary_becomes_a_table_with_one_column_for_each_architecture() -> None:
    table = comparison(
        {
            "architectures": {
                "vdi": {
                    "sessions": 10,
                    "failures": 0,
                    "phases": {"assign": {"p50_ms": 4, "p95_ms": 9.5}, "logon": {"p50_ms": 9}},
                    "bytes": {"display": 1_000, "control": 500},
                },
                "voi": {"sessions": 7, "failures": 1, "phases": {"assign": {}}, "bytes": 2e9},
            }
        }
    )
    assert table.columns == ("vdi", "voi")
    assert ("Sessions", ("10", "7")) in table.rows
    assert ("assign, p95", ("9.5 ms", "–")) in table.rows
    assert not [name for name, _ in table.rows if "logon" in name], "not every one has it"
    assert ("On the wire", ("1.5 kB", "2.0 GB")) in table.rows


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"architectures": None},
        {"architectures": {"vdi": "<script>"}},
        {"architectures": {"vdi": {"sessions": "many", "phases": [1], "bytes": True}}},
        {"architectures": {"martian": {"sessions": 1}}},
    ],
)
def test_an_odd_summary_is_shown_as_far_as_it_goes(summary: dict[str, object]) -> None:
    for _, values in comparison(summary).rows:
        assert set(values) == {"–"}


def test_invariants_are_said_as_far_as_they_are_known() -> None:
    assert invariants({"invariants": {"lost_sessions": 0}}) == (("Lost sessions", "0"),)
    assert invariants({"invariants": "none"}) == ()


def test_the_series_goes_out_as_columns() -> None:
    counts = {one.value: {"active": 1, "waiting": 2, "ready": 3} for one in Architecture}
    made = columns([Sample(at=NOW, counts=counts), Sample(at=NOW + 2_000, counts=counts)])
    assert made["at"] == [NOW, NOW + 2_000]
    assert made["counts"]["waiting"]["idv"] == [2, 2]


# ---------------------------------------------------------------------------- redirects


@pytest.mark.parametrize("path", ["/overview", "/sessions?state=active&text=%E5%BC%A0", "/me"])
def test_a_page_of_this_site_may_come_next(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "overview",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\n/evil.example",
        "/%0d%0a\r\nSet-Cookie:x",
        " /overview",
        "//evil.example/%2F..",
    ],
)
def test_nobody_is_sent_to_another_site(path: str) -> None:
    assert local_path(path) is None

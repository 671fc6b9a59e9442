"""`make bench` tells which figure is past its goal or was not measured, and its exit code does."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console

from tests.bench import __main__ as bench
from tests.bench.goals import Misses, at_least, at_most


def test_a_figure_at_its_goal_is_good_and_one_past_it_is_told() -> None:
    assert at_most("a ratio", 1.5, 1.5) == at_least("a rate", 0.9, 0.9) == ()
    assert at_most("a ratio", 1.51, 1.5) == ("a ratio: 1.51, more than 1.5",)
    assert at_least("a rate", 0.89, 0.9) == ("a rate: 0.89, less than 0.9",)


@pytest.mark.parametrize(("ratio", "code"), [(1.0, 0), (3.0, 1)])
def test_a_bench_past_its_goal_ends_with_1(
    ratio: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def one(console: Console) -> Misses:
        del console
        return at_most("a ratio", ratio, 2.0)

    monkeypatch.setattr(bench, "BENCHES", {"one": one})
    monkeypatch.setattr(sys, "argv", ["bench"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == code
    assert ("not met: a ratio: 3.00, more than 2" in capsys.readouterr().out) is (code == 1)


def test_figures_that_could_not_be_measured_are_not_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["bench", "clones"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 1
    assert "not met: clones were not measured" in capsys.readouterr().out

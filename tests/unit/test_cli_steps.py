"""Steps of a long command, where stderr is no terminal."""

from __future__ import annotations

import pytest

from broker.cli.output import Output
from broker.cli.steps import TOLD_S, Steps


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now(self) -> int:
        return int(self.at_s * 1000)

    def monotonic(self) -> float:
        return self.at_s

    async def sleep(self, seconds: float) -> None:
        self.at_s += seconds


def test_progress_is_told_now_and_then_and_the_end_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = HandClock()
    steps = Steps(Output(), clock)
    with steps.shown(), steps.step("roster") as step:
        for second in range(25):
            clock.at_s = float(second)
            step.note(f"{second} lines", done=second, total=25)
        step.end("25 lines")
    out, err = capsys.readouterr()
    assert out == ""
    first, second_, end = err.splitlines()
    assert f"{TOLD_S:.0f} lines" in first
    assert f"{2 * TOLD_S:.0f} lines" in second_
    assert end.split() == ["✓", "roster", "25", "lines"]


def test_a_step_that_fails_says_so_and_lets_the_error_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = Steps(Output(), HandClock())
    with pytest.raises(ValueError, match="oh"), steps.shown(), steps.step("campaign"):
        raise ValueError("oh")
    assert capsys.readouterr().err.split() == ["✗", "campaign", "stopped"]

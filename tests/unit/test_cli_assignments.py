"""Settings and figures on the command line, printed."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

from broker.cli.assignments import flat
from broker.cli.hosts import amounts
from broker.cli.output import Output


def test_a_setting_that_is_empty_is_printed_all_the_same() -> None:
    settings = {"storage": "", "labels": [], "channels": {"clipboard": "off"}, "idle_s": 0}
    printed = io.StringIO()
    with redirect_stdout(printed):
        Output().fields(flat(settings))
    lines = [line.split() for line in printed.getvalue().splitlines()]
    assert lines == [
        ["storage", "–"],
        ["labels", "[]"],
        ["channels.clipboard", "off"],
        ["idle_s", "0"],
    ]


def test_large_figures_are_printed_whole() -> None:
    assert amounts(1536, 4_096_000) == "1,536 of 4,096,000"
    assert amounts(0.5, 64.0) == "0.5 of 64"

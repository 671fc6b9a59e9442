"""Says on standard output how a campaign goes: for programs one JSON object a line, for people
a line every few seconds."""

from __future__ import annotations

from collections.abc import Mapping

import click
import msgspec

from loadtests.compare import Comparison

EVERY_S = 5.0
"""between two lines of progress for people"""

STAGES = {
    "probe": "looking at this machine",
    "run": "people arrive",
    "settle": "waiting for the broker's records to come to rest",
    "report": "writing the report",
}


class Teller:
    """Call it with a mapping whose `type` is stage, progress, warning or result.

    As JSON the mapping is printed as it is:
        {"type":"stage","stage":"probe"}  (probe, run, settle, report)
        {"type":"progress","elapsed_s":12.5,"total":220,"arrived":51,"signing_in":1,"waiting":4,
         "live":30,"leaving":1,"done":14,"failed":0,"dropped":0}
        {"type":"warning","text":"…"}
        {"type":"result","verdict":"pass","reasons":[],"plan_sha256":"…","html":"…","json":"…"}
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._next_s = 0.0

    def __call__(self, event: Mapping[str, object]) -> None:
        if self._as_json:
            click.echo(msgspec.json.encode(event))
        elif (line := self._line(event)) is not None:
            click.echo(line)

    def _line(self, event: Mapping[str, object]) -> str | None:
        match event["type"]:
            case "stage":
                return STAGES[str(event["stage"])]
            case "progress":
                return self._progress(event)
            case "warning":
                return f"warning: {event['text']}"
            case "result":
                lines = [f"verdict: {event['verdict']}"]
                lines += [f"  {reason}" for reason in _strings(event["reasons"])]
                return "\n".join([*lines, f"report: {event['html']}"])
            case _:
                return None

    def _progress(self, event: Mapping[str, object]) -> str | None:
        elapsed_s = float(str(event["elapsed_s"]))
        if elapsed_s < self._next_s:
            return None
        self._next_s = elapsed_s + EVERY_S
        return (
            f"{elapsed_s:6.1f} s  {event['arrived']:.0f} of {event['total']:.0f} arrived, "
            f"{event['live']:.0f} live, {event['done']:.0f} done, {event['failed']:.0f} failed"
        )


def table_of(comparison: Comparison) -> str:
    """A comparison as a table of text."""
    rows: list[tuple[str, ...]] = [("", "A", "B", "B / A", "95 %", "wanted", "")]
    for row in comparison.rows:
        low, high = row.interval or (None, None)
        rows.append(
            (
                row.name,
                *("–" if f is None else f"{f:.4g} {row.unit}" for f in (row.before, row.after)),
                "" if row.ratio is None else f"{row.ratio:.2f}",
                "" if low is None else f"{low:.2f} – {high:.2f}",
                row.wanted,
                {None: "", True: "ok", False: "NO"}[row.ok],
            )
        )
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    )


def _strings(value: object) -> tuple[str, ...]:
    return msgspec.convert(value, tuple[str, ...])

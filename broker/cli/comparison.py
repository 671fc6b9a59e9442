"""The short comparison of VDI, IDV and VOI, from a campaign's report.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.table import Table

from broker.cli.output import Output, clean, state

ARCHITECTURES: Final = ("vdi", "idv", "voi")
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_MINUTES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One row: a figure for each architecture, in their order."""

    title: str
    cells: tuple[str, ...]


def seconds(ms: float | None) -> str:
    """A duration with two or three digits that mean something."""
    if ms is None:
        return "–"
    if ms < 1000:  # noqa: PLR2004 - one second
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.2f} s" if ms < _MINUTES * 1000 else f"{ms / 1000:.0f} s"


def size(count: float | None) -> str:
    """A number of bytes in decimal units, as networks count."""
    if count is None:
        return "–"
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - the next unit
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.5 else 1 if value >= 9.95 else 2  # noqa: PLR2004
    return f"{value:.{digits}f} {_UNITS[unit]}"


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the broker keeps of a report, and what `show_comparison` shows. Bytes per session are
    of the mean session that was live; `real_` ones are at the images' real size."""
    kept = {}
    for name, found in report["architectures"].items():
        kept[name] = {
            "sessions": found["sessions"],
            "live": found["live"],
            "queued": found["queued"],
            "failures": found["failures"],
            "bytes": {kind: found["bytes"][kind] for kind in ("control", "display", "image")},
            "bytes_per_session": found["bytes"]["per_session"]["total"],
            "real_bytes_per_session": found["bytes"]["modelled"]["total"],
            "phases": {
                phase: {key: values[key] for key in ("n", "p50_ms", "p95_ms", "p99_ms")}
                for phase, values in found["phases"].items()
            },
        }
    return {
        "verdict": report["verdict"],
        "seed": report["seed"],
        "plan_sha256": report["plan_sha256"],
        "speed": report["speed"],
        "bytes_scale": report["bytes_scale"],
        "duration_s": report["duration_s"],
        "architectures": kept,
        "invariants": {
            name: report["invariants"][name] for name in ("double_assignments", "lost_sessions")
        },
    }


def show_comparison(short: Mapping[str, Any], output: Output, reasons: Sequence[str] = ()) -> None:
    """The table of a summary on stdout, the verdict and its reasons below it."""
    found = [short["architectures"].get(name) for name in ARCHITECTURES]
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in ARCHITECTURES:
        table.add_column(name.upper(), justify="right")
    for line in _lines(found):
        table.add_row(line.title, *line.cells)
    out = output.out
    out.print(table, soft_wrap=False)
    for text in _remarks(short):
        out.print(f"[dim]{text}[/]")
    invariants = short["invariants"]
    out.print(
        f"verdict {state(short['verdict'])}   "
        f"double assignments {_count(invariants['double_assignments'])}   "
        f"lost sessions {_count(invariants['lost_sessions'])}"
    )
    for reason in reasons:
        out.print(f"  [yellow]•[/] {clean(reason)}")


def _count(value: object) -> str:
    return f"[bold red]{clean(value)}[/]" if value else clean(value if value is not None else "–")


def _lines(found: list[Mapping[str, Any] | None]) -> list[_Line]:
    def line(title: str, cell: Callable[[Mapping[str, Any]], str]) -> _Line:
        return _Line(title=title, cells=tuple("–" if one is None else cell(one) for one in found))

    def per_session(kind: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda one: size(one[kind]) if one["live"] else "–"

    def quantile(phase: str, name: str) -> Callable[[Mapping[str, Any]], str]:
        def cell(one: Mapping[str, Any]) -> str:
            values = one["phases"].get(phase)
            return seconds(values[name]) if values and values["n"] else "–"

        return cell

    def failures(one: Mapping[str, Any]) -> str:
        return f"[bold red]{one['failures']}[/]" if one["failures"] else "0"

    return [
        line("sessions", lambda one: f"{one['sessions']:,}"),
        line("failures", failures),
        line("waited in the queue", lambda one: f"{one['queued']:,}"),
        line("due to live, median", quantile("total", "p50_ms")),
        line("due to live, p95", quantile("total", "p95_ms")),
        line("broker's answer, p95", quantile("assign", "p95_ms")),
        line("log-off, p95", quantile("log_off", "p95_ms")),
        line("bytes per session", per_session("bytes_per_session")),
        line("… at real size", per_session("real_bytes_per_session")),
        line("bytes on the wire", lambda one: size(sum(one["bytes"].values()))),
    ]


def _remarks(short: Mapping[str, Any]) -> list[str]:
    """How the simulation was compressed, which every reader of the figures must know."""
    speed, scale = short["speed"], short["bytes_scale"]
    if speed == 1 and scale == 1:
        return []
    steps = f"Simulated steps ran {speed:g} times faster, simulated images are {scale:g} times"
    return [f"{steps} smaller; the broker's own work is real."]

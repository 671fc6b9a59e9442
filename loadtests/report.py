"""Renders report.html: one file, no script, no request to anywhere, light and dark, printable.

The file carries a content security policy that allows its own style sheet and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtests import formats, phases
from loadtests.calibration import Calibration, Figure
from loadtests.charts.headline import break_even_chart
from loadtests.charts.latency import percentile_chart, stack_bars
from loadtests.charts.people import arrivals_chart, cpu_chart, lag_chart, people_chart
from loadtests.charts.shapes import NARROW, WIDE, Bar, Chart
from loadtests.charts.wire import bytes_chart
from loadtests.limits import ARCHITECTURES, LATE_MS
from loadtests.result import Report

PACKAGE = Path(__file__).parent
FOLDERS = (
    PACKAGE.parent / "templates" / "report",
    PACKAGE.parent / "broker" / "_templates" / "report",
)
"""in a checkout, and in an installed wheel"""
STACK_WIDTH = 1000
SECTIONS = {
    "phases": "Steps of a delivery",
    "images": "Images",
    "display": "Display traffic",
    "network": "Network",
    "engine": "Hypervisors",
    "agents": "Endpoints",
}
"""titles of the calibration's sections, in the order of the report"""


def render(report: Report, calibration: Calibration) -> str:
    """The report as one HTML document."""
    folder = next(folder for folder in FOLDERS if folder.is_dir())
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(formats.FILTERS)
    style = (folder / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        r=report,
        names=ARCHITECTURES,
        phases=phases,
        style=Markup(style),  # noqa: S704 - our own file, held by its hash in the policy
        style_hash=f"sha256-{digest}",
        charts=_charts(report),
        stacks=_stacks(report),
        sections=_sections(calibration),
        titles=SECTIONS,
        between=formats.between,
        late_ms=LATE_MS,
    )


def _charts(report: Report) -> dict[str, list[Chart]]:
    """Each chart in its wide and its narrow form; none where there was nothing to draw."""
    makers: dict[str, Callable[[float], Chart | None]] = {
        "break_even": partial(break_even_chart, report.break_even),
        "percentiles": partial(percentile_chart, report.architectures),
        "people": partial(people_chart, report.series),
        "arrivals": partial(arrivals_chart, report.series),
        "cpu": partial(cpu_chart, report.series),
        "lag": partial(lag_chart, report.series),
        "bytes": partial(bytes_chart, report.architectures),
    }
    return {
        name: [chart for width in (WIDE, NARROW) if (chart := make(width)) is not None]
        for name, make in makers.items()
    }


def _stacks(report: Report) -> dict[str, dict[str, list[Bar]]]:
    """The stacked bars as it ran and at real speed; each of the two on a scale of its own."""
    found: dict[str, dict[str, list[Bar]]] = {}
    for which in ("stack", "real_stack"):
        stacks = {name: getattr(report.architectures[name], which) for name in ARCHITECTURES}
        longest = max((sum(stack.values()) for stack in stacks.values()), default=0.0)
        found[which] = {
            name: stack_bars(list(stack.items()), longest, STACK_WIDTH)
            for name, stack in stacks.items()
        }
    return found


def _sections(calibration: Calibration) -> dict[str, list[Figure]]:
    """The figures by the first part of their names, those that weigh most here first."""
    found: dict[str, list[Figure]] = {}
    for figure in calibration.figures.values():
        found.setdefault(figure.name.partition(".")[0], []).append(figure)
    order = [*SECTIONS, *found]
    return {name: found[name] for name in sorted(found, key=order.index)}

"""`trivium simulate`: brokers and endpoints in virtual time, under every fault, from seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from broker.cli.errors import CommandError
from broker.cli.output import Output, clean, json_option
from broker.simulation.invariants import SENTENCES
from broker.simulation.plants import PLANTS
from broker.simulation.run import Result, Total, run_one
from broker.simulation.simulation import Spec
from broker.system import SystemClock

TRACE_LINES: Final = 60
"""of a history's end that are shown"""


@click.command()
@click.option(
    "--seeds",
    default=50,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="How many seeds to run, from --first on.",
)
@click.option("--first", default=1, show_default=True, type=click.IntRange(0), help="First seed.")
@click.option(
    "--operations",
    default=2000,
    show_default=True,
    type=click.IntRange(1, 10_000_000),
    help="Operations of each run before faults stop and it must settle.",
)
@click.option("--seed", type=click.IntRange(0), help="Run this one seed alone.")
@click.option(
    "--trace", is_flag=True, help="Show the end of each history that broke, or of --seed."
)
@click.option("--plants", is_flag=True, help="List the bugs that can be planted, and end.")
@click.option(
    "--plant",
    metavar="NAME",
    type=click.Choice(tuple(PLANTS)),
    help="Plant a bug; the run ends at the first seed that catches it.",
)
@json_option
def simulate(
    *,
    seeds: int,
    first: int,
    operations: int,
    seed: int | None,
    trace: bool,
    plants: bool,
    plant: str | None,
) -> None:
    """Run brokers and endpoints in virtual time under faults, and check what must never be.

    A seed decides everything, so the same one gives the same history: its digest says so. Exits
    1 if an invariant was broken, which with --plant is what must happen.
    """
    output = Output.current()
    if plants:
        _list_plants(output)
        return
    numbers = [seed] if seed is not None else range(first, first + seeds)
    clock, total = SystemClock(), Total()
    began = clock.monotonic()
    last: Result | None = None
    for number in numbers:
        last = run_one(
            Spec(seed=number, operations=operations, plant=PLANTS[plant] if plant else None)
        )
        total.add(last)
        if not output.as_json:
            _tell(last, output, always=seed is not None, trace=trace)
        if plant and last.violations:
            break
    took_s = clock.monotonic() - began
    if output.as_json:
        output.document(_document(total, last, took_s, alone=seed is not None, trace=trace))
    else:
        _summary(total, took_s, output)
    if total.broken:
        raise _broken(total, plant)


def _list_plants(output: Output) -> None:
    if output.as_json:
        items = [{"name": one.name, "says": one.says} for one in PLANTS.values()]
        output.document({"items": items, "next": None})
        return
    output.table(("plant", "the bug"), [(one.name, clean(one.says)) for one in PLANTS.values()])


def _broken(total: Total, plant: str | None) -> CommandError:
    worst = total.broken[0]
    names = sorted({one.invariant for result in total.broken for one in result.violations})
    seeds = ", ".join(str(result.spec.seed) for result in total.broken[:10])
    if plant is not None:
        return CommandError(
            f"The planted bug was caught in run {total.runs}, by {', '.join(names)}",
            detail=worst.violations[0].what,
            code="cli.simulation_broken",
        )
    return CommandError(
        f"{len(total.broken)} of {total.runs} runs broke {', '.join(names)}",
        detail=f"seeds {seeds}",
        advice=f"Replay one: trivium simulate --seed {worst.spec.seed} "
        f"--operations {worst.spec.operations} --trace",
        code="cli.simulation_broken",
    )


# ------------------------------------------------------------------------------- for people


def _tell(result: Result, output: Output, *, always: bool, trace: bool) -> None:
    """A run that broke, or the one that was asked for."""
    if always:
        output.fields(
            (
                ("seed", str(result.spec.seed)),
                ("digest", result.digest),
                ("brokers", str(result.processes)),
                ("virtual time", f"{result.virtual_s:.0f} s, {result.settled_s:.0f} s to settle"),
            )
        )
    for one in result.violations:
        output.out.print(
            f"[bold red]✗[/] seed {result.spec.seed} at {one.at_s:.3f} s: "
            f"[bold]{one.invariant}[/] {clean(SENTENCES[one.invariant])}: {clean(one.what)}"
        )
    if trace and (always or result.violations):
        for at_s, what, about in result.trace[-TRACE_LINES:]:
            output.out.print(f"[dim]{at_s:12.6f}[/] {clean(what)} {clean(about)}")


def _summary(total: Total, took_s: float, output: Output) -> None:
    _counts("operation", total.operations, output)
    _counts("fault", total.faults, output)
    output.fields(
        (
            ("runs", str(total.runs)),
            ("operations", f"{total.done:,}"),
            ("virtual time", f"{total.virtual_s / 3600:.1f} h"),
            ("real time", f"{took_s:.1f} s, {total.done / max(took_s, 0.001):,.0f} operations/s"),
            ("broken", str(len(total.broken))),
        )
    )


def _counts(title: str, counts: Mapping[str, int], output: Output) -> None:
    rows: Sequence[tuple[str, str]] = [
        (clean(kind), f"{count:,}")
        for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    output.table((title, "count"), rows, numbers=("count",))


# ----------------------------------------------------------------------------- for programs


def _document(
    total: Total, last: Result | None, took_s: float, *, alone: bool, trace: bool
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "runs": total.runs,
        "operations": total.done,
        "operations_by_kind": dict(sorted(total.operations.items())),
        "faults_by_kind": dict(sorted(total.faults.items())),
        "virtual_s": round(total.virtual_s, 3),
        "took_s": round(took_s, 3),
        "violations": [
            {
                "seed": result.spec.seed,
                "invariant": one.invariant,
                "says": SENTENCES[one.invariant],
                "at_s": one.at_s,
                "what": one.what,
            }
            for result in total.broken
            for one in result.violations
        ],
    }
    if alone and last is not None:
        document |= {"seed": last.spec.seed, "digest": last.digest, "brokers": last.processes}
        if trace:
            document["trace"] = [list(entry) for entry in last.trace]
    return document

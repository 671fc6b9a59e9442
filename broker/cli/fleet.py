"""`trivium fleet`: simulated endpoints against a broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.live import Live

from broker.cli.children import Child
from broker.cli.endpoint_choice import Place, choose, parse_mix, roster_places, shares
from broker.cli.fleet_process import FleetOptions, fleet_process, snapshot
from broker.cli.output import Output, json_option
from broker.cli.remote import Access, Remote, connected, remote_options
from broker.cli.signals import run_until_interrupted

MIX_DEFAULT: Mapping[str, int] = {"thin": 120, "idv": 90, "voi": 90}
"""of made-up endpoints, when nothing else is said"""
_OPTIONS = (
    click.option("--endpoints", type=click.IntRange(1, 100_000), help="How many."),
    click.option("--mix", help="How many of each: thin=130,idv=100,voi=90."),
    click.option("--made-up", is_flag=True, help="Names of its own, not the roster's."),
    click.option(
        "--speed",
        envvar="TRIVIUM_SPEED",
        default=1.0,
        type=click.FloatRange(min=0.001),
        help="Simulated steps run this many times faster (TRIVIUM_SPEED; 1).",
    ),
    click.option("--seed", default=0, show_default=True, help="For simulated steps."),
    click.option(
        "--warm",
        default=0.8,
        show_default=True,
        type=click.FloatRange(0, 1),
        help="Share of fat endpoints that have every image cached.",
    ),
    click.option(
        "--stale",
        default=0.0,
        show_default=True,
        type=click.FloatRange(0, 1),
        help="Share of those that have it one version behind.",
    ),
    click.option(
        "--ramp",
        "ramp_s",
        default=10.0,
        show_default=True,
        type=click.FloatRange(min=0),
        help="Seconds over which the first connections are spread.",
    ),
)


def _options(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@_options
@remote_options
@json_option
def fleet(access: Access, **given: Any) -> None:
    """Run simulated endpoints until interrupted: the roster's own, in its proportions.

    Keys are kept in the data directory: a later run comes back as the same endpoints. With --json
    every progress line of the fleet is passed on.
    """
    mix = parse_mix(given["mix"]) if given["mix"] else None
    run_until_interrupted(_run(access, mix, given))


async def _places(
    remote: Remote, mix: Mapping[str, int] | None, given: Mapping[str, Any]
) -> Sequence[Place] | Mapping[str, int]:
    known = [] if given["made_up"] else await roster_places(remote)
    if known:
        return choose(known, given["endpoints"], mix)
    wanted = dict(mix or MIX_DEFAULT)
    return shares(wanted, given["endpoints"]) if given["endpoints"] else wanted


async def _run(access: Access, mix: Mapping[str, int] | None, given: Mapping[str, Any]) -> None:
    async with connected(access) as remote:
        places = await _places(remote, mix, given)
        options = FleetOptions(
            data=access.data,
            speed=given["speed"],
            seed=given["seed"],
            warm=given["warm"],
            stale=given["stale"],
            ramp_s=given["ramp_s"],
        )
        async with fleet_process(remote, places, options) as process:
            await _follow(process, Output.current())


async def _follow(process: Child, output: Output) -> None:
    """Show its progress until it ends by itself, which is a failure."""
    if output.as_json:
        async for line in process.lines():
            click.echo(line.decode("utf-8", "replace").rstrip("\n"))
    else:
        console = output.err()
        with Live(console=console, auto_refresh=False, transient=True) as live:
            async for line in process.lines():
                found = snapshot(line)
                if found is None:
                    continue
                text = status(found)
                if console.is_terminal:
                    live.update(text, refresh=True)
                else:
                    console.print(text)
    await process.wait()
    raise process.failure("The fleet ended by itself")


def status(found: Mapping[str, Any]) -> str:
    """One progress line, as markup."""
    sessions = " ".join(f"{name} {count}" for name, count in found["sessions"].items())
    failed = sum(found["failures"].values())
    trouble = f"  [red]{failed} failed[/]" if failed else ""
    return (
        f"[green]{found['connected']}[/] of {found['endpoints']} endpoints online   "
        f"sessions {sessions}{trouble}   lost links {found['lost']}"
    )

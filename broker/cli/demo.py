"""`trivium demo`: a whole school at work, measured, and then served until interrupted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from broker.cli.campaigns import INTERRUPTED
from broker.cli.demo_run import Demo, DemoWishes
from broker.cli.examples import example
from broker.cli.output import Output, json_option
from broker.cli.ports import refuse_if_taken
from broker.cli.real_host import at, check
from broker.cli.settings import setting_options
from broker.cli.signals import run_until_interrupted
from broker.config import SETTINGS, load

DEFAULTS: Final[Mapping[str, str]] = {"speed": "8", "bytes_scale": "256"}
"""in place of the settings' own, so that 90 seconds show a school's morning"""


@click.command()
@click.option("--once", is_flag=True, help="End after the report: exit 0, or 1 if it is bad.")
@click.option(
    "--endpoints",
    default=300,
    show_default=True,
    type=click.IntRange(3, 320),
    help="How many of the school's endpoints come alive.",
)
@click.option(
    "--duration",
    "duration_s",
    default=90.0,
    show_default=True,
    type=click.FloatRange(min=10),
    help="Seconds that the campaign takes.",
)
@click.option(
    "--real",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="IMAGE",
    help="Add a pool of real machines, from this golden image (qcow2). Needs libvirt, QEMU, root.",
)
@setting_options
@json_option
@click.pass_context
def demo(
    context: click.Context,
    /,
    *,
    once: bool,
    endpoints: int,
    duration_s: float,
    real: Path | None,
    **flags: str | None,
) -> None:
    """Show everything: a broker, a school of 2,000 people, its endpoints, a measured morning.

    Starts a broker on the data directory, imports examples/school, starts endpoints, runs a
    campaign, prints how VDI, IDV and VOI compare, and serves until Ctrl-C. A second run takes up
    where the first left off. Simulated steps run 8 times faster and images are 256 times smaller
    than in life unless TRIVIUM_SPEED and TRIVIUM_BYTES_SCALE say otherwise. --seed makes another
    morning. With --real, two real machines can be worked on in the browser after the report.
    """
    settings = _with_defaults(flags)
    config = load(os.environ, settings)
    if real is not None:
        check(at(config.data).socket)
    refuse_if_taken(config.listen)
    wishes = DemoWishes(
        config=config,
        env={
            setting.env: text
            for setting in SETTINGS
            if (text := settings.get(setting.name)) is not None
        },
        roster=example("school"),
        endpoints=endpoints,
        duration_s=duration_s,
        once=once,
        real=real,
    )
    demo_ = Demo(wishes, Output.current())
    ended = run_until_interrupted(demo_.run())
    if not once:
        return
    if ended is None:
        context.exit(INTERRUPTED)
    if not ended.good:
        context.exit(1)


def _with_defaults(flags: Mapping[str, str | None]) -> dict[str, str | None]:
    """The flags, and the demo's own defaults where neither flag nor variable says anything."""
    found = dict(flags)
    for setting in SETTINGS:
        said = found.get(setting.name) is not None or os.environ.get(setting.env)
        if setting.name in DEFAULTS and not said:
            found[setting.name] = DEFAULTS[setting.name]
    return found

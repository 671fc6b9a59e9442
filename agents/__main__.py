"""`trivium-agent run`: one endpoint. `trivium-agent fleet`: thousands in this process."""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from agents import __version__, limits, roster, tally
from agents.calibration import CalibrationError, read_figures, shipped
from agents.fleet import Fleet, FleetError, Settings
from agents.model import Figures, Model
from agents.roster import RosterError
from agents.state import StateError
from agents.system import RealSystem

_EXIT_REFUSED = 1
_EXIT_USAGE = 2
_MINUTE_S = 60.0


class UnusableError(click.ClickException):
    """What was asked for cannot be done; nothing was begun."""

    exit_code = _EXIT_USAGE


_COMMON: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--url",
        envvar="TRIVIUM_URL",
        default="http://127.0.0.1:8080",
        show_default=True,
        help="The broker's address, http or https.",
    ),
    click.option(
        "--ca",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Certificates to trust, PEM, in place of the system's.",
    ),
    click.option(
        "--calibration",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Figures for simulated steps; default: the ones shipped.",
    ),
    click.option(
        "--speed",
        envvar="TRIVIUM_SPEED",
        type=click.FloatRange(min=0, min_open=True),
        default=1.0,
        show_default=True,
        help="Divide the length of simulated steps by this; real ones take what they take.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="For simulated steps."),
    click.option("--json", "as_json", is_flag=True, help="Progress as JSON lines on stdout."),
    click.option("--verbose", "-v", count=True, help="Tell more; twice for everything."),
)


def _common(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_COMMON):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trivium-agent")
def main() -> None:
    """The programs on endpoints: they carry people's desktops for the broker."""


@main.command()
@_common
@click.option("--name", required=True, help="The endpoint's name, as the roster has it.")
@click.option("--kind", type=click.Choice(["thin", "fat"]), required=True)
@click.option("--location", default="", help="Where it stands.")
@click.option(
    "--token",
    envvar="TRIVIUM_ENROL_TOKEN",
    help="One-use enrolment token; needed once. Better given by the environment.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("var/agent.json"),
    show_default=True,
    help="Where the endpoint keeps its key and identity.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for image segments (IDV); without it they are fetched and dropped.",
)
def run(**given: Any) -> None:
    """Run one endpoint until interrupted."""
    settings = Settings(
        url=given["url"],
        places=(roster.Place(name=given["name"], kind=given["kind"], location=given["location"]),),
        tokens=(given["token"],) if given["token"] else (),
        state=given["state"],
        cache=given["cache"],
        every_s=_MINUTE_S if given["as_json"] else 0.0,
        **_settings(given, answers=False),
    )
    _run(settings, as_json=given["as_json"], quiet=not given["as_json"], level=given["verbose"] + 1)


@main.command()
@_common
@click.option("--endpoints", type=click.IntRange(1, limits.ENDPOINTS_MAX), help="How many.")
@click.option("--mix", help="How many of each, for example thin=120,idv=90,voi=90.")
@click.option(
    "--names",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON lines {"name", "kind", "location"} to be, so that a roster\'s endpoints come alive.',
)
@click.option(
    "--tokens",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Enrolment tokens, one a line; needed for endpoints that are new.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("var/fleet.json"),
    show_default=True,
    help="Where the fleet keeps keys and identities.",
)
@click.option(
    "--warm",
    type=click.FloatRange(0, 1),
    default=0.8,
    show_default=True,
    help="Share of fat endpoints that have every image in their cache.",
)
@click.option(
    "--stale",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of those that have it one version behind.",
)
@click.option(
    "--ramp",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Spread the first connections over this many seconds.",
)
@click.option(
    "--every",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Seconds between two progress lines; 0 for only the last.",
)
def fleet(**given: Any) -> None:
    """Run many endpoints, thin and fat, until interrupted. A later run takes up their identities
    from the state file."""
    try:
        places = _places(given["names"], given["mix"], given["endpoints"])
        tokens = roster.read_tokens(given["tokens"]) if given["tokens"] is not None else []
    except RosterError as error:
        raise UnusableError(str(error)) from error
    settings = Settings(
        url=given["url"],
        places=places,
        tokens=tokens,
        state=given["state"],
        ramp_s=given["ramp"],
        warm=given["warm"],
        stale=given["stale"],
        every_s=given["every"],
        **_settings(given),
    )
    _run(settings, as_json=given["as_json"], quiet=False, level=given["verbose"])


def _places(names: Path | None, mix: str | None, endpoints: int | None) -> list[roster.Place]:
    """Who the fleet is. Raises RosterError."""
    parsed = None if mix is None else roster.parse_mix(mix)
    if names is not None:
        if parsed is not None and endpoints is not None:
            parsed = roster.scale(parsed, endpoints)
        return roster.choose(roster.read_names(names), parsed, endpoints)
    if parsed is None:
        parsed = dict(roster.DEFAULT_MIX)
    if endpoints is not None:
        parsed = roster.scale(parsed, endpoints)
    return roster.made_up(parsed)


def _settings(given: dict[str, Any], *, answers: bool = True) -> dict[str, Any]:
    """The settings that both commands share."""
    path = given["calibration"] or shipped()
    try:
        figures = Figures() if path is None else read_figures(path)
        ca = None if given["ca"] is None else ssl.create_default_context(cafile=given["ca"])
    except CalibrationError as error:
        raise UnusableError(str(error)) from error
    except ssl.SSLError as error:
        raise UnusableError(
            f"{given['ca']} holds no certificates that can be used: {error.reason}"
        ) from error
    return {
        "model": Model(figures=figures, speed=given["speed"], answers=answers),
        "seed": given["seed"],
        "ca": ca,
    }


def _run(settings: Settings, *, as_json: bool, quiet: bool, level: int) -> None:
    levels = (logging.ERROR, logging.INFO, logging.DEBUG)
    logging.basicConfig(
        stream=sys.stderr,
        level=levels[min(level, len(levels) - 1)],
        format="%(asctime)s %(levelname)s %(message)s",
    )

    def tell(snapshot: tally.Snapshot) -> None:
        with suppress(BrokenPipeError):  # whoever read the progress has gone
            if as_json:
                click.echo(msgspec.json.encode(snapshot).decode())
            elif not quiet:
                click.echo(tally.line(snapshot))

    async def run_fleet() -> Fleet:
        made = Fleet(settings, RealSystem(), tell=tell)
        await made.run()
        return made

    try:
        ended = asyncio.run(run_fleet())
    except (StateError, FleetError) as error:
        raise UnusableError(str(error)) from error
    if ended.finals and len(ended.finals) == len(settings.places):
        name, finish = ended.finals[0]
        click.echo(f"{name} was refused for good: {finish.code} {finish.detail}", err=True)
        if len(ended.finals) > 1:
            click.echo(f"and so were {len(ended.finals) - 1} others", err=True)
        sys.exit(_EXIT_REFUSED)


if __name__ == "__main__":
    main()

"""`trivium campaign cast`: who may take part, for Locust started by hand or on other machines."""

from __future__ import annotations

from typing import Any, Final

import click

from broker.cli.casting import CastWishes, find_cast, write_cast
from broker.cli.errors import CommandError
from broker.cli.output import Output, json_option
from broker.cli.remote import Access, Remote, connected, remote_options
from broker.cli.signals import run_until_interrupted
from broker.domain.model import EndpointState
from broker.ports import Clock
from broker.system import SystemClock, SystemIds

LOOK_S: Final = 1.0
"""between two looks at how many endpoints are online"""


@click.command()
@click.option(
    "--endpoints",
    default=0,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="Wait until so many are online.",
)
@click.option(
    "--wait",
    "wait_s",
    default=120.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="For them, seconds.",
)
@click.option("--people", default=400, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option(
    "--speed",
    envvar="TRIVIUM_SPEED",
    default=1.0,
    type=click.FloatRange(min=1),
    help="How the broker and the fleet run (TRIVIUM_SPEED; 1).",
)
@click.option(
    "--bytes-scale",
    envvar="TRIVIUM_BYTES_SCALE",
    default=1.0,
    type=click.FloatRange(min=1),
    help="Likewise (TRIVIUM_BYTES_SCALE; 1).",
)
@click.option(
    "--set-passwords",
    is_flag=True,
    help="Agree that plain users taking part get new, made-up passwords.",
)
@remote_options
@json_option
@click.pass_context
def cast(context: click.Context, /, access: Access, *, set_passwords: bool, **given: Any) -> None:
    """Write the file that `python -m loadtests run --cast` reads, and print its path.

    It holds passwords and an administrator's token: only its owner may read it.
    """
    if not set_passwords:
        click.confirm(
            "This gives the plain users who take part new passwords. Go on?", abort=True, err=True
        )
    if run_until_interrupted(_cast(access, given)) is None:
        context.exit(130)


async def _cast(access: Access, given: dict[str, Any]) -> bool:
    output = Output.current()
    async with connected(access) as remote:
        await wait_for_endpoints(remote, given["endpoints"], given["wait_s"], SystemClock())
        wishes = CastWishes(
            people=given["people"],
            seed=given["seed"],
            speed=given["speed"],
            bytes_scale=given["bytes_scale"],
        )
        found = await find_cast(remote, wishes)
        file = await write_cast(remote, access, found, wishes, SystemIds(), _untold)
    if output.as_json:
        output.document(
            {"cast": str(file), "people": len(found.people), "endpoints": len(found.endpoints)}
        )
    else:
        click.echo(file)
    return True


def _untold(what: str, done: int, total: int) -> None:
    """Nothing is shown while passwords are set."""


async def wait_for_endpoints(remote: Remote, count: int, wait_s: float, clock: Clock) -> None:
    """Return once `count` endpoints are online.

    Raises:
        CommandError: after `wait_s` seconds there are still fewer.
    """
    give_up_at = clock.monotonic() + wait_s
    while count:
        kinds = (await remote.get("overview"))["endpoints"].values()
        online = sum(states.get(EndpointState.ONLINE.value, 0) for states in kinds)
        if online >= count:
            return
        if clock.monotonic() >= give_up_at:
            raise CommandError(
                "Too few endpoints are online",
                detail=f"{online} of {count} after {wait_s:g} s",
                advice="Start a fleet: `trivium fleet`.",
                code="cli.too_few_online",
            )
        await clock.sleep(LOOK_S)

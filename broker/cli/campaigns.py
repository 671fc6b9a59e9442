"""`trivium campaign`: past measurements, and a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from broker.cli.campaign_process import (
    PROFILES,
    CampaignWishes,
    Outcome,
    Progress,
    run_campaign,
)
from broker.cli.cast import cast
from broker.cli.casting import CastWishes, find_cast, room, write_cast
from broker.cli.comparison import show_comparison, summary
from broker.cli.output import Output, clean, json_option, short_path, state, when
from broker.cli.remote import Access, Remote, ask, connected, path_of, remote_options
from broker.cli.signals import run_until_interrupted
from broker.cli.steps import Step, Steps
from broker.system import SystemClock, SystemIds

INTERRUPTED = 130


@click.group()
def campaign() -> None:
    """Measure VDI, IDV and VOI under load."""


campaign.add_command(cast)


@campaign.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100_000))
@remote_options
@json_option
def list_(access: Access, limit: int) -> None:
    """List campaigns, newest first."""

    async def read(remote: Remote) -> dict[str, Any]:
        return await remote.page("campaigns", limit=limit)

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("campaign", "name", "seed", "state", "verdict", "started", "plan"),
        [
            (
                clean(one["id"]),
                clean(one["name"]),
                clean(one["seed"]),
                state(one["state"]),
                state(one["verdict"]),
                when(one["started_at"]),
                clean(one["plan_sha256"])[:12],
            )
            for one in found["items"]
        ],
        numbers=("seed",),
    )
    output.more(found, limit)


@campaign.command()
@click.argument("campaign_id")
@remote_options
@json_option
def show(access: Access, campaign_id: str) -> None:
    """Show one campaign and its comparison."""

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get(path_of("campaigns", campaign_id))
        return found

    one = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(one)
        return
    output.fields(
        (
            ("campaign", clean(one["id"])),
            ("name", clean(one["name"])),
            ("seed", clean(one["seed"])),
            ("plan", clean(one["plan_sha256"])),
            ("state", state(one["state"])),
            ("started", when(one["started_at"])),
            ("finished", when(one.get("finished_at"))),
            ("report", clean(one["report_path"])),
        )
    )
    if one.get("summary"):
        show_comparison(one["summary"], output)


@campaign.command()
@click.option(
    "--profile",
    default="demo",
    show_default=True,
    type=click.Choice(list(PROFILES)),
    help="; ".join(f"{name}: {profile.says}" for name, profile in PROFILES.items()) + ".",
)
@click.option("--name", help="What to call it; the profile's name by default.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option(
    "--duration",
    "duration_s",
    default=90.0,
    show_default=True,
    type=click.FloatRange(min=10),
    help="Seconds, about.",
)
@click.option("--sessions", type=click.IntRange(1), help="Arrivals; the profile's by default.")
@click.option("--people", default=400, show_default=True, type=click.IntRange(1, 100_000))
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Locust processes."
)
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
def run(context: click.Context, /, access: Access, *, set_passwords: bool, **given: Any) -> None:
    """Run a campaign against the broker and its live endpoints, and print the comparison.

    The people who take part sign in with passwords that this command makes up and keeps in the
    data directory: for an installation whose people have passwords of their own, use users made
    for it. Exit code 1 when the verdict is bad.
    """
    if not set_passwords:
        click.confirm(
            "This gives the plain users who take part new passwords. Go on?", abort=True, err=True
        )
    outcome = run_until_interrupted(_run(access, given))
    if outcome is None:
        context.exit(INTERRUPTED)
    tell_outcome(outcome, Output.current())
    if not outcome.good:
        context.exit(1)


async def _run(access: Access, given: dict[str, Any]) -> Outcome:
    steps = Steps(Output.current(), SystemClock())
    async with connected(access) as remote:
        with steps.shown():
            wishes = CastWishes(
                people=given["people"],
                seed=given["seed"],
                speed=given["speed"],
                bytes_scale=given["bytes_scale"],
            )
            measured = CampaignWishes(
                name=given["name"] or given["profile"],
                profile=given["profile"],
                seed=given["seed"],
                duration_s=given["duration_s"],
                sessions=given["sessions"],
                workers=given["workers"],
                command=_command(given),
            )
            return await cast_and_run(remote, access, wishes, measured, steps)


def _command(given: dict[str, Any]) -> str:
    """How this campaign is run again, for its report."""
    words = ["trivium campaign run", f"--profile {given['profile']}", f"--seed {given['seed']}"]
    words.append(f"--duration {given['duration_s']:g} --people {given['people']}")
    if given["sessions"] is not None:
        words.append(f"--sessions {given['sessions']}")
    return " ".join(words)


async def cast_and_run(
    remote: Remote, access: Access, wishes: CastWishes, measured: CampaignWishes, steps: Steps
) -> Outcome:
    """Find the people, give them passwords, run the campaign: two steps on the screen."""
    with steps.step("people") as step:
        found = await find_cast(remote, wishes)

        def told(what: str, done: int, total: int) -> None:
            if total:
                step.note(f"{what} {done} of {total}", done=done, total=total)

        file = await write_cast(remote, access, found, wishes, SystemIds(), told)
        step.end(
            f"{len(found.people):,} take part, {len(found.endpoints):,} endpoints, "
            f"{len(found.pools)} pools"
        )
    if measured.sessions is None:
        seated = min(measured.arrivals, room(found, measured.window_s))
        measured = replace(measured, sessions=seated)
    with steps.step("campaign") as step:
        outcome = await run_campaign(
            remote, access, file, measured, SystemClock().now(), lambda told: _note(step, told)
        )
        step.end(
            f"{measured.name}, seed {measured.seed}, plan {outcome.report['plan_sha256'][:12]}",
            good=outcome.good,
        )
    return outcome


def _note(step: Step, told: Progress) -> None:
    if told.total_s:
        done = min(told.elapsed_s, told.total_s)
        step.note(told.text, done=done, total=told.total_s)
    else:
        step.note(told.text)


def tell_outcome(outcome: Outcome, output: Output, more: Sequence[tuple[str, str]] = ()) -> None:
    """The comparison, the report's path and `more` fields; with --json the report itself."""
    if output.as_json:
        output.document(
            {**outcome.report, "campaign_id": outcome.campaign_id, "report": str(outcome.html)}
        )
        return
    show_comparison(summary(outcome.report), output, outcome.report.get("reasons", ()))
    output.out.print()
    output.fields([("report", clean(short_path(outcome.latest))), *more])

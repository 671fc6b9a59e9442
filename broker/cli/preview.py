"""`trivium preview`: what a person can do now, for the help desk."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.output import Output, clean, json_option, name_of, state, when
from broker.cli.remote import Access, Remote, ask, path_of, remote_options


@click.command()
@click.argument("user")
@click.option("--endpoint", help="As if asked at this endpoint.")
@click.option("--address", help="As if asked from this IP address.")
@click.option("--at", help="Rules and schedules as of this time: 2026-11-21T08:00:00+01:00.")
@click.option("--rules", "with_rules", is_flag=True, help="Every rule looked at, one by one.")
@remote_options
@json_option
def preview(
    access: Access,
    user: str,
    *,
    endpoint: str | None,
    address: str | None,
    at: str | None,
    with_rules: bool,
) -> None:
    """What this person can do now in each pool, and why; by user name or id."""
    given = {"endpoint": endpoint, "address": address, "at": at}
    asked = {name: value for name, value in given.items() if value}

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get(path_of("users", user, "preview"), **asked)
        return found

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    where = f" at {name_of(found['endpoint'])}" if found["endpoint"] else ""
    origin = f" from {clean(found['address'])}" if found["address"] else ""
    output.say(f"{name_of(found['user'])}{where}{origin}, {when(found['at'], zone=True)}")
    if not found["enabled"]:
        output.say("[yellow]the account is disabled: nobody signs in with it[/]")
    output.table(("pool", "", "now", "quotas", "why"), [_row(one) for one in found["pools"]])
    if with_rules:
        output.table(
            ("pool", "rule", "", "why"),
            [
                (
                    name_of(one["pool"]),
                    name_of(reason["rule"]),
                    "applies" if reason["applies"] else "[dim]does not apply[/]",
                    clean(reason["text"]),
                )
                for one in found["pools"]
                for reason in one["reasons"]
            ],
        )


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        name_of(one["pool"]),
        "[green]yes[/]" if one["may"] else "[bold red]no[/]",
        _now(one),
        ", ".join(
            f"{clean(use['name'])} {use['used']}/{use['sessions_max']}" for use in one["quotas"]
        ),
        clean(one["why"]),
    )


def _now(one: dict[str, Any]) -> str:
    if one["session"]:
        return f"has one, {state(one['session']['state'])}"
    if not one["may"]:
        return ""
    if not one["place"]:
        return "a desktop at once"
    about = f", about {one['wait_s']} s" if one["wait_s"] is not None else ""
    return f"place {one['place']} in the queue{about}"

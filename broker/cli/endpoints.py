"""`trivium endpoint`: the devices at people's desks."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.errors import CommandError
from broker.cli.fleet_process import enrolment_tokens
from broker.cli.output import Output, clean, json_option, listed, state, when
from broker.cli.remote import Access, Remote, ask, path_of, remote_options
from broker.domain.errors import NotFoundError
from broker.domain.model import EndpointKind, EndpointState
from broker.limits import ENROLMENT_S


@click.group()
def endpoint() -> None:
    """Look at endpoints and retire them."""


@endpoint.command("list")
@click.option("--state", "in_state", type=click.Choice([one.value for one in EndpointState]))
@click.option("--kind", type=click.Choice([one.value for one in EndpointKind]))
@click.option("--text", help="Part of the name.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@remote_options
@json_option
def list_(
    access: Access, in_state: str | None, kind: str | None, text: str | None, limit: int
) -> None:
    """List endpoints by name."""
    wanted = {"state": in_state, "kind": kind, "text": text}
    asked = {name: value for name, value in wanted.items() if value}

    async def read(remote: Remote) -> dict[str, Any]:
        return await remote.page("endpoints", limit=limit, **asked)

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("endpoint", "kind", "state", "location", "pools", "agent", "last seen"),
        [
            (
                clean(one["name"]),
                clean(one["kind"]),
                state(one["state"]),
                clean(one["location"]),
                listed(one["pools"]),
                clean(one["agent_version"]),
                when(one.get("last_seen_at")),
            )
            for one in found["items"]
        ],
    )
    output.more(found, limit)


async def _id_of(remote: Remote, name: str) -> str:
    """The id of the endpoint of that name, or the id itself."""
    async for one in remote.every("endpoints", text=name):
        if one["name"] == name:
            return str(one["id"])
    try:
        return str((await remote.get(path_of("endpoints", name)))["id"])
    except CommandError as error:
        if error.code != NotFoundError.code:
            raise
        raise CommandError(
            error.title,
            detail=f"there is no endpoint {name!r}",
            advice="`trivium endpoint list` shows the names.",
            code=error.code,
            request_id=error.request_id,
        ) from None


def _show(one: dict[str, Any]) -> None:
    output = Output.current()
    if output.as_json:
        output.document(one)
        return
    output.fields(
        (
            ("endpoint", clean(one["name"])),
            ("kind", clean(one["kind"])),
            ("state", state(one["state"])),
            ("location", clean(one["location"])),
            ("pools", listed(one["pools"], most=1000)),
            ("agent", clean(one["agent_version"])),
            ("last seen", when(one.get("last_seen_at"))),
            ("created", when(one.get("created_at"))),
            ("id", clean(one["id"])),
        )
    )


@endpoint.command()
@click.argument("name")
@remote_options
@json_option
def show(access: Access, name: str) -> None:
    """Show one endpoint, by name or id."""

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get(path_of("endpoints", await _id_of(remote, name)))
        return found

    _show(ask(access, read))


@endpoint.command()
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 10_000))
@remote_options
@json_option
def tokens(access: Access, count: int) -> None:
    """Make one-use enrolment tokens for new endpoints, one a line."""

    async def make(remote: Remote) -> list[str]:
        return await enrolment_tokens(remote, count)

    made = ask(access, make)
    output = Output.current()
    if output.as_json:
        output.document({"tokens": made})
        return
    for one in made:
        click.echo(one)
    output.say(f"[dim]each enrols one endpoint, within {ENROLMENT_S // 60} minutes[/]")


@endpoint.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote_options
@json_option
def retire(access: Access, name: str, *, yes: bool) -> None:
    """Refuse an endpoint for good; its key stops working."""
    if not yes:
        click.confirm(f"Retire {name} for good?", abort=True, err=True)

    async def write(remote: Remote) -> dict[str, Any]:
        where = path_of("endpoints", await _id_of(remote, name), "retire")
        found: dict[str, Any] = await remote.post(where)
        return found

    _show(ask(access, write))

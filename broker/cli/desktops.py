"""`trivium desktop`: the machines and places that sessions run on."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.desktop_choice import find_desktop
from broker.cli.explanations import explain, why_options
from broker.cli.hosts import find_host
from broker.cli.image_choice import find_image, made_from
from broker.cli.output import Output, clean, json_option, logged_on, name_of, state, when
from broker.cli.remote import Access, Remote, ask, path_of, remote_options
from broker.cli.snapshots import snapshot
from broker.domain.model import Architecture, DesktopState


@click.group()
def desktop() -> None:
    """Look at desktops, why each is as it is, and give, restart, move, renew or remove them."""


desktop.add_command(snapshot)


@desktop.command("list")
@click.option("--state", "in_state", type=click.Choice([one.value for one in DesktopState]))
@click.option("--architecture", type=click.Choice([one.value for one in Architecture]))
@click.option("--pool", "pool_name", help="Only this pool's, by name or id.")
@click.option("--host", "host_name", help="Only on this host, by name or id.")
@click.option("--image", "image_name", metavar="NAME@VERSION", help="Only those made from it.")
@click.option("--text", help="Part of the name; desktops of endpoints bear the endpoint's.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@remote_options
@json_option
def list_(
    access: Access,
    *,
    in_state: str | None,
    architecture: str | None,
    pool_name: str | None,
    host_name: str | None,
    image_name: str | None,
    text: str | None,
    limit: int,
) -> None:
    """List desktops by name."""
    wanted = {"state": in_state, "architecture": architecture, "text": text}
    asked = {name: value for name, value in wanted.items() if value}

    async def read(remote: Remote) -> dict[str, Any]:
        if pool_name:
            asked["pool_id"] = (await remote.get(path_of("pools", pool_name)))["id"]
        if host_name:
            asked["host_id"] = (await find_host(remote, host_name))["id"]
        if image_name:
            asked["image_id"] = (await find_image(remote, image_name))["id"]
        return await remote.page("desktops", limit=limit, **asked)

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("desktop", "pool", "kind", "state", "on", "image", "generation", "changed", "note"),
        [
            (
                clean(one["name"]),
                name_of(one["pool"]),
                clean(one["architecture"]).upper(),
                _state(one),
                name_of(one["host"] or one["endpoint"]),
                made_from(one),
                clean(one["generation"]),
                when(one["changed_at"]),
                clean(one["note"]),
            )
            for one in found["items"]
        ],
        numbers=("generation",),
    )
    output.more(found, limit)


def _state(one: dict[str, Any]) -> str:
    """Where it is, and where it is going."""
    target = f" → {clean(one['target'])}" if one["target"] else ""
    return state(one["state"]) + target


def _host(one: dict[str, Any]) -> str:
    """Where it runs, and where it moves to."""
    to = one.get("moving_to")
    return name_of(one["host"]) + (f" → {name_of(to)}" if to else "")


@desktop.command()
@click.argument("name")
@remote_options
@json_option
def show(access: Access, name: str) -> None:
    """Show one desktop, by name or id."""

    async def read(remote: Remote) -> dict[str, Any]:
        return await find_desktop(remote, name)

    _show(ask(access, read))


def _show(one: dict[str, Any]) -> None:
    output = Output.current()
    if output.as_json:
        output.document(one)
        return
    resources = one["resources"]
    output.fields(
        (
            ("desktop", clean(one["name"])),
            ("pool", f"{name_of(one['pool'])} ({clean(one['architecture']).upper()})"),
            ("owner", clean((one["owner"] or {}).get("username"))),
            ("state", _state(one)),
            ("note", clean(one["note"])),
            ("host", _host(one)),
            ("endpoint", name_of(one["endpoint"])),
            ("image", made_from(one, whole=True)),
            ("generation", clean(one["generation"])),
            ("logged on", logged_on(one.get("guest"))),
            ("addresses", clean(", ".join((one.get("guest") or {}).get("addresses", ())))),
            ("gets", f"{resources['cpus']:g} CPUs, {resources['memory_mib']:,} MiB"),
            ("deadline", when(one["deadline_at"])),
            ("created", when(one["created_at"])),
            ("changed", when(one["changed_at"])),
            ("id", clean(one["id"])),
        )
    )


@desktop.command()
@click.argument("name")
@why_options
def why(access: Access, name: str, limit: int) -> None:
    """Why this desktop, by name or id, is as it is; newest first."""
    explain(access, "desktops", name, limit, find_desktop)


@desktop.command()
@click.argument("name")
@remote_options
@json_option
def drift(access: Access, name: str) -> None:
    """How the machine of this desktop differs from what it should be, as of now."""

    async def read(remote: Remote) -> dict[str, Any]:
        where = path_of("desktops", (await find_desktop(remote, name))["id"], "drift")
        found: dict[str, Any] = await remote.get(where)
        return found

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
    elif not found["differences"]:
        output.fields((("machine", "as it should be"),))
    else:
        output.table(
            ("what", "is", "should be"),
            [
                (clean(one["what"]), clean(one["found"]), clean(one["wanted"]))
                for one in found["differences"]
            ],
        )


def _change(access: Access, name: str, verb: str, body: dict[str, Any] | None = None) -> None:
    async def write(remote: Remote) -> dict[str, Any]:
        where = path_of("desktops", (await find_desktop(remote, name))["id"])
        wanted = remote.delete(where) if verb == "delete" else remote.post(f"{where}/{verb}", body)
        return dict(await wanted)

    _show(ask(access, write))


def _confirm(question: str, *, yes: bool) -> None:
    if not yes:
        click.confirm(question, abort=True, err=True)


@desktop.command()
@click.argument("name")
@click.argument("username")
@remote_options
@json_option
def assign(access: Access, name: str, username: str) -> None:
    """Give a free desktop of a dedicated pool to somebody for good."""
    _change(access, name, "assign", {"user": username})


@desktop.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote_options
@json_option
def unassign(access: Access, name: str, *, yes: bool) -> None:
    """Take a desktop from its owner; it is made fresh, and what lies in it is gone."""
    _confirm(f"Take {name} from its owner? What lies in it is gone", yes=yes)
    _change(access, name, "unassign")


@desktop.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote_options
@json_option
def reset(access: Access, name: str, *, yes: bool) -> None:
    """Make a desktop fresh; whose it is stays, what lies in it is gone."""
    _confirm(f"Make {name} fresh? What lies in it is gone", yes=yes)
    _change(access, name, "reset")


@desktop.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote_options
@json_option
def restart(access: Access, name: str, *, yes: bool) -> None:
    """Switch a desktop off and on again; its disk and its session stay."""
    _confirm(f"Restart {name}? What is open in it and not saved is gone", yes=yes)
    _change(access, name, "restart")


@desktop.command()
@click.argument("name")
@click.argument("host")
@remote_options
@json_option
def move(access: Access, name: str, host: str) -> None:
    """Move a desktop that runs to another host, whoever works in it."""
    _change(access, name, "move", {"host": host})


@desktop.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote_options
@json_option
def delete(access: Access, name: str, *, yes: bool) -> None:
    """Remove a desktop on a host, with what lies in it."""
    _confirm(f"Remove {name}? What lies in it is gone", yes=yes)
    _change(access, name, "delete")

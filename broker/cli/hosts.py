"""`trivium host`: servers that run VDI desktops, their load, and taking them out of service."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.assignments import assigned, flat, value_of
from broker.cli.errors import CommandError
from broker.cli.explanations import explain, why_options
from broker.cli.host_checks import capabilities, check, condition, show_check
from broker.cli.output import Output, clean, json_option, state
from broker.cli.remote import Access, Remote, ask, path_of, remote_options
from broker.domain.errors import NotFoundError


@click.group()
def host() -> None:
    """Look at hosts, add and drain them, and change their settings and how they are reached."""


host.add_command(capabilities)
host.add_command(condition)
host.add_command(check)


@host.command("list")
@remote_options
@json_option
def list_(access: Access) -> None:
    """List every host with what is given out of it."""

    async def read(remote: Remote) -> dict[str, Any]:
        return {"items": [one async for one in remote.every("hosts")], "next": None}

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("host", "state", "engine", "CPUs given", "memory given", "starting"),
        [_row(one) for one in found["items"]],
        numbers=("CPUs given", "memory given", "starting"),
    )


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    used, capacity, silent = one["used"], one["capacity"], one.get("silent")
    return (
        clean(one["name"]),
        state(one["state"]) + (f", silent since {clean(silent['since'])}" if silent else ""),
        f"{clean(one['engine'])} {clean(one['profile'])}",
        f"{used['cpus']:g} of {capacity['cpus'] * one['overcommit_cpu']:g}",
        f"{used['memory_mib']:,} of {capacity['memory_mib']:,} MiB",
        f"{one['starting']} of {one['start_limit']}",
    )


def amounts(used: float, capacity: float) -> str:
    """What is given of what there is, whole however large: memory is told in MiB."""
    return f"{used:,.15g} of {capacity:,.15g}"


def _show(one: dict[str, Any]) -> None:
    output = Output.current()
    if output.as_json:
        output.document(one)
        return
    used, capacity, silent = one["used"], one["capacity"], one.get("silent")
    output.fields(
        (
            ("host", clean(one["name"])),
            ("state", state(one["state"])),
            ("silent since", clean(silent["since"]) if silent else ""),
            ("silent because", clean(silent["why"]) if silent else ""),
            ("note", clean(one.get("note"))),
            ("engine", f"{clean(one['engine'])} {clean(one['profile'])}"),
            *((f"{name} given", amounts(used[name], capacity[name])) for name in capacity),
            ("CPU overcommit", f"{one['overcommit_cpu']:g}"),
            ("starting", f"{one['starting']} of {one['start_limit']}"),
            *((name, clean(text)) for name, text in flat(one.get("settings") or {})),
            ("revision", str(one.get("revision", ""))),
            ("id", clean(one["id"])),
        )
    )


def _patch(access: Access, name: str, body: dict[str, Any]) -> None:
    async def write(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.patch(path_of("hosts", name), body)
        return found

    _show(ask(access, write))


async def find_host(remote: Remote, name: str) -> dict[str, Any]:
    """The host of that name or id. Raises CommandError."""
    async for one in remote.every("hosts"):
        if name in {one["id"], one["name"]}:
            return dict(one)
    raise CommandError(
        NotFoundError.title,
        detail=f"there is no host {name!r}",
        advice="`trivium host list` shows the names.",
        code=NotFoundError.code,
    )


@host.command()
@click.argument("name")
@remote_options
@json_option
def show(access: Access, name: str) -> None:
    """Show one host, by name or id."""

    async def read(remote: Remote) -> dict[str, Any]:
        return await find_host(remote, name)

    _show(ask(access, read))


@host.command()
@click.argument("name")
@why_options
def why(access: Access, name: str, limit: int) -> None:
    """What was decided about this host, by name or id, and why; newest first."""
    explain(access, "hosts", name, limit)


@host.command()
@click.argument("name")
@remote_options
@json_option
def drain(access: Access, name: str) -> None:
    """Give the host nothing new; the desktops it has stay until they are released."""
    _patch(access, name, {"state": "draining"})


@host.command()
@click.argument("name")
@remote_options
@json_option
def maintenance(access: Access, name: str) -> None:
    """Empty the host for work on it: idle desktops leave, others migrate where that is possible."""
    _patch(access, name, {"state": "maintenance"})


@host.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote_options
@json_option
def lost(access: Access, name: str, yes: bool) -> None:  # noqa: FBT001 - click gives it so
    """Declare the host lost: sessions on it end, and its desktops are made anew elsewhere."""
    _confirm(f"Declare {name} lost? Every session on it ends", yes=yes)
    _patch(access, name, {"state": "down"})


@host.command()
@click.argument("name")
@click.argument("wish", type=click.Choice(["on", "off"]), metavar="on|off")
@click.option("--yes", is_flag=True, help="Do not ask before switching off.")
@remote_options
@json_option
def power(access: Access, name: str, wish: str, yes: bool) -> None:  # noqa: FBT001 - as above
    """Switch the host on or off; off only while no machine runs on it."""
    if wish == "off":
        _confirm(f"Switch {name} off?", yes=yes)

    async def write(remote: Remote) -> dict[str, Any]:
        where = f"{path_of('hosts', name)}/power"
        found: dict[str, Any] = await remote.post(where, {"on": wish == "on"})
        return found

    _show(ask(access, write))


@host.command()
@click.argument("name")
@click.option("--give-up", is_flag=True, help="Also desktops in which their owners' work lies.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote_options
@json_option
def retire(access: Access, name: str, *, give_up: bool, yes: bool) -> None:
    """Take out a host that is down or off, or empty under maintenance: it gives up its
    machines. Its name stays taken; `trivium host open` puts it back."""
    more = " and the work that lies in its desktops" if give_up else ""
    _confirm(f"Retire {name}? It gives up its machines{more}", yes=yes)

    async def write(remote: Remote) -> dict[str, Any]:
        where = f"{path_of('hosts', name)}/retire"
        found: dict[str, Any] = await remote.post(where, {"give_up": give_up})
        return found

    _show(ask(access, write))


def _confirm(question: str, *, yes: bool) -> None:
    if not yes:
        click.confirm(question, abort=True, err=True)


@host.command()
@remote_options
@json_option
def breakers(access: Access) -> None:
    """List pools whose machines failed on a host, and whether they are made there now."""

    async def read(remote: Remote) -> dict[str, Any]:
        return {"items": [one async for one in remote.every("breakers")], "next": None}

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("host", "pool", "breaker", "failures", "since", "until", "error"),
        [
            (
                clean(one["host"]),
                clean(one["pool"]),
                clean(one["state"].replace("_", " ")),
                str(one["failures"]),
                clean(one["since"] or ""),
                clean(one["until"] or ""),
                clean(one["error"]),
            )
            for one in found["items"]
        ],
        numbers=("failures",),
    )


@host.command("reset-breakers")
@click.argument("name")
@click.option("--pool", help="Only this pool's; else every pool's.")
@remote_options
@json_option
def reset_breakers(access: Access, name: str, pool: str | None) -> None:
    """Make machines on the host again at once: what failed there is repaired."""

    async def write(remote: Remote) -> dict[str, Any]:
        where = f"{path_of('hosts', name)}/breakers/reset"
        found: dict[str, Any] = await remote.post(where, {"pool": pool} if pool else {})
        return found

    found = ask(access, write)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.fields((("reset", str(found["reset"])),))


@host.command("open")
@click.argument("name")
@remote_options
@json_option
def open_(access: Access, name: str) -> None:
    """Put the host back into service."""
    _patch(access, name, {"state": "up"})


_OWN = (
    "profile",
    "revision",
    "cpus",
    "memory_mib",
    "disk_mib",
    "disk_iops",
    "network_mbit",
    "overcommit_cpu",
    "start_limit",
)
"""what is the host's own and none of its settings"""


def _body(fields: tuple[str, ...]) -> dict[str, Any]:
    """FIELD=VALUE words, what is a setting among the settings."""
    body = assigned(fields)
    own = {key: body.pop(key) for key in _OWN if key in body}
    return own | ({"settings": body} if body else {})


@host.command()
@click.argument("name")
@click.argument("profile")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE...]")
@click.option("--engine", default="libvirt", show_default=True, help="Which engine's host it is.")
@click.option("--unchecked", is_flag=True, help="Do not look at it first: it may be off.")
@remote_options
@json_option
@click.pass_context
def add(
    context: click.Context, access: Access, name: str, profile: str, fields: tuple[str, ...],
    *, engine: str, unchecked: bool,
) -> None:  # fmt: skip
    """Look at a host as `check` does, and add it if it would do; else it ends with status 1, and
    nothing is added. FIELDs are those of `set`; without cpus and memory_mib it has what was found.

    PROFILE is the host's, as in qemu?uri=qemu%2Bssh://trivium@server-7/system
    """
    given = _body(fields)
    record = {"name": name, "engine": engine, "profile": profile}

    async def write(remote: Remote) -> tuple[bool, dict[str, Any]]:
        size: dict[str, Any] = {}
        if not unchecked:
            looked: dict[str, Any] = await remote.post("hosts/check", record)
            if not looked["fits"]:
                return False, looked
            size = _found_size(looked)
        added: dict[str, Any] = await remote.post("hosts", size | given | record)
        return True, added

    done, found = ask(access, write)
    if done:
        _show(found)
    else:
        show_check(found)
        context.exit(1)


def _found_size(looked: dict[str, Any]) -> dict[str, Any]:
    """What the look found the host to have, as far as it told."""
    found = {key: text for step in looked["steps"] for key, text in step["found"].items()}
    return {key: value_of(found[key]) for key in ("cpus", "memory_mib") if key in found}


@host.command("set")
@click.argument("name")
@click.argument("fields", nargs=-1, required=True, metavar="FIELD=VALUE...")
@remote_options
@json_option
def set_(access: Access, name: str, fields: tuple[str, ...]) -> None:
    """Change what it has, how it is used or reached: cpus=64 disk_mib=900000 overcommit_memory=1.5
    labels='["gpu"]' power_managed=true profile='qemu?uri=…'. A new profile is in use at once; look
    at it with `check` first. With revision=N only if nobody changed the host since."""
    _patch(access, name, _body(fields))

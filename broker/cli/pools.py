"""`trivium pool`: what each pool has, and its settings."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.assignments import assigned, flat
from broker.cli.explanations import explain, why_options
from broker.cli.output import Output, clean, json_option, listed, name_of, state
from broker.cli.remote import Access, Remote, ask, path_of, remote_options
from broker.domain.model import LogOff


@click.group()
def pool() -> None:
    """Look at pools and change them."""


@pool.command("list")
@remote_options
@json_option
def list_(access: Access) -> None:
    """List every pool with its desktops by state."""

    async def read(remote: Remote) -> dict[str, Any]:
        return {"items": [one async for one in remote.every("pools")], "next": None}

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("pool", "title", "kind", "image", "ready", "in use", "coming", "waiting", "max"),
        [_row(one) for one in found["items"]],
        numbers=("ready", "in use", "coming", "waiting", "max"),
    )


_COMING = ("planned", "creating", "starting", "resetting", "resuming")
_USED = ("assigned", "parking", "parked", "unparking")


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    counts = one.get("desktops") or {}
    coming = sum(counts.get(name, 0) for name in _COMING)
    waiting = one.get("waiting") or 0
    return (
        clean(one["name"]) + ("" if one.get("enabled", True) else " [yellow](closed)[/]"),
        clean(one["title"]),
        clean(one["architecture"]).upper(),
        f"{name_of(one['image'])}@{clean(one['image']['version'])}",
        str(counts.get("ready", 0)),
        str(sum(counts.get(name, 0) for name in _USED)),
        str(coming),
        f"[yellow]{waiting}[/]" if waiting else "0",
        str(one["size_max"] or ""),
    )


def _size_of(resources: dict[str, Any]) -> str:
    parts = [f"{resources['cpus']:g} CPUs", f"{resources['memory_mib']} MiB"]
    units = {"disk_mib": "MiB disk", "disk_iops": "IOPS", "network_mbit": "Mbit/s"}
    parts += [f"{resources[one]} {unit}" for one, unit in units.items() if resources.get(one)]
    return ", ".join(parts)


def _show(one: dict[str, Any]) -> None:
    output = Output.current()
    if output.as_json:
        output.document(one)
        return
    counts = one.get("desktops") or {}
    resources = one["resources"]
    output.fields(
        (
            ("pool", clean(one["name"])),
            ("title", clean(one["title"])),
            ("architecture", clean(one["architecture"]).upper()),
            ("kind", clean(one["kind"])),
            ("image", f"{name_of(one['image'])}@{clean(one['image']['version'])}"),
            ("each desktop", _size_of(resources)),
            ("spares, max", f"{one['spares_min']}, {one['size_max']}"),
            ("at log-off", clean(one["log_off"])),
            ("grace", f"{one['disconnect_grace_s']} s"),
            ("lease", f"{one['lease_s']} s" if one["lease_s"] else ""),
            ("open", "yes" if one.get("enabled", True) else "[yellow]no[/]"),
            ("groups", listed(one.get("groups"), most=1000)),
            ("desktops", ", ".join(f"{count} {state(name)}" for name, count in counts.items())),
            ("waiting", str(one.get("waiting") or 0)),
            ("id", clean(one["id"])),
        )
    )


@pool.command()
@click.argument("name")
@remote_options
@json_option
def show(access: Access, name: str) -> None:
    """Show one pool, by name or id."""

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get(path_of("pools", name))
        return found

    _show(ask(access, read))


@pool.command()
@click.argument("name")
@why_options
def why(access: Access, name: str, limit: int) -> None:
    """What was decided about this pool, by name or id, and why; newest first."""
    explain(access, "pools", name, limit)


_SIZE = ("cpus", "memory_mib", "disk_mib", "disk_iops", "network_mbit")


@pool.command()
@click.argument("name")
@click.option("--title", help="New title.")
@click.option("--spares", "spares_min", type=click.IntRange(0), help="Machines kept ready (VDI).")
@click.option("--max", "size_max", type=click.IntRange(0), help="The most machines (VDI).")
@click.option("--log-off", type=click.Choice([one.value for one in LogOff]))
@click.option("--grace", "disconnect_grace_s", type=click.IntRange(0), help="Seconds.")
@click.option("--lease", "lease_s", type=click.IntRange(0), help="Seconds (IDV).")
@click.option("--group", "groups", multiple=True, help="All groups from now on; repeatable.")
@click.option("--open/--close", "enabled", default=None, help="Whether it takes new sessions.")
@click.option("--image", metavar="NAME@VERSION", help="What its machines are made from.")
@click.option("--cpus", type=click.FloatRange(0, min_open=True), help="Of each desktop.")
@click.option("--memory", "memory_mib", type=click.IntRange(1), help="MiB, of each desktop.")
@click.option("--disk", "disk_mib", type=click.IntRange(0), help="MiB, of each desktop.")
@click.option("--iops", "disk_iops", type=click.IntRange(0), help="Disk operations a second.")
@click.option("--network", "network_mbit", type=click.IntRange(0), help="Mbit/s, of each desktop.")
@remote_options
@json_option
def change(access: Access, name: str, groups: tuple[str, ...], **wanted: Any) -> None:
    """Change a pool's settings; sessions under way keep theirs. A new size reaches running
    desktops where the engine can resize them, and others when they are made anew. Of a new image
    spares are made fresh, a few at a time; a desktop in use gets it when it is reset."""
    body = {field: value for field, value in wanted.items() if value is not None}
    size = {field: body.pop(field) for field in _SIZE if field in body}
    if groups:
        body["groups"] = list(groups)
    if not (body or size):
        raise click.UsageError("Say what to change: --spares, --max, --image, --cpus, --close …")

    async def write(remote: Remote) -> dict[str, Any]:
        if size:
            now: dict[str, Any] = await remote.get(path_of("pools", name))
            body["resources"] = {**now["resources"], **size}
        found: dict[str, Any] = await remote.patch(path_of("pools", name), body)
        return found

    _show(ask(access, write))


@pool.command()
@click.argument("name")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@remote_options
@json_option
def settings(access: Access, name: str, fields: tuple[str, ...]) -> None:
    """Show how a pool behaves, or change it: idle_s=1200 after_grace=suspend apart=true.

    Nested fields take dots (guarantee.memory=1), lists are JSON (labels='["gpu"]').
    """
    body = assigned(fields)

    async def act(remote: Remote) -> dict[str, Any]:
        path = path_of("pools", name)
        found: dict[str, Any] = (
            await remote.patch(path, {"settings": body}) if body else await remote.get(path)
        )
        return found

    found = ask(access, act)
    output = Output.current()
    if output.as_json:
        output.document(found["settings"])
        return
    output.fields([(field, clean(text)) for field, text in flat(found["settings"])])

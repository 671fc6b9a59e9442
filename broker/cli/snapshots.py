"""`trivium desktop snapshot`: a desktop kept as it is, to come back to."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.desktop_choice import find_desktop
from broker.cli.output import Output, clean, json_option, state, when
from broker.cli.remote import Access, Remote, ask, path_of, remote_options


@click.group()
def snapshot() -> None:
    """Snapshots of a dedicated desktop: take one, go back to it, drop it."""


async def _where(remote: Remote, name: str, *more: str) -> str:
    return path_of("desktops", (await find_desktop(remote, name))["id"], "snapshots", *more)


@snapshot.command("list")
@click.argument("name")
@remote_options
@json_option
def list_(access: Access, name: str) -> None:
    """The snapshots of this desktop, oldest first."""

    async def read(remote: Remote) -> dict[str, Any]:
        return dict(await remote.get(await _where(remote, name)))

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("snapshot", "state", "taken", "MiB", "note"),
        [
            (
                clean(one["name"]),
                state(one["state"]),
                when(one["created_at"]),
                _mib(one["size_bytes"]),
                clean(one["why"] or one["note"]),
            )
            for one in found["items"]
        ],
        numbers=("MiB",),
    )
    if found["refusal"]:
        output.fields((("no more", clean(found["refusal"])),))


def _mib(size_bytes: int | None) -> str:
    return "–" if size_bytes is None else f"{size_bytes / 2**20:,.0f}"


@snapshot.command()
@click.argument("name")
@click.argument("snapshot_name", metavar="SNAPSHOT")
@click.option("--note", default="", help="Why it is taken.")
@remote_options
@json_option
def take(access: Access, name: str, snapshot_name: str, note: str) -> None:
    """Keep this desktop as it is, under that name; one that runs stands still meanwhile."""

    async def write(remote: Remote) -> dict[str, Any]:
        body = {"name": snapshot_name, "note": note}
        return dict(await remote.post(await _where(remote, name), body))

    _show(ask(access, write))


@snapshot.command()
@click.argument("name")
@click.argument("snapshot_name", metavar="SNAPSHOT")
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote_options
@json_option
def revert(access: Access, name: str, snapshot_name: str, *, yes: bool) -> None:
    """Bring this desktop back to a snapshot; what was done in it since is gone."""
    if not yes:
        text = f"Bring {name} back to {snapshot_name}? What was done in it since is gone"
        click.confirm(text, abort=True, err=True)

    async def write(remote: Remote) -> dict[str, Any]:
        return dict(await remote.post(await _where(remote, name, snapshot_name, "revert")))

    one = ask(access, write)
    output = Output.current()
    if output.as_json:
        output.document(one)
        return
    output.fields(
        (
            ("desktop", clean(one["name"])),
            ("state", state(one["state"])),
            ("generation", clean(one["generation"])),
            ("note", clean(one["note"])),
        )
    )


@snapshot.command()
@click.argument("name")
@click.argument("snapshot_name", metavar="SNAPSHOT")
@remote_options
@json_option
def drop(access: Access, name: str, snapshot_name: str) -> None:
    """Drop a snapshot, by name or id; the desktop stays as it is."""

    async def write(remote: Remote) -> dict[str, Any]:
        return dict(await remote.delete(await _where(remote, name, snapshot_name)))

    _show(ask(access, write))


def _show(one: dict[str, Any]) -> None:
    output = Output.current()
    if output.as_json:
        output.document(one)
        return
    output.fields(
        (
            ("snapshot", clean(one["name"])),
            ("state", state(one["state"])),
            ("note", clean(one["note"])),
            ("id", clean(one["id"])),
        )
    )

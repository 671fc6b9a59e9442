"""`trivium user`: people, their roles, groups and passwords."""

from __future__ import annotations

import sys
from typing import Any

import click

from broker.cli.output import Output, clean, json_option, listed, when
from broker.cli.remote import Access, Remote, ask, path_of, remote_options
from broker.domain.model import Role
from broker.system import SystemIds

_ROLE = click.Choice([role.value for role in Role])


@click.group()
def user() -> None:
    """Look at people and change them."""


@user.command("list")
@click.option("--text", help="Part of the user name or the display name.")
@click.option("--role", type=_ROLE, help="Only people of this role.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@remote_options
@json_option
def list_(access: Access, text: str | None, role: str | None, limit: int) -> None:
    """List people by user name."""
    asked = {name: value for name, value in (("text", text), ("role", role)) if value}

    async def read(remote: Remote) -> dict[str, Any]:
        return await remote.page("users", limit=limit, **asked)

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("user name", "name", "role", "groups", ""),
        [
            (
                clean(one["username"]),
                clean(one["display_name"]),
                clean(one["role"]),
                listed(one.get("groups")),
                "" if one.get("enabled", True) else "[yellow]disabled[/]",
            )
            for one in found["items"]
        ],
    )
    output.more(found, limit)


def _show(one: dict[str, Any]) -> None:
    output = Output.current()
    if output.as_json:
        output.document(one)
        return
    output.fields(
        (
            ("user name", clean(one["username"])),
            ("name", clean(one["display_name"])),
            ("role", clean(one["role"])),
            ("groups", listed(one.get("groups"), most=1000)),
            ("enabled", "yes" if one.get("enabled", True) else "[yellow]no[/]"),
            ("created", when(one.get("created_at"))),
            ("id", clean(one["id"])),
        )
    )


@user.command()
@click.argument("username")
@remote_options
@json_option
def show(access: Access, username: str) -> None:
    """Show one person, by user name or id."""

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get(path_of("users", username))
        return found

    _show(ask(access, read))


@user.command()
@click.argument("username")
@click.option("--name", "display_name", default="", help="Display name.")
@click.option("--role", type=_ROLE, default=Role.USER.value, show_default=True)
@click.option("--group", "groups", multiple=True, help="A group; may be repeated.")
@remote_options
@json_option
def add(
    access: Access, username: str, display_name: str, role: str, groups: tuple[str, ...]
) -> None:
    """Add one person, without a password yet."""
    body = {
        "username": username,
        "display_name": display_name or username,
        "role": role,
        "groups": list(groups),
    }

    async def make(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.post("users", body)
        return found

    _show(ask(access, make))


@user.command()
@click.argument("username")
@click.option("--name", "display_name", help="New display name.")
@click.option("--role", type=_ROLE, help="New role.")
@click.option("--group", "groups", multiple=True, help="All groups from now on; repeatable.")
@click.option("--no-groups", is_flag=True, help="Take him out of every group.")
@click.option("--enable/--disable", "enabled", default=None, help="Whether he may sign in.")
@remote_options
@json_option
def change(
    access: Access,
    username: str,
    *,
    display_name: str | None,
    role: str | None,
    groups: tuple[str, ...],
    no_groups: bool,
    enabled: bool | None,
) -> None:
    """Change a person's name, role, groups, or whether he may sign in."""
    if groups and no_groups:
        raise click.UsageError("--group and --no-groups contradict each other.")
    wanted = {"display_name": display_name, "role": role, "enabled": enabled}
    body: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if groups or no_groups:
        body["groups"] = list(groups)
    if not body:
        raise click.UsageError("Say what to change: --name, --role, --group, --disable …")

    async def write(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.patch(path_of("users", username), body)
        return found

    _show(ask(access, write))


@user.command("set-password")
@click.argument("username")
@click.option("--generate", is_flag=True, help="Make one up and print it, once.")
@remote_options
@json_option
def set_password(access: Access, username: str, *, generate: bool) -> None:
    """Give a person a new password; it ends his sign-ins.

    Asks for it without echo; from a pipe it reads one line.
    """
    password = SystemIds().secret() if generate else _typed_password()

    async def write(remote: Remote) -> None:
        await remote.post(path_of("users", username, "password"), {"password": password})

    ask(access, write)
    output = Output.current()
    if output.as_json:
        output.document({"username": username, **({"password": password} if generate else {})})
    elif generate:
        click.echo(password)
    else:
        output.done(f"{clean(username)} has a new password")


def _typed_password() -> str:
    if sys.stdin.isatty():
        return click.prompt("New password", hide_input=True, confirmation_prompt=True)
    return sys.stdin.readline().rstrip("\r\n")

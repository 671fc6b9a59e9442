"""`trivium rule` and `trivium quota`: who may have desktops, where and when, and how many."""

from __future__ import annotations

from typing import Any

import click

from broker.cli import windows
from broker.cli.output import Output, clean, json_option, listed
from broker.cli.remote import Access, Remote, ask, path_of, remote_options
from broker.domain.calendar import OnHolidays
from broker.domain.policy.rules import QuotaScope


@click.group()
def rule() -> None:
    """Rules of who may use which pool, where and when. Denying always wins."""


@rule.command("list")
@remote_options
@json_option
def list_rules(access: Access) -> None:
    """List every rule by name."""
    found = _every(access, "rules")
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("rule", "effect", "people", "groups", "pools", "endpoints", "networks", "when"),
        [_rule_row(one) for one in found["items"]],
    )


def _every(access: Access, nouns: str) -> dict[str, Any]:
    async def read(remote: Remote) -> dict[str, Any]:
        return {"items": [one async for one in remote.every(nouns)], "next": None}

    return ask(access, read)


def _rule_row(one: dict[str, Any]) -> tuple[str, ...]:
    style = "green" if one["effect"] == "allow" else "bold red"
    return (
        clean(one["name"]) + ("" if one["enabled"] else " [yellow](off)[/]"),
        f"[{style}]{clean(one['effect'])}[/]",
        listed(one["users"]),
        listed(one["groups"]),
        listed(one["pools"]),
        listed(one["endpoints"]),
        listed(one["networks"]),
        clean(windows.shown(one["windows"])),
    )


@rule.command("add")
@click.argument("name")
@click.option("--allow", is_flag=True, help="Entitle the people named.")
@click.option("--deny", is_flag=True, help="Refuse; this always wins.")
@click.option("--user", "users", multiple=True, help="Only this person; repeatable.")
@click.option("--group", "groups", multiple=True, help="Only people of this group; repeatable.")
@click.option("--pool", "pools", multiple=True, help="Only this pool; repeatable.")
@click.option("--endpoint", "endpoints", multiple=True, help="Only at this endpoint; repeatable.")
@click.option("--network", "networks", multiple=True, help="Only from it: 10.2.0.0/16; repeatable.")
@click.option("--when", multiple=True, help="Only then: 'mon-fri 08:00-16:00'; repeatable.")
@click.option(
    "--holidays",
    type=click.Choice([one.value for one in OnHolidays]),
    default=OnHolidays.NEVER.value,
    show_default=True,
    help="Whether --when holds on holidays.",
)
@click.option("--note", default="", help="Why this rule is there.")
@click.option("--off", is_flag=True, help="Keep it switched off for now.")
@remote_options
@json_option
def add_rule(
    access: Access,
    name: str,
    *,
    allow: bool,
    deny: bool,
    when: tuple[str, ...],
    holidays: str,
    note: str,
    off: bool,
    **parts: tuple[str, ...],
) -> None:
    """Add a rule. What is not said matches anything; all that is said must match."""
    if allow == deny:
        raise click.UsageError("Say what the rule does: --allow or --deny.")
    body: dict[str, Any] = {"name": name, "effect": "allow" if allow else "deny"}
    body |= {field: list(values) for field, values in parts.items() if values}
    if when:
        body["windows"] = [windows.window(text, holidays) for text in when]
    if note:
        body["note"] = note
    if off:
        body["enabled"] = False
    _added(access, "rules", body)


def _added(access: Access, nouns: str, body: dict[str, Any]) -> None:
    async def write(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.post(nouns, body)
        return found

    found = ask(access, write)
    output = Output.current()
    if output.as_json:
        output.document(found)
    else:
        output.done(f"{clean(found['name'])} is in force" if found["enabled"] else "kept, but off")


def _changed(access: Access, nouns: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    async def write(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.patch(path_of(nouns, name), body)
        return found

    found = ask(access, write)
    if Output.current().as_json:
        Output.current().document(found)
    return found


def _switched(access: Access, nouns: str, name: str, *, on: bool) -> None:
    found = _changed(access, nouns, name, {"enabled": on})
    if not Output.current().as_json:
        Output.current().done(f"{clean(found['name'])} is {'in force' if on else 'switched off'}")


def _removed(access: Access, nouns: str, name: str) -> None:
    async def write(remote: Remote) -> None:
        await remote.delete(path_of(nouns, name))

    ask(access, write)
    output = Output.current()
    if output.as_json:
        output.document({"removed": name})
    else:
        output.done(f"{clean(name)} is gone")


@rule.command("on")
@click.argument("name")
@remote_options
@json_option
def rule_on(access: Access, name: str) -> None:
    """Let a rule hold again, by name or id."""
    _switched(access, "rules", name, on=True)


@rule.command("off")
@click.argument("name")
@remote_options
@json_option
def rule_off(access: Access, name: str) -> None:
    """Keep a rule, and let it hold no more; by name or id."""
    _switched(access, "rules", name, on=False)


@rule.command("remove")
@click.argument("name")
@remote_options
@json_option
def remove_rule(access: Access, name: str) -> None:
    """Remove a rule, by name or id."""
    _removed(access, "rules", name)


@click.group()
def quota() -> None:
    """How many sessions may be live at once, queued ones included."""


@quota.command("list")
@remote_options
@json_option
def list_quotas(access: Access) -> None:
    """List every quota by name."""
    found = _every(access, "quotas")
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("quota", "of", "group", "pools", "most"),
        [
            (
                clean(one["name"]) + ("" if one["enabled"] else " [yellow](off)[/]"),
                clean(one["scope"]),
                clean(one["group"]),
                listed(one["pools"]) or "all",
                str(one["sessions_max"]),
            )
            for one in found["items"]
        ],
        numbers=("most",),
    )


@quota.command("add")
@click.argument("name")
@click.option(
    "--of",
    "scope",
    type=click.Choice([one.value for one in QuotaScope]),
    required=True,
    help="Each person, a group's people together, or everybody of the pools together.",
)
@click.option("--max", "sessions_max", type=click.IntRange(0), required=True, help="Live sessions.")
@click.option("--group", help="The group; with --of user: only of its people.")
@click.option("--pool", "pools", multiple=True, help="Only sessions of this pool; repeatable.")
@remote_options
@json_option
def add_quota(
    access: Access,
    name: str,
    *,
    scope: str,
    sessions_max: int,
    group: str | None,
    pools: tuple[str, ...],
) -> None:
    """Add a quota."""
    body: dict[str, Any] = {"name": name, "scope": scope, "sessions_max": sessions_max}
    if group:
        body["group"] = group
    if pools:
        body["pools"] = list(pools)
    _added(access, "quotas", body)


@quota.command("on")
@click.argument("name")
@remote_options
@json_option
def quota_on(access: Access, name: str) -> None:
    """Let a quota hold again, by name or id."""
    _switched(access, "quotas", name, on=True)


@quota.command("off")
@click.argument("name")
@remote_options
@json_option
def quota_off(access: Access, name: str) -> None:
    """Keep a quota, and let it hold no more; by name or id."""
    _switched(access, "quotas", name, on=False)


@quota.command("limit")
@click.argument("name")
@click.argument("sessions_max", metavar="SESSIONS", type=click.IntRange(0))
@remote_options
@json_option
def limit_quota(access: Access, name: str, sessions_max: int) -> None:
    """Set how many sessions a quota allows. Those that are live stay."""
    found = _changed(access, "quotas", name, {"sessions_max": sessions_max})
    if not Output.current().as_json:
        Output.current().done(f"{clean(found['name'])} allows {found['sessions_max']} sessions")


@quota.command("remove")
@click.argument("name")
@remote_options
@json_option
def remove_quota(access: Access, name: str) -> None:
    """Remove a quota, by name or id."""
    _removed(access, "quotas", name)

"""`trivium audit`: look at the trail, copy it, and hold its chain against tampering."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from broker.cli.audit_file import Export, check_file
from broker.cli.errors import CommandError
from broker.cli.output import Output, clean, json_option, name_of, state, when
from broker.cli.remote import Access, Remote, ask, remote_options
from broker.domain.audit import Outcome
from broker.domain.errors import BrokenChainError
from broker.services.audit import Anchor


@click.group()
def audit() -> None:
    """Look at the audit trail, export it, check it."""


@audit.command("list")
@click.option("--actor", help="Only by this user or endpoint (id), or by the broker.")
@click.option("--action", help="Only of this kind, such as session.connect.")
@click.option("--outcome", type=click.Choice([one.value for one in Outcome]))
@click.option("--user", "user_id", help="Only about this user (id).")
@click.option("--session", "session_id", help="Only about this session.")
@click.option("--desktop", "desktop_id", help="Only about this desktop (id).")
@click.option("--pool", "pool_id", help="Only about this pool (id).")
@click.option("--host", "host_id", help="Only about this host (id).")
@click.option("--endpoint", "endpoint_id", help="Only about this endpoint (id).")
@click.option("--request", "request_id", help="Only of this request.")
@click.option("--since", help="Only from this time on: 2026-11-21T08:00:00Z.")
@click.option("--until", help="Only before this time.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@remote_options
@json_option
def list_(access: Access, *, limit: int, **filters: str | None) -> None:
    """List entries, newest first."""
    asked = {name: value for name, value in filters.items() if value}

    async def read(remote: Remote) -> dict[str, Any]:
        return await remote.page("audit", limit=limit, **asked)

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("at", "who", "from", "what", "outcome", "why"),
        [
            (
                when(one["at"]),
                name_of(one["actor"]),
                clean(one["source"]),
                clean(one["action"]),
                state(one["outcome"]),
                clean(one["why"]),
            )
            for one in found["items"]
        ],
    )
    output.more(found, limit)


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@remote_options
@json_option
def export(access: Access, file: Path) -> None:
    """Write sealed entries to FILE as JSON lines; - is stdout.

    A FILE that exists is gone on with: only entries behind its last one are asked for.
    """
    if str(file) == "-":
        made = ask(access, Export(nullcontext(sys.stdout.buffer), after=0).run)
        output = Output()
    else:
        going_on = Export.into(file)
        made = ask(access, going_on.run)
        output = Output.current()
    if output.as_json:
        output.document(made)
        return
    anchor = f"; anchor {made['last_number']}:{made['last_seal']}" if made["last_seal"] else ""
    output.done(f"{made['entries']} entries, up to number {made['last_number']}{anchor}")


@audit.command()
@click.option("--anchor", help="number:seal kept elsewhere, which must still be so.")
@click.option("--since", help="Begin behind this number:seal instead of at the first entry.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Check this export instead of the broker's trail.",
)
@remote_options
@json_option
@click.pass_context
def check(
    context: click.Context,
    access: Access,
    *,
    anchor: str | None,
    since: str | None,
    file: Path | None,
) -> None:
    """Hold the chain of seals against the entries. Exit code 1: it does not hold."""
    asked = {name: value for name, value in (("anchor", anchor), ("since", since)) if value}

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get("audit/check", **asked)
        return found

    if file is not None:
        anchors = {name: Anchor.parse(value) for name, value in asked.items()}
        found = check_file(file, **anchors)
    else:
        found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        context.exit(1 if found["break"] else 0)
    if found["break"]:
        raise _broken(found["break"])
    output.done(
        f"the chain holds up to number {found['last_number']} ({found['unsealed']} not sealed yet)"
    )
    if file is not None and since is None and found["first_number"] > 1:
        number = found["first_number"]
        output.say(f"  the file begins at number {number}, which is believed; --since holds it")
    if found["last_number"]:
        output.say(f"  anchor to keep elsewhere: {found['last_number']}:{found['last_seal']}")


def _broken(found: dict[str, Any]) -> CommandError:
    around = "; ".join(
        f"{word}: {one['entry']['at']} {one['entry']['action']} ({one['entry']['id']})"
        for word, one in (("before it", found["before"]), ("there now", found["here"]))
        if one
    )
    detail = f"the chain breaks at number {found['number']}: {found['why']}"
    return CommandError(
        BrokenChainError.title,
        detail=f"{detail}; {around}" if around else detail,
        advice=BrokenChainError.advice,
        code=BrokenChainError.code,
    )

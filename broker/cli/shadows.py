"""`trivium session shadow`: ask to see somebody's desktop, look who does, end it.

The desktop itself is shown in the console, to whoever asked.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import click

from broker.cli.output import Output, clean, json_option, state, when
from broker.cli.remote import Access, Remote, ask, path_of, remote_options
from broker.limits import SHADOW_REASON_CHARS_MAX

LOOK_S: Final = 1.0
"""between two looks whether the person has answered"""


@click.group()
def shadow() -> None:
    """Ask to see somebody's desktop, look who sees it, end that."""


def _show(*shadows: dict[str, Any]) -> None:
    Output.current().table(
        ("shadow", "who", "how", "state", "why", "reason", "asked"),
        [
            (
                clean(one["id"]),
                clean(one["staff"]["username"]),
                clean(one["mode"]),
                state(one["state"]),
                clean(one["why"]),
                clean(one["reason"]),
                when(one["asked_at"]),
            )
            for one in shadows
        ],
    )


def _told(one: dict[str, Any]) -> None:
    output = Output.current()
    if output.as_json:
        output.document(one)
    else:
        _show(one)


@shadow.command("ask")
@click.argument("session_id")
@click.option(
    "--reason",
    required=True,
    help=f"Told to the person; {SHADOW_REASON_CHARS_MAX} characters at most.",
)
@click.option("--take-part", is_flag=True, help="With keyboard and pointer, not only to look on.")
@click.option("--wait", is_flag=True, help="Until the person has answered, or it is too late.")
@remote_options
@json_option
def ask_(access: Access, *, session_id: str, reason: str, take_part: bool, wait: bool) -> None:
    """Ask the session's person; open it in the console once it is allowed, as the same user."""
    body = {"mode": "interactive" if take_part else "view", "reason": reason}

    async def write(remote: Remote) -> dict[str, Any]:
        path = path_of("sessions", session_id, "shadows")
        found: dict[str, Any] = await remote.post(path, body)
        while wait and found["state"] == "asked":
            await asyncio.sleep(LOOK_S)
            found = await remote.get(path_of("sessions", session_id, "shadows", found["id"]))
        return found

    found = ask(access, write)
    _told(found)
    output = Output.current()
    if not output.as_json and found["state"] in {"asked", "allowed"}:
        page = path_of("sessions", session_id, "shadows", found["id"])
        output.say(f"{access.url}/{page}")


@shadow.command("list")
@click.argument("session_id")
@remote_options
@json_option
def list_(access: Access, session_id: str) -> None:
    """Who asks to see this session, sees it, or did within the last ten minutes."""

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get(path_of("sessions", session_id, "shadows"))
        return found

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
    else:
        _show(*found["items"])


@shadow.command("end")
@click.argument("session_id")
@click.argument("shadow_id")
@remote_options
@json_option
def end(access: Access, session_id: str, shadow_id: str) -> None:
    """End it, or withdraw the question."""

    async def write(remote: Remote) -> dict[str, Any]:
        path = path_of("sessions", session_id, "shadows", shadow_id)
        found: dict[str, Any] = await remote.delete(path)
        return found

    _told(ask(access, write))

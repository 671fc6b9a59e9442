"""`trivium session`: who has which desktop and why, telling people things, ending it."""

from __future__ import annotations

from typing import Any, Final

import click

from broker.cli.explanations import explain, why_options
from broker.cli.output import Output, clean, json_option, logged_on, name_of, state, when
from broker.cli.remote import Access, Remote, ask, path_of, remote_options
from broker.cli.shadows import shadow
from broker.domain.model import Architecture, SessionState
from broker.limits import EXTEND_S_MAX

_MINUTE_S: Final = 60


@click.group()
def session() -> None:
    """Look at sessions, tell their people something, extend or end them."""


session.add_command(shadow)


@session.command("list")
@click.option("--live", is_flag=True, help="Only those that hold or wait for a desktop.")
@click.option("--state", "in_state", type=click.Choice([one.value for one in SessionState]))
@click.option("--architecture", type=click.Choice([one.value for one in Architecture]))
@click.option("--user", "username", help="Only this person's, by user name or id.")
@click.option("--pool", "pool_name", help="Only this pool's, by name or id.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@remote_options
@json_option
def list_(
    access: Access,
    *,
    live: bool,
    in_state: str | None,
    architecture: str | None,
    username: str | None,
    pool_name: str | None,
    limit: int,
) -> None:
    """List sessions, newest first."""
    wanted = {"state": in_state, "architecture": architecture, "live": "true" if live else None}
    asked = {name: value for name, value in wanted.items() if value}

    async def read(remote: Remote) -> dict[str, Any]:
        if username:
            asked["user_id"] = (await remote.get(path_of("users", username)))["id"]
        if pool_name:
            asked["pool_id"] = (await remote.get(path_of("pools", pool_name)))["id"]
        return await remote.page("sessions", limit=limit, **asked)

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("session", "user", "pool", "kind", "state", "desktop", "endpoint", "requested"),
        [
            (
                clean(one["id"]),
                name_of(one["user"]),
                name_of(one["pool"]),
                clean(one["architecture"]).upper(),
                state(one["state"]) + (f" #{one['place']}" if one.get("place") else ""),
                name_of(one.get("desktop")),
                name_of(one.get("endpoint")),
                when(one["requested_at"]),
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
    traffic = one.get("traffic") or {}
    output.fields(
        (
            ("session", clean(one["id"])),
            ("user", name_of(one["user"])),
            ("pool", f"{name_of(one['pool'])} ({clean(one['architecture']).upper()})"),
            ("state", state(one["state"])),
            ("why", clean(one["why"])),
            ("place in queue", clean(one.get("place") or "")),
            ("desktop", name_of(one.get("desktop"))),
            ("endpoint", name_of(one.get("endpoint"))),
            ("requested", when(one["requested_at"])),
            ("assigned", when(one.get("assigned_at"))),
            ("live", when(one.get("live_at"))),
            ("ended", when(one.get("ended_at"))),
            ("ends", when(one.get("ends_at"))),
            ("lease until", when(one.get("lease_until"))),
            ("logged on", logged_on(one.get("guest"))),
            ("last message", _message(one.get("notice"))),
            ("display", _display(one.get("display"))),
            ("traffic", ", ".join(f"{clean(kind)} {size:,} B" for kind, size in traffic.items())),
        )
    )
    phases = one.get("phases") or []
    if phases:
        output.table(
            ("step", "took", "down", "up"),
            [
                (
                    clean(phase["name"]),
                    f"{phase['took_ms']:,.0f} ms",
                    f"{phase['bytes_down']:,} B",
                    f"{phase['bytes_up']:,} B",
                )
                for phase in phases
            ],
            numbers=("took", "down", "up"),
        )


def _display(measure: dict[str, Any] | None) -> str:
    """What its open display carried lately, and how long a round trip took."""
    if not measure:
        return ""
    seconds = max(measure["seconds"], 0.001)
    down, up = (measure[f"bytes_{way}"] / seconds for way in ("down", "up"))
    took_ms = measure["round_trip_ms"]
    trip = "no answer yet" if took_ms is None else f"{took_ms:,.1f} ms"
    return f"{down:,.0f} B/s down, {up:,.0f} B/s up, round trip {trip}"


def _message(notice: dict[str, Any] | None) -> str:
    if not notice:
        return ""
    sender = clean(notice["sender"]) or "the broker"
    lines = "\n".join(clean(line) for line in notice["text"].splitlines())
    return f"{lines} [dim]({sender}, {when(notice['at'])})[/]"


@session.command()
@click.argument("session_id")
@remote_options
@json_option
def show(access: Access, session_id: str) -> None:
    """Show one session with the steps of its delivery."""

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get(path_of("sessions", session_id))
        return found

    _show(ask(access, read))


@session.command()
@click.argument("session_id")
@why_options
def why(access: Access, session_id: str, limit: int) -> None:
    """Why a session has its desktop, waits, or is over; newest first."""
    explain(access, "sessions", session_id, limit)


def _post(access: Access, session_id: str, what: str, body: dict[str, Any] | None = None) -> None:
    async def write(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.post(path_of("sessions", session_id, what), body)
        return found

    _show(ask(access, write))


@session.command()
@click.argument("session_id")
@click.argument("text")
@remote_options
@json_option
def message(access: Access, session_id: str, text: str) -> None:
    """Tell a session's person something, where it is shown and in the desktop."""
    _post(access, session_id, "message", {"text": text})


@session.command()
@click.argument("session_id")
@click.argument("minutes", type=click.IntRange(1, EXTEND_S_MAX // _MINUTE_S))
@remote_options
@json_option
def extend(access: Access, session_id: str, minutes: int) -> None:
    """Let a session last longer than its pool's maximum time, by so many minutes."""
    _post(access, session_id, "extend", {"seconds": minutes * _MINUTE_S})


@session.command()
@click.argument("session_id")
@remote_options
@json_option
def end(access: Access, session_id: str) -> None:
    """Log a session off, or take it out of the queue."""

    async def write(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.delete(path_of("sessions", session_id))
        return found

    _show(ask(access, write))


@session.command()
@click.argument("session_id")
@remote_options
@json_option
def lock(access: Access, session_id: str) -> None:
    """Lock the screen of a session's desktop."""
    _post(access, session_id, "lock")


@session.command()
@click.argument("session_id")
@remote_options
@json_option
def disconnect(access: Access, session_id: str) -> None:
    """Take the display away and keep the desktop for its person."""
    _post(access, session_id, "disconnect")

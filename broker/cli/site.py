"""`trivium site`: whether the whole site takes new sessions."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.output import Output, clean, json_option, state
from broker.cli.remote import Access, Remote, ask, remote_options


@click.group()
def site() -> None:
    """Open, drain or close the whole site."""


def _show(found: dict[str, Any]) -> None:
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    holidays = [f"{clean(one['day'])} {clean(one['name'])}" for one in found["holidays"]]
    output.fields(
        (
            ("state", state(found["state"])),
            ("message", clean(found["message"])),
            ("time zone", clean(found["time_zone"])),
            ("holidays", ", ".join(holidays)),
            ("desktops, max", str(found["desktops_max"] or "")),
            ("memory, max", f"{found['memory_mib_max']} MiB" if found["memory_mib_max"] else ""),
            (
                "rebalance above",
                f"{found['rebalance_above']:.0%}" if found["rebalance_above"] else "",
            ),
            (
                "hosts given up",
                f"after {found['lost_after_s']} s, where safe" if found["lost_after_s"] else "",
            ),
            ("revision", str(found["revision"])),
        )
    )


@site.command()
@remote_options
@json_option
def show(access: Access) -> None:
    """Show the site's settings."""

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get("site")
        return found

    _show(ask(access, read))


def _set(access: Access, wanted: str, message: str | None, why: str) -> None:
    body: dict[str, Any] = {"state": wanted}
    if message is not None:
        body["message"] = message
    if why:
        body["why"] = why

    async def write(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.patch("site", body)
        return found

    _show(ask(access, write))


_MESSAGE = click.option("--message", help="Told to people who are turned away.")
_WHY = click.option("--why", default="", help="For the audit trail.")


@site.command("open")
@_WHY
@remote_options
@json_option
def open_(access: Access, why: str) -> None:
    """Take new sessions; takes the message away."""
    _set(access, "open", "", why)


@site.command()
@_MESSAGE
@_WHY
@remote_options
@json_option
def drain(access: Access, message: str | None, why: str) -> None:
    """Give desktops to nobody new; who has one keeps it."""
    _set(access, "draining", message, why)


@site.command()
@_MESSAGE
@_WHY
@remote_options
@json_option
def maintenance(access: Access, message: str | None, why: str) -> None:
    """As drain, and neither make machines nor keep any warm."""
    _set(access, "maintenance", message, why)

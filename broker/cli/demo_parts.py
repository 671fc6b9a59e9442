"""What the demo waits for: a ready broker, connected endpoints, warm desktops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.cli.children import Child
from broker.cli.errors import CommandError
from broker.cli.fleet_process import snapshot
from broker.cli.remote import Remote, path_of
from broker.cli.steps import Step
from broker.domain.errors import ConflictError, IllegalTransitionError, NotFoundError

START_S: Final = 60.0
"""for the broker to be ready, and for a database to be migrated"""
ONLINE_S: Final = 120.0
"""for every endpoint to be connected"""
ONLINE_SHARE: Final = 0.95
"""of the endpoints that must be connected for the campaign to begin after ONLINE_S"""
_OVER_ALREADY: Final = frozenset(
    {ConflictError.code, IllegalTransitionError.code, NotFoundError.code}
)


async def broker_ready(process: Child) -> Mapping[str, Any]:
    """The line that a broker prints when it is ready. Raises CommandError."""
    try:
        async with asyncio.timeout(START_S):
            async for line in process.lines():
                found = _object(line)
                if found.get("event") == "ready":
                    return found
            await process.wait()
    except TimeoutError:
        raise CommandError(
            "The broker does not come up",
            detail=f"it is not ready after {START_S:.0f} s",
            advice=f"Its log: {process.log}",
            code="cli.child_failed",
        ) from None
    raise _its_own_error(process) or process.failure("The broker does not come up")


def _its_own_error(process: Child) -> CommandError | None:
    """What the process said in JSON before it ended, as an error of ours."""
    try:
        lines = process.log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        found = _object(line.encode()).get("error")
        if isinstance(found, dict):
            return CommandError(
                str(found.get("title", "")),
                detail=str(found.get("detail", "")),
                advice=str(found.get("advice", "")),
                code=str(found.get("code", "")),
            )
    return None


def _object(line: bytes) -> dict[str, Any]:
    """The line as a JSON object; empty for anything else."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def must_not_end(process: Child, what: str) -> None:
    async for _ in process.lines():
        pass
    await process.wait()
    raise process.failure(what)


async def fleet_connected(process: Child, count: int, step: Step) -> None:
    """Until all are connected, or nearly all after ONLINE_S. Raises CommandError."""
    online = 0
    try:
        async with asyncio.timeout(ONLINE_S):
            async for line in process.lines():
                found = snapshot(line)
                if found is None:
                    continue
                online = int(found["connected"])
                step.note(f"{online} of {count} online", done=online, total=count)
                if online >= count:
                    return
            await process.wait()
            raise process.failure("The endpoints ended")
    except TimeoutError:
        if online < count * ONLINE_SHARE:
            raise CommandError(
                "The endpoints do not come online",
                detail=f"{online} of {count} are connected after {ONLINE_S:.0f} s",
                advice=f"Their log: {process.log}",
                code="cli.child_failed",
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """Ready `machines` on servers and `own` desktops of fat endpoints, and how many of both are
    wanted."""

    machines: int
    own: int
    wanted: int

    @property
    def ready(self) -> int:
        return self.machines + self.own


async def warmth(remote: Remote, fat: int) -> Warmth:
    machines = own = spares_wanted = 0
    async for pool in remote.every("pools"):
        ready = pool["desktops"].get("ready", 0)
        if pool["size_max"]:
            spares = min(pool["spares_min"], pool["size_max"]) if pool["enabled"] else 0
            spares_wanted += spares
            machines += min(spares, ready)
        else:
            own += ready
    return Warmth(machines=machines, own=min(own, fat), wanted=spares_wanted + fat)


async def end_session(remote: Remote, session_id: str) -> None:
    """Log it off; that it is over already is as good."""
    try:
        await remote.delete(path_of("sessions", session_id))
    except CommandError as error:
        if error.code not in _OVER_ALREADY:
            raise


def told_counts(counts: Mapping[str, Mapping[str, int]]) -> str:
    """How many there are of what a newcomer asks for, and whether anything changed."""
    totals = {kind: sum(count.values()) for kind, count in counts.items()}
    shown = ", ".join(f"{totals[kind]:,} {kind}" for kind in ("users", "pools", "endpoints"))
    touched = sum(count["new"] + count["changed"] for count in counts.values())
    return shown if touched else f"{shown}   [dim](as before)[/]"

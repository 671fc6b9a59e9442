"""A fleet of simulated endpoints as a child process, with the enrolment tokens that it needs."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from broker.cli.children import Child, child, python
from broker.cli.endpoint_choice import Place
from broker.cli.private import write_private
from broker.cli.remote import Remote

TOKENS_AT_ONCE: Final = 500
"""enrolment tokens in one call, the most that the API makes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """`warm`: share of fat endpoints that have every image cached; `stale`: share of those that
    have it one version behind. `ramp_s`: the first connections are spread over this long."""

    data: Path
    speed: float = 1.0
    seed: int = 0
    warm: float = 0.8
    stale: float = 0.0
    ramp_s: float = 10.0
    every_s: float = 1.0


async def enrolment_tokens(remote: Remote, count: int) -> list[str]:
    """One-use tokens, as many as asked."""
    tokens: list[str] = []
    while len(tokens) < count:
        asked = min(count - len(tokens), TOKENS_AT_ONCE)
        answer = await remote.post("endpoints/tokens", {"count": asked})
        tokens += answer["tokens"]
    return tokens


@asynccontextmanager
async def fleet_process(
    remote: Remote, places: Sequence[Place] | Mapping[str, int], options: FleetOptions
) -> AsyncIterator[Child]:
    """A running fleet: of these places, or made-up ones by a mix. Stopped at the block's end."""
    folder = options.data / "fleet"
    named = not isinstance(places, Mapping)
    count = len(places) if not isinstance(places, Mapping) else sum(places.values())
    tokens_file = folder / f"tokens.{os.getpid()}"
    names_file = folder / f"names.{os.getpid()}"
    write_private(tokens_file, "\n".join(await enrolment_tokens(remote, count)) + "\n")
    arguments = [
        *("fleet", "--json", "--url", remote.url, "--tokens", str(tokens_file)),
        *("--state", str(folder / "identities.json")),
        *("--speed", f"{options.speed:g}", "--seed", str(options.seed)),
        *("--warm", f"{options.warm:g}", "--stale", f"{options.stale:g}"),
        *("--ramp", f"{options.ramp_s:g}", "--every", f"{options.every_s:g}"),
    ]
    if isinstance(places, Mapping):
        arguments += ["--mix", ",".join(f"{name}={number}" for name, number in places.items())]
    else:
        lines = [json.dumps(_line(place), ensure_ascii=False) for place in places]
        write_private(names_file, "\n".join(lines) + "\n")
        arguments += ["--names", str(names_file)]
    try:
        log = options.data / "logs" / "fleet.log"
        async with child("fleet", python("agents", *arguments), log) as process:
            yield process
    finally:
        tokens_file.unlink(missing_ok=True)
        if named:
            names_file.unlink(missing_ok=True)


def _line(place: Place) -> dict[str, Any]:
    return {name: value for name, value in asdict(place).items() if name != "category"}


def snapshot(line: bytes) -> dict[str, Any] | None:
    """A fleet's progress line; None for anything else."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "connected" in found else None

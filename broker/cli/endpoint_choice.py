"""Which endpoints of the roster a fleet brings to life: as many as asked, spread over the rooms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from broker.cli.errors import CommandError
from broker.cli.remote import Remote
from broker.domain.model import EndpointKind, EndpointState

CATEGORIES = ("thin", "idv", "voi")
"""what a mix names: thin endpoints, and fat ones by the architecture of their first pool"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One endpoint that the fleet is to be."""

    name: str
    kind: str
    location: str
    category: str


def parse_mix(text: str) -> dict[str, int]:
    """`thin=130,idv=100,voi=90` as a mapping.

    Raises:
        click.BadParameter: naming the part that is not of that form.
    """
    mix: dict[str, int] = {}
    for part in text.split(","):
        name, equals, count = part.strip().partition("=")
        if name not in CATEGORIES or not equals or not count.isascii() or not count.isdecimal():
            wanted = ", ".join(f"{one}=NUMBER" for one in CATEGORIES)
            raise click.BadParameter(f"{part.strip()!r} is none of {wanted}", param_hint="--mix")
        if name in mix:
            raise click.BadParameter(f"{name} is there twice", param_hint="--mix")
        mix[name] = int(count)
    return mix


def shares(weights: Mapping[str, int], count: int) -> dict[str, int]:
    """`count` in proportion to the weights; the largest remainders get what is left over."""
    total = sum(weights.values())
    if total == 0:
        return dict.fromkeys(weights, 0)
    exact = {name: count * weight / total for name, weight in weights.items()}
    found = {name: int(share) for name, share in exact.items()}
    by_rest = sorted(exact, key=lambda name: (found[name] - exact[name], name))
    for name in by_rest[: count - sum(found.values())]:
        found[name] += 1
    return found


async def roster_places(remote: Remote) -> list[Place]:
    """Every endpoint that the broker knows and has not retired, by name."""
    architecture = {
        pool["name"]: pool["architecture"] for pool in [one async for one in remote.every("pools")]
    }
    return [
        Place(
            name=one["name"],
            kind=one["kind"],
            location=one["location"],
            category=_category(one, architecture),
        )
        async for one in remote.every("endpoints")
        if one["state"] != EndpointState.RETIRED
    ]


def _category(endpoint: Mapping[str, Any], architecture: Mapping[str, str]) -> str:
    if endpoint["kind"] == EndpointKind.THIN:
        return "thin"
    first = next((architecture[name] for name in endpoint["pools"] if name in architecture), "idv")
    return first if first in CATEGORIES else "idv"


def choose(
    places: Iterable[Place], count: int | None, mix: Mapping[str, int] | None
) -> list[Place]:
    """Of the roster's endpoints: so many of each category, evenly over the list of their names.

    Without a mix the roster's own proportions hold; without a count all of it is taken.

    Raises:
        CommandError: the roster has fewer.
    """
    by_category: dict[str, list[Place]] = {name: [] for name in CATEGORIES}
    for place in places:
        by_category[place.category].append(place)
    there = {name: len(found) for name, found in by_category.items()}
    wanted = dict(mix) if mix is not None else there
    if count is not None:
        wanted = shares(wanted, count)
    for name, number in wanted.items():
        if number > there[name]:
            raise CommandError(
                "The roster has too few endpoints",
                detail=f"{number} {name} endpoints are asked for, the roster has {there[name]}",
                advice="Ask for fewer, import more, or let the fleet make names up (--made-up).",
                code="cli.too_few_endpoints",
            )
    return [
        place for name, number in wanted.items() for place in _evenly(by_category[name], number)
    ]


def _evenly(places: Sequence[Place], number: int) -> list[Place]:
    return [places[index * len(places) // number] for index in range(number)]

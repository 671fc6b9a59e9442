"""Which endpoints a fleet has: from a file of names, or made up by a mix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from agents import limits

KINDS: Mapping[str, str] = {"thin": "thin", "idv": "fat", "voi": "fat"}
"""what a mix may name, and the kind of endpoint that it is"""
DEFAULT_MIX: Mapping[str, int] = {"thin": 120, "idv": 90, "voi": 90}


class RosterError(Exception):
    """The list of endpoints, or of tokens, cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One endpoint to be: as the broker's roster names it."""

    name: str
    kind: str
    location: str = ""


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    location: str = ""


def parse_mix(text: str) -> dict[str, int]:
    """`thin=120,idv=90,voi=90`. Raises RosterError."""
    mix: dict[str, int] = {}
    for part in text.split(","):
        name, _, count = part.strip().partition("=")
        if name not in KINDS or not count.isdecimal() or name in mix:
            known = ", ".join(KINDS)
            raise RosterError(f"{part.strip()!r} is not one of {known}, once, with a number")
        mix[name] = int(count)
    return mix


def scale(mix: Mapping[str, int], endpoints: int) -> dict[str, int]:
    """The same proportions for so many endpoints: largest remainders get the rest."""
    total = sum(mix.values())
    if total == 0:
        raise RosterError("the mix names no endpoint")
    shares = {name: endpoints * count / total for name, count in mix.items()}
    scaled = {name: int(share) for name, share in shares.items()}
    by_rest = sorted(shares, key=lambda name: scaled[name] - shares[name])
    for name in by_rest[: endpoints - sum(scaled.values())]:
        scaled[name] += 1
    return scaled


def made_up(mix: Mapping[str, int]) -> list[Place]:
    """Endpoints `thin-0001`, `idv-0001`, … in turn of the mix."""
    return [
        Place(name=f"{name}-{number:04}", kind=KINDS[name])
        for name, count in mix.items()
        for number in range(1, count + 1)
    ]


def read_names(path: Path) -> list[Place]:
    """A file of JSON lines {"name", "kind", "location"}. Raises RosterError, naming the line."""
    places: list[Place] = []
    seen: set[str] = set()
    for number, text in _lines(path):
        try:
            found = msgspec.json.decode(text, type=_Line)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise RosterError(f"{path}, line {number}: {error}") from error
        name = found.name.strip()
        if not name or len(name) > limits.NAME_CHARS_MAX or name in seen:
            raise RosterError(f"{path}, line {number}: the name is empty, too long or there twice")
        if found.kind not in {"thin", "fat"}:
            raise RosterError(f"{path}, line {number}: kind is neither thin nor fat")
        seen.add(name)
        places.append(Place(name=name, kind=found.kind, location=found.location))
    return places


def choose(
    places: Sequence[Place], mix: Mapping[str, int] | None, count: int | None
) -> list[Place]:
    """Of the named ones, the first of each kind that a mix asks for, or the first `count`.

    Raises RosterError when there are fewer.
    """
    if mix is None:
        if count is not None and count > len(places):
            raise RosterError(f"{count} endpoints are asked for, {len(places)} are named")
        return list(places[:count])
    wanted = {"thin": 0, "fat": 0}
    for name, number in mix.items():
        wanted[KINDS[name]] += number
    chosen: list[Place] = []
    for kind, number in wanted.items():
        found = list(islice((place for place in places if place.kind == kind), number))
        if len(found) < number:
            raise RosterError(f"{number} {kind} endpoints are asked for, {len(found)} are named")
        chosen += found
    return chosen


def read_tokens(path: Path) -> list[str]:
    """One token a line; empty lines do not count. Raises RosterError."""
    return [text.decode("ascii", "replace") for _, text in _lines(path)]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RosterError(f"{path} cannot be read: {error.strerror}") from error
    for number, text in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if text.strip():
            yield number, text.strip()

"""The cast: who may arrive, where they sit and what they may use. Written by the caller.

A cast is one JSON file, readable by its owner alone, for it carries passwords:

    {
      "version": 1,
      "url": "http://127.0.0.1:8080",
      "token": "…",                       bearer of somebody who may read every session; optional
      "scale": {"speed": 10, "bytes_scale": 100},
      "pools": [{"name": "maths", "architecture": "vdi"}, …],
      "endpoints": [{"name": "lab1-07", "pools": ["maths"]}, …],
      "people": [{"username": "li.wei", "password": "…", "pools": ["maths"]}, …]
    }

`scale` states how the running broker and fleet were told to compress (TRIVIUM_SPEED,
TRIVIUM_BYTES_SCALE), so that the report can say so. The environment variable TRIVIUM_TOKEN takes
the place of `token`. Nothing of a cast but user, pool and endpoint names leaves it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

import msgspec

from loadtests.limits import ARCHITECTURES, CAST_BYTES_MAX

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Factor = Annotated[float, msgspec.Meta(ge=1.0)]


class CastError(Exception):
    """The cast cannot be used; the text says why, and names no secret."""


class Pool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pool that the campaign may ask for. `architecture`: vdi, idv or voi."""

    name: Name
    architecture: str


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A live endpoint of the fleet and the pools that it serves."""

    name: Name
    pools: tuple[Name, ...]


class CastPerson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user with a password that works now, and the pools to which he is entitled."""

    username: Name
    password: Name
    pools: tuple[Name, ...]


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`speed`: simulated time runs this many times faster. `bytes_scale`: simulated image sizes
    are divided by this."""

    speed: Factor = 1.0
    bytes_scale: Factor = 1.0


class Cast(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a campaign may use."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^/?#@]+/?$")]
    pools: tuple[Pool, ...]
    endpoints: tuple[Endpoint, ...]
    people: tuple[CastPerson, ...]
    token: str | None = None
    scale: Scale = Scale()
    version: int = 1

    def passwords(self) -> dict[str, str]:
        return {person.username: person.password for person in self.people}


def read_cast(path: Path) -> Cast:
    """The cast in `path`.

    Raises:
        CastError: it cannot be read, others may read it, or its content is not valid.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise CastError(f"{path.name} holds passwords and is open to others: chmod 600 it")
            body = file.read(CAST_BYTES_MAX + 1)
    except OSError as error:
        raise CastError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(body) > CAST_BYTES_MAX:
        raise CastError(f"{path.name} is larger than {CAST_BYTES_MAX} bytes")
    try:
        cast = msgspec.json.decode(body, type=Cast)
    except msgspec.DecodeError as error:
        raise CastError(f"{path.name} is not a valid cast: {error}") from error
    _check(cast, path.name)
    return cast


def write_cast(path: Path, cast: Cast) -> None:
    """Writes `cast` so that only the owner can read it, replacing what was there."""
    _check(cast, path.name)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(cast))
    part.replace(path)


def _check(cast: Cast, name: str) -> None:
    if cast.version != 1:
        raise CastError(f"{name} has version {cast.version}; this harness reads version 1")
    pools = {pool.name for pool in cast.pools}
    if len(pools) != len(cast.pools):
        raise CastError(f"{name} names a pool twice")
    for pool in cast.pools:
        if pool.architecture not in ARCHITECTURES:
            raise CastError(f"pool {pool.name} has the unknown architecture {pool.architecture}")
    for kind, names, used in (
        ("endpoint", [each.name for each in cast.endpoints], [e.pools for e in cast.endpoints]),
        ("person", [each.username for each in cast.people], [p.pools for p in cast.people]),
    ):
        if len(set(names)) != len(names):
            raise CastError(f"{name} names a {kind} twice")
        unknown = {pool for each in used for pool in each} - pools
        if unknown:
            raise CastError(f"a {kind} refers to the unknown pool {min(unknown)}")

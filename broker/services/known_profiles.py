"""Which engines hosts may name here, and whether those understand hosts' profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from broker.domain.errors import EngineError
from broker.domain.names import shown
from broker.ports import Engine


class ProfileProblem(NamedTuple):
    """`field`: engine or profile; `says`: why it is not taken."""

    field: str
    says: str


class KnownProfiles:
    """What the engines of this process say of hosts' profiles. Asks no host, and may be called
    from any thread."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """engine -> the names of its host profiles, by name; none: free text."""
        return {name: tuple(self._engines[name].profiles) for name in sorted(self._engines)}

    def problem(self, engine: str, profile: str) -> ProfileProblem | None:
        """Why no host of that engine may have that profile, knobs and all; None where it may."""
        found = self._engines.get(engine)
        if found is None:
            known = ", ".join(sorted(self._engines))
            return ProfileProblem("engine", f"{shown(engine)} is none of {known}")
        name, known = profile.partition("?")[0], ", ".join(sorted(found.profiles))
        if known and name not in found.profiles:
            return ProfileProblem("profile", f"{shown(name)} is none of {known}")
        try:
            found.check_profile(profile)
        except EngineError as error:
            return ProfileProblem("profile", error.detail)
        return None

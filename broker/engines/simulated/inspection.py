"""What is told of a simulated host: what its profile can do, and what it or the profile cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.domain.errors import EngineError
from broker.domain.features import Feature
from broker.domain.inspection import HELD, Abilities, Ability, Step, Verdict
from broker.domain.model import Host
from broker.engines.simulated.knobs import Knobs, split_profile
from broker.engines.simulated.profile import Calibration, Profile

_HELD: Final = frozenset(
    f"{what}_{resource}"
    for what in ("guarantee", "weights")
    for resource in ("cpus", "disk", "network")
)
"""what shares.py divides"""


def abilities(host: Host, calibration: Calibration, base: Knobs) -> Abilities:
    """Raises EngineError for a profile or knob that nobody knows."""
    profile, knobs = read_profile(host.profile, calibration, base)
    can = [Ability(name="desktops", says="machines that exist in memory")]
    cannot: list[Ability] = []
    for feature in Feature:
        if feature not in profile.features:
            cannot.append(Ability(name=feature.value, says=f"{profile.title} has none"))
        elif feature in knobs.turned_off:
            cannot.append(Ability(name=feature.value, says="the host's profile turns it off"))
        else:
            can.append(Ability(name=feature.value, says=f"as {profile.title} does it"))
    can.append(Ability(name="display", says="simulated frames"))
    only = "simulated frames are seen in browsers only"
    cannot += [Ability(name=name, says=only) for name in ("display_spice", "display_rdp")]
    for name in HELD:
        held = name in _HELD
        says = "what machines contend for is divided so" if held else "nothing simulated takes it"
        (can if held else cannot).append(Ability(name=name, says=says))
    facts = (
        ("hypervisor", f"simulated: {profile.title}"),
        ("CPUs", f"{host.capacity.cpus:g}"),
        ("memory", f"{host.capacity.memory_mib:,} MiB"),
    )
    return Abilities(facts=facts, can=tuple(can), cannot=tuple(cannot))


def steps(host: Host, calibration: Calibration, base: Knobs) -> Iterator[Step]:
    try:
        profile, _ = read_profile(host.profile, calibration, base)
    except EngineError as error:
        advice = (
            "docs/engines.md lists the profiles, and broker/engines/simulated/knobs.py the knobs."
        )
        yield Step(name="profile", verdict=Verdict.MISSING, says=error.detail, advice=advice)
        text = "not looked at: profile comes first"
        yield Step(name="hypervisor", verdict=Verdict.UNKNOWN, says=text)
        return
    yield Step(name="profile", verdict=Verdict.OK, says=profile.title)
    yield Step(name="hypervisor", verdict=Verdict.OK, says="simulated: nothing is started anywhere")


def read_profile(text: str, calibration: Calibration, base: Knobs) -> tuple[Profile, Knobs]:
    """What a host's profile says. Raises EngineError for a profile or knob that nobody knows."""
    name, knobs = split_profile(text, base)
    profile = calibration.profiles.get(name)
    if profile is None:
        known = ", ".join(sorted(calibration.profiles))
        raise EngineError(f"no profile is called {name!r}; known: {known}")
    return profile, knobs

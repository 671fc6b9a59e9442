"""Looking at a place in a cloud before it is added, step by step, over a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from keystoneauth1.exceptions import (
    CatalogException,
    ClientException,
    ConnectFailure,
    ConnectTimeout,
    SSLError,
)
from openstack.exceptions import ForbiddenException

from broker.domain.errors import EngineError
from broker.domain.inspection import Step, Verdict
from broker.domain.model import Host
from broker.engines.openstack.abilities import NOT_ALLOWED, no_desktops, where
from broker.engines.openstack.clouds import Cloud
from broker.engines.openstack.computes import computes, total
from broker.engines.openstack.knobs import VNC, Agent, Place, parse_profile
from broker.engines.openstack.looks import latest, quota
from broker.limits import PROBE_STEP_S

_T = TypeVar("_T")
STEPS: Final = (
    "profile", "sign_in", "compute", "place", "room", "network", "images", "display", "agent",
)  # fmt: skip
"""what is looked at, in this order"""
_NEEDED: Final = frozenset({"profile", "sign_in", "compute"})
"""steps without which none after them can be looked at"""
_ADVICE: Final[Mapping[str, str]] = {
    "profile": "docs/openstack.md lists the knobs and what each takes.",
    "sign_in": "Look at the entry of that cloud in clouds.yaml.",
}
_CLOUD: Final = "Ask whoever runs the cloud; its logs say what was refused, and why."
_THEN: Final = "Look whether a firewall drops what the broker sends, or the cloud hangs."


def ok(name: str, says: str, **found: str) -> Step:
    return Step(name=name, verdict=Verdict.OK, says=says, found=found)


def missing(name: str, says: str, advice: str) -> Step:
    return Step(name=name, verdict=Verdict.MISSING, says=says, advice=advice)


def unknown(name: str, says: str, advice: str = "") -> Step:
    return Step(name=name, verdict=Verdict.UNKNOWN, says=says, advice=advice)


class Probe:
    """One look at one place; `steps` is iterated once."""

    def __init__(self, host: Host, *, clouds: Path) -> None:
        self._profile = host.profile
        self._file = clouds
        self._cloud: Cloud | None = None

    async def steps(self) -> AsyncIterator[Step]:
        """It raises nothing; a step that others need ends what can be found when it fails."""
        stopped = ""
        try:
            for name in STEPS:
                if stopped:
                    yield unknown(name, f"not looked at: {stopped} comes first")
                    continue
                step = await self._step(name)
                yield step
                if name in _NEEDED and step.verdict is not Verdict.OK:
                    stopped = name.replace("_", "-")
        finally:
            if self._cloud is not None:
                self._cloud.leave()

    async def _step(self, name: str) -> Step:
        try:
            place = parse_profile(self._profile)
            if name == "profile":
                return ok(name, f"OpenStack: cloud {place.cloud}, {where(place)}")
            async with asyncio.timeout(PROBE_STEP_S):
                return await self._ask(place, LOOKS[name])
        except TimeoutError:
            return missing(name, f"nothing was heard for {PROBE_STEP_S:g} s", _THEN)
        except EngineError as error:
            return missing(name, error.detail, _ADVICE.get(name, _CLOUD))

    def _ask(self, place: Place, look: Callable[[Any, Place], _T]) -> Awaitable[_T]:
        if self._cloud is None:
            self._cloud = Cloud(name=place.cloud, region=place.region, clouds=self._file)
        return asyncio.shield(self._cloud.call(lambda connection: look(connection, place)))


# -------------------------------------------------------------------- on a thread


def _sign_in(connection: Any, place: Place) -> Step:
    try:
        connection.session.get_token()
    except ClientException as error:
        return _refusal(error)
    project = connection.current_project
    called = getattr(project, "name", None) or getattr(project, "id", None) or "not named"
    return ok("sign_in", f"cloud {place.cloud} lets the broker in, project {called}")


def _refusal(error: BaseException | None) -> Step:
    while error is not None:
        if isinstance(error, SSLError):
            advice = "Name the authority of the cloud's certificates: cacert in clouds.yaml."
            return missing("sign_in", "the cloud's certificate is not taken", advice)
        if isinstance(error, ConnectFailure | ConnectTimeout):
            advice = "Look at auth_url in clouds.yaml, and let the broker through the firewall."
            return missing("sign_in", "the cloud was not reached", advice)
        error = error.__cause__ or error.__context__
    return missing("sign_in", "the cloud did not let the broker in", _ADVICE["sign_in"])


def _compute(connection: Any, place: Place) -> Step:
    try:
        version = latest(connection)
    except CatalogException:
        version = ""
    if not version:
        what = f"region {place.region}" if place.region else "its region"
        text = f"the cloud has no compute service in {what}"
        return missing("compute", text, "Look at region_name in clouds.yaml, or the knob region.")
    return ok("compute", f"Nova, API {version}")


def _place(connection: Any, place: Place) -> Step:
    name = "place"
    zones = {str(one.name): one.state or {} for one in connection.compute.availability_zones()}
    if place.zone and not zones.get(place.zone, {}).get("available"):
        text = f"the cloud has no availability zone {place.zone} that takes machines"
        return missing(name, text, f"It has: {', '.join(sorted(zones)[:8]) or 'none'}.")
    found = computes(connection, place)
    if found is None and place.host:
        return unknown(name, NOT_ALLOWED, "host= needs an administrator's account.")
    why_not = no_desktops(place, found)
    if why_not:
        return missing(name, why_not, "`openstack compute service list` shows what Nova thinks.")
    return ok(name, f"{where(place)} is there")


def _room(connection: Any, place: Place) -> Step:
    """Of the compute hosts, or what the account may have, whichever is less as far as is known."""
    hosts = computes(connection, place) or ()
    own = quota(connection)
    sizes = {
        "cpus": (total(hosts, lambda one: one.cpus), own.cpus if own else None),
        "memory_mib": (total(hosts, lambda one: one.memory_mib), own.memory_mib if own else None),
    }
    least = {
        key: min(known)
        for key, both in sizes.items()
        if (known := [one for one in both if one is not None])
    }
    if len(least) < len(sizes):
        return unknown("room", f"not known: {NOT_ALLOWED}, and it has no quota")
    text = f"{least['cpus']:,} CPUs, {least['memory_mib']:,} MiB"
    return ok("room", text, **{key: str(value) for key, value in least.items()})


def _network(connection: Any, place: Place) -> Step:
    if not place.network:
        return ok("network", "the profile gives desktops no network")
    count = len(list(connection.network.networks(name=place.network)))
    if count == 1:
        return ok("network", f"network {place.network} is there")
    text = f"the cloud has {count} networks called {place.network}"
    return missing("network", text, "Choose a name that one network has: the knob network.")


def _images(connection: Any, _: Place) -> Step:
    try:
        some = next(iter(connection.image.images(status="active", limit=1)), None)
    except ForbiddenException:
        return missing("images", "the cloud's account may not see images", _CLOUD)
    if some is None:
        advice = "Upload one, called NAME-vVERSION (docs/openstack.md)."
        return unknown("images", "the cloud has no image yet that the account may use", advice)
    return ok("images", "the cloud has images that the account may use")


def _display(_: Any, place: Place) -> Step:
    if place.display != VNC:
        return ok("display", "the profile wants none (display=none)")
    advice = "The broker must reach the console proxy that Nova names (novncproxy_base_url)."
    return unknown("display", "whether Nova hands out displays shows with a machine", advice)


def _agent(_: Any, place: Place) -> Step:
    if place.agent is Agent.NONE:
        return ok("agent", "none (agent=none): a machine that runs counts as ready")
    advice = "The image's agent must find the broker over the network (docs/guest.md)."
    return unknown("agent", "whether agents link up shows with a machine", advice)


LOOKS: Final[Mapping[str, Callable[[Any, Place], Step]]] = {
    "sign_in": _sign_in,
    "compute": _compute,
    "place": _place,
    "room": _room,
    "network": _network,
    "images": _images,
    "display": _display,
    "agent": _agent,
}

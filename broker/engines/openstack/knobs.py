"""An OpenStack host's profile: `nova`, and knobs after a question mark.

    nova?cloud=campus&zone=az-1&network=desktops

Where the cloud is, and as whom it is spoken to, stands in DATA/openstack/clouds.yaml, which only
whoever runs the broker may read: a profile names the entry there, and holds no secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl

from broker.domain.errors import EngineError
from broker.domain.features import Feature

PROFILE: Final = "nova"
KNOBS: Final = ("agent", "cloud", "disk", "display", "host", "network", "region", "zone")
VNC: Final = "vnc"


class Agent(StrEnum):
    """Where a guest's agent is heard: over the network, where it links up with the ticket among
    its server's metadata. None: a server that runs counts as ready."""

    WEBSOCKET = "websocket"
    NONE = "none"


DISPLAYS: Final = (VNC, "none")
DISK_GB: Final = 20
DISK_GB_MAX: Final = 16_384
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a host's profile says.

    cloud: the entry of clouds.yaml.
    region: one of the cloud's; empty: the entry's own.
    zone: the availability zone that servers are made in; empty: the cloud chooses.
    host: the compute host that they are made on, and moved to and from, which needs an
        administrator's account; empty: the cloud chooses.
    network: the network of the desktops, by name; empty: they have none.
    disk: GiB of the flavors' root disks; 0: as large as the image, which Nova grants to
        administrators only.
    agent: where the guests' agents are heard.
    display: "vnc", by Nova's console proxy; "none": the cloud has none, or shall show none.
    """

    cloud: str
    region: str = ""
    zone: str = ""
    host: str = ""
    network: str = ""
    disk: int = DISK_GB
    display: str = VNC
    agent: Agent = Agent.WEBSOCKET

    @property
    def home(self) -> dict[str, str]:
        """See broker.ports.ProfileReader."""
        return {
            "cloud": self.cloud,
            "region": self.region,
            "host": self.host,
            "agent": self.agent.value,
        }

    @property
    def displays(self) -> frozenset[str]:
        return frozenset({self.display} - {"none"})

    @property
    def features(self) -> frozenset[Feature]:
        """A live migration needs to know its ends. A resize of Nova's restarts the server."""
        moves = {Feature.MIGRATE} if self.host else set()
        return frozenset({Feature.SUSPEND, *moves})


def parse_profile(text: str) -> Place:
    """What a host's profile says.

    Raises:
        EngineError: another profile, an unknown knob, or a value that it does not take.
    """
    name, _, query = text.partition("?")
    if name != PROFILE:
        raise EngineError(f"no OpenStack profile is called {name!r}; known: {PROFILE}")
    given: dict[str, str] = {}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=len(KNOBS)
        )
    except ValueError:
        raise EngineError("the knobs after the question mark are not key=value pairs") from None
    for key, value in pairs:
        if key not in KNOBS:
            raise EngineError(f"no knob is called {key!r}; known: {', '.join(KNOBS)}")
        if key in given:
            raise EngineError(f"knob {key} is given twice")
        given[key] = value
    agent = given.get("agent", Agent.WEBSOCKET)
    if agent not in tuple(Agent):
        raise EngineError(f"knob agent: {agent!r} is not taken; known: {', '.join(Agent)}")
    display = given.get("display", VNC)
    if display not in DISPLAYS:
        raise EngineError(f"knob display: {display!r} is not taken; known: {', '.join(DISPLAYS)}")
    disk = given.get("disk", str(DISK_GB))
    if not disk.isascii() or not disk.isdecimal() or int(disk) > DISK_GB_MAX:
        raise EngineError(f"knob disk: whole GiB, at most {DISK_GB_MAX}")
    return Place(
        cloud=_word("cloud", given.get("cloud", "trivium")),
        region=_word("region", given.get("region", ""), empty=True),
        zone=_word("zone", given.get("zone", ""), empty=True),
        host=_word("host", given.get("host", ""), empty=True),
        network=_word("network", given.get("network", ""), empty=True),
        disk=int(disk),
        display=display,
        agent=Agent(agent),
    )


def _word(key: str, value: str, *, empty: bool = False) -> str:
    if (empty and not value) or _WORD.fullmatch(value):
        return value
    raise EngineError(f"knob {key}: {value!r} is not taken")

"""Whether a server is what it should be: what Nova says of it held against what the broker wants.

Of a server's inside Nova tells nothing. What the account may not know, as the compute host, is left
out of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.domain.drift import Difference, differences
from broker.engines.openstack.knobs import Place

_RUNS: Final = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """size: CPUs, MiB, GiB of disk. image: its id in this cloud, None where there is none now."""

    place: Place
    name: str
    size: tuple[int, int, int]
    image: str | None
    image_name: str
    tags: tuple[str, ...]
    metadata: Mapping[str, str]


def compare(server: Any, wanted: Wanted) -> tuple[Difference, ...]:
    """`server` as openstacksdk has it, with its details."""
    found, want = {}, {}

    def hold(what: str, there: object, here: object) -> None:
        found[what], want[what] = str(there or ""), str(here or "")

    flavor, place = server.flavor or {}, wanted.place
    hold("name", server.name, wanted.name)
    hold("state", (server.status or "").lower(), _RUNS)
    for part, key, unit, size in zip(
        ("CPUs", "memory", "disk"), ("vcpus", "ram", "disk"), ("", " MiB", " GiB"), wanted.size,
        strict=True,
    ):  # fmt: skip
        hold(part, f"{flavor.get(key) or 0}{unit}", f"{size}{unit}")
    if wanted.image is not None:
        image = (server.image or {}).get("id", "")
        hold("image", wanted.image_name if image == wanted.image else image, wanted.image_name)
    hold("networks", ", ".join(sorted(server.addresses or {})), place.network)
    hold("volumes", len(server.attached_volumes or ()), 0)
    hold("locked", "by somebody" if server.is_locked else "", "")
    if place.host and server.compute_host:
        hold("compute host", server.compute_host, place.host)
    if place.zone and server.availability_zone:
        hold("availability zone", server.availability_zone, place.zone)
    tags = [one for one in wanted.tags if one in (server.tags or ())]
    hold("tags", ", ".join(sorted(tags)), ", ".join(sorted(wanted.tags)))
    said = server.metadata or {}
    for key, value in wanted.metadata.items():
        hold(f"metadata {key}", said.get(key), value)
    return differences(found, want)

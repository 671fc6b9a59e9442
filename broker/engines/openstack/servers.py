"""What is asked of a cloud about servers, as openstacksdk has it. All of this blocks.

A server of this installation carries two tags, which can be looked for: one of the installation,
one of the desktop. Its metadata say the generation, where it was made, and the latest operations.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from openstack.exceptions import BadRequestException, ForbiddenException, NotFoundException

from broker.domain.drift import Difference
from broker.domain.errors import EngineError, StaleGenerationError
from broker.domain.model import Image, Resources
from broker.engines.openstack.consoles import Handed, hand_out
from broker.engines.openstack.drift import Wanted, compare
from broker.engines.openstack.knobs import Place
from broker.limits import OPENSTACK_PAGE, OPENSTACK_SERVERS_MAX
from broker.ports import Operation

_log = logging.getLogger("trivium.openstack")
METADATA: Final = "trivium_"
VALUE_CHARS_MAX: Final = 255
"""Nova's own, of a metadata value"""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_COMING: Final = frozenset({"BUILD", "REBUILD", "REBOOT", "HARD_REBOOT", "MIGRATING"})
_PLACED: Final = frozenset({"networking", "block_device_mapping", "spawning"})
_URN: Final = "urn:trivium:desktop:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A server of this installation. `compute`: its compute host, where the account may know."""

    id: str
    desktop_id: str
    generation: int
    host_id: str
    operations: tuple[str, ...]
    status: str
    task: str
    compute: str
    flavor: tuple[int, int, int]
    """CPUs, MiB, GiB of disk"""
    created_at: str
    name: str = ""
    """the desktop's; empty: its agent is not to link up"""
    users: tuple[str, ...] = ()
    """sessions whose displays were opened since it was made fresh"""
    launched_at: str = ""
    """when Nova last made its disk, and started it"""
    before: str = ""
    """`launched_at` as its last rebuild found it"""

    @property
    def unmade(self) -> bool:
        """Its rebuild failed before anything was done: Nova writes image and metadata first, and
        takes neither back. By them it is of its generation, by its disk of the one before."""
        return self.at_rest and bool(self.before) and self.before == self.launched_at

    @property
    def ready(self) -> bool:
        return self.status == "ACTIVE" and not self.task and not self.unmade

    @property
    def rebuildable(self) -> bool:
        """Nova would rebuild it, and it would be seen whether it did."""
        return self.ready and bool(self.launched_at)

    @property
    def running(self) -> bool:
        """It runs as what it is said to be, or is on its way there."""
        return (self.status == "ACTIVE" or self.status in _COMING) and not self.unmade

    @property
    def suspended(self) -> bool:
        return self.status == "SUSPENDED" and not self.unmade

    @property
    def placed(self) -> bool:
        """A compute host has taken it."""
        return self.status != "BUILD" or self.task in _PLACED

    @property
    def at_rest(self) -> bool:
        return not self.task and self.status not in _COMING

    def fits(self, place: Place, resources: Resources) -> bool:
        """Whether it has that size, and is where that place is, as far as the account may know."""
        here = not place.host or self.compute in {"", place.host}
        return here and self.flavor == _size(resources, place.disk)


class Servers:
    """Through one connection. `installation_id` marks its servers; it touches no others."""

    def __init__(self, connection: Any, installation_id: str) -> None:
        self._compute = connection.compute
        self._network = connection.network
        self._images = connection.image
        self._installation_id = installation_id

    # ------------------------------------------------------------------ what there is

    def all(self) -> list[Found]:
        """The best of each desktop, all pages."""
        best: dict[str, Found] = {}
        for one in self._tagged(installation_tag(self._installation_id)):
            best[one.desktop_id] = _better(best.get(one.desktop_id), one)
        return list(best.values())

    def of(self, desktop_id: str) -> list[Found]:
        """The best first: two can be there only after a call whose answer was lost."""
        found = list(self._tagged(desktop_tag(self._installation_id, desktop_id)))
        return sorted(found, key=_worth)

    def at(self, server_id: str) -> Found | None:
        try:
            return self._read(self._compute.get_server(server_id))
        except NotFoundException:
            return None

    def _tagged(self, tag: str) -> Iterator[Found]:
        seen: set[str] = set()
        page: list[Any] = []
        longest = 0
        while True:
            page = self._page(tag, page)
            new = {server.id for server in page} - seen
            for server in page:
                found = self._read(server)
                if found is not None and found.id not in seen:
                    yield found
                seen.add(server.id)
            # Nova cuts pages to a limit of its own, of which it says nothing
            if not new or len(page) < longest:
                return
            if len(seen) >= OPENSTACK_SERVERS_MAX:
                raise EngineError(f"the cloud has more than {OPENSTACK_SERVERS_MAX} desktops")
            longest = len(page)

    def _page(self, tag: str, before: Sequence[Any]) -> list[Any]:
        """The page after that one; after the last of it that is still there, for Nova knows no
        marker that is gone."""
        # openstacksdk's own paging takes it for an endless loop when Nova, between two of its
        # databases, names a server twice
        listed = partial(
            self._compute.servers, details=True, tags=tag, limit=OPENSTACK_PAGE, paginated=False
        )
        for server in reversed(before):
            with contextlib.suppress(BadRequestException):
                return list(listed(marker=server.id))
        return list(listed())

    def _read(self, server: Any) -> Found | None:
        """None for one that this version did not make."""
        said: dict[str, str] = dict(server.metadata or {})
        generation = said.get(f"{METADATA}generation", "")
        if said.get(f"{METADATA}installation") != self._installation_id:
            return None
        if not generation.isascii() or not generation.isdecimal():
            return None
        flavor = server.flavor or {}
        return Found(
            id=server.id,
            desktop_id=said.get(f"{METADATA}desktop", ""),
            generation=int(generation),
            host_id=said.get(f"{METADATA}host", ""),
            operations=tuple(said.get(f"{METADATA}operations", "").split()),
            status=server.status or "",
            task=server.task_state or "",
            compute=server.compute_host or "",
            flavor=(flavor.get("vcpus") or 0, flavor.get("ram") or 0, flavor.get("disk") or 0),
            created_at=server.created_at or "",
            name=said.get(f"{METADATA}name", ""),
            users=tuple(said.get(f"{METADATA}users", "").split()),
            launched_at=server.launched_at or "",
            before=said.get(f"{METADATA}before", ""),
        )

    # ---------------------------------------------------------------- made and removed

    def make(self, place: Place, operation: Operation, given: dict[str, str]) -> Found:
        """Asked for; it is built while others look on. Surplus ones are removed. `given`: what its
        agent must find among its metadata."""
        desktop = operation.desktop
        own = {"host": place.host} if place.host else {}
        zone = {"availability_zone": place.zone} if place.zone else {}
        wanted = {
            "image_id": self._image(operation.image),
            "flavor_id": self._flavor(desktop.resources, place.disk),
            "networks": self._networks(place),
        }
        made = self._create(
            name=server_name(desktop.id),
            **wanted,
            tags=list(self._tags(desktop.id)),
            metadata=self._metadata(operation) | given,
            **own,
            **zone,
        )
        found = self.of(desktop.id)
        self.delete(found[1:])
        best = found[0] if found else self.at(made.id)
        if best is None:
            raise EngineError("the machine went while it was made")
        return best

    def _create(self, **wanted: Any) -> Any:
        try:
            return self._compute.create_server(**wanted)
        except ForbiddenException as error:
            _log.warning("%s", error)
            raise EngineError(
                "the cloud forbids this server: a quota is used up, or the account may not have"
                " its place or its disk"
            ) from None

    def rebuild(self, found: Found, operation: Operation, given: dict[str, str]) -> None:
        """Back to its image, under the desktop's generation from the same call on; see
        Found.unmade for one that fails."""
        before = {f"{METADATA}before": found.launched_at}
        self._compute.rebuild_server(
            found.id,
            image=self._image(operation.image),
            metadata=self._metadata(operation) | before | given,
        )

    def delete(self, found: Iterable[Found]) -> None:
        for one in found:
            self._compute.delete_server(one.id)

    def is_gone(self, found: Found) -> bool:
        """Of a server that was removed. A cloud that keeps such for a while has it removed for
        good, or kept where the account may not ask for that: it is in no list any more."""
        now = self.at(found.id)
        if now is None or now.status == "DELETED":
            return True
        if now.status != "SOFT_DELETED" or now.task:
            return False
        try:
            self._compute.delete_server(found.id, force=True)
        except (NotFoundException, ForbiddenException):
            return True
        return False

    # ------------------------------------------------------------------------- states

    def suspend(self, found: Found) -> None:
        self._compute.suspend_server(found.id)

    def resume(self, found: Found) -> None:
        self._compute.resume_server(found.id)

    def start(self, found: Found) -> None:
        self._compute.start_server(found.id)

    def restart(self, found: Found) -> None:
        self._compute.reboot_server(found.id, "HARD")

    def migrate(self, found: Found, host: str) -> None:
        self._compute.live_migrate_server(found.id, host=host, block_migration="auto")

    def tag(self, found: Found, operation_id: str, host_id: str = "") -> None:
        """That operation is done; `host_id`: and it is at that host now."""
        changes = {f"{METADATA}operations": _kept((*found.operations, operation_id))}
        if host_id:
            changes[f"{METADATA}host"] = host_id
        self._compute.set_server_metadata(found.id, **changes)

    def show(self, found: Found, session_id: str) -> Handed:
        """Its display, for that session, whose data lie on it from then on."""
        if session_id and session_id not in found.users:
            users = {f"{METADATA}users": _kept((*found.users, session_id))}
            self._compute.set_server_metadata(found.id, **users)
        return hand_out(self._compute, found.id)

    def drift(self, place: Place, operation: Operation) -> tuple[Difference, ...]:
        """How the desktop's server differs from what that operation would make it. One that is on
        its way, or of an earlier generation, is not compared. Raises EngineError without one."""
        desktop = operation.desktop
        server = self._seen(desktop.id)
        if server is None:
            raise EngineError(f"there is no machine of {desktop.name}")
        found = self._read(server)
        if found is not None and found.generation > desktop.generation:
            raise StaleGenerationError
        if server.task_state or server.status in _COMING:
            return ()
        if found is not None and found.generation < desktop.generation:
            return ()
        metadata = self._metadata(operation)
        told = ("installation", "desktop", "generation")
        return compare(
            server,
            Wanted(
                place=place,
                name=server_name(desktop.id),
                size=_size(desktop.resources, place.disk),
                image=self._image_now(operation.image),
                image_name=f"{operation.image.name}-v{operation.image.version}",
                tags=self._tags(desktop.id),
                metadata={f"{METADATA}{one}": metadata[f"{METADATA}{one}"] for one in told},
            ),
        )

    # -------------------------------------------------------------------------- parts

    def _seen(self, desktop_id: str) -> Any:
        """Its server, also where tags or metadata of it are gone; None: there is none."""
        tags = self._tags(desktop_id)
        name = server_name(desktop_id)
        for query in ({"tags": tags[1]}, {"name": f"^{name}$"}):
            listed = self._compute.servers(
                details=True, limit=OPENSTACK_PAGE, paginated=False, **query
            )
            ours = [one for one in listed if self._is_ours(one, tags)]
            known = [(one, found) for one in ours if (found := self._read(one)) is not None]
            if known:
                return min(known, key=lambda both: _worth(both[1]))[0]
            if ours:
                return min(ours, key=lambda one: (one.created_at or "", one.id))
        return None

    def _is_ours(self, server: Any, tags: tuple[str, ...]) -> bool:
        said = (server.metadata or {}).get(f"{METADATA}installation")
        return said == self._installation_id or bool({*tags} & {*(server.tags or ())})

    def _tags(self, desktop_id: str) -> tuple[str, ...]:
        """Of the installation, and of the desktop."""
        return (
            installation_tag(self._installation_id),
            desktop_tag(self._installation_id, desktop_id),
        )

    def _image_now(self, image: Image) -> str | None:
        """None where the cloud has none of that name any more."""
        try:
            return self._image(image)
        except EngineError:
            return None

    def _metadata(self, operation: Operation) -> dict[str, str]:
        return {
            f"{METADATA}installation": self._installation_id,
            f"{METADATA}desktop": checked_id(operation.desktop.id),
            f"{METADATA}generation": str(operation.desktop.generation),
            f"{METADATA}host": operation.host.id,
            f"{METADATA}operations": _kept((operation.id,)),
        }

    def _image(self, image: Image) -> str:
        if not _IMAGE.fullmatch(image.name):
            raise EngineError("the image's name cannot be looked for")
        name = f"{image.name}-v{image.version}"
        found = [str(one.id) for one in self._images.images(name=name, status="active")]
        if len(found) != 1:
            raise EngineError(f"the cloud has {len(found)} images called {name}, not one")
        return found[0]

    def _flavor(self, resources: Resources, disk: int) -> str:
        """The first of that size that this account may use, made if it may."""
        size = _size(resources, disk)
        found = sorted(
            (str(one.name), str(one.id))
            for one in self._compute.flavors()
            if (one.vcpus, one.ram, one.disk) == size and not one.ephemeral
        )
        if found:
            return found[0][1]
        cpus, memory_mib, _ = size
        try:
            made = self._compute.create_flavor(
                name=f"trivium-{cpus}c-{memory_mib}m-{disk}g",
                vcpus=cpus, ram=memory_mib, disk=disk,
            )  # fmt: skip
        except ForbiddenException:
            raise EngineError(
                f"the cloud has no flavor of {cpus} CPUs, {memory_mib} MiB and {disk} GiB of disk"
            ) from None
        return str(made.id)

    def _networks(self, place: Place) -> str | list[dict[str, str]]:
        if not place.network:
            return "none"
        found = [str(one.id) for one in self._network.networks(name=place.network)]
        if len(found) != 1:
            raise EngineError(f"the cloud has {len(found)} networks called {place.network}")
        return [{"uuid": found[0]}]


def _size(resources: Resources, disk: int) -> tuple[int, int, int]:
    return math.ceil(resources.cpus), resources.memory_mib, disk


def _worth(found: Found) -> tuple[int, str, str]:
    """Of the latest generation; of those the first made."""
    return -found.generation, found.created_at, found.id


def _better(one: Found | None, other: Found) -> Found:
    return other if one is None else min(one, other, key=_worth)


def _kept(operations: Iterable[str]) -> str:
    """The latest that one value holds."""
    kept = ""
    for one in reversed(tuple(operations)):
        if len(kept) + len(one) + 1 > VALUE_CHARS_MAX:
            break
        kept = f"{one} {kept}"
    return kept.strip()


def checked_id(desktop_id: str) -> str:
    """The id, where it can be part of a server's name; EngineError where not."""
    if not _ID.fullmatch(desktop_id):
        raise EngineError("the desktop's id cannot name a machine")
    return desktop_id


def server_name(desktop_id: str) -> str:
    return f"trivium-{checked_id(desktop_id)}"


def installation_tag(installation_id: str) -> str:
    return f"trivium-i-{uuid5(NAMESPACE_URL, f'{_URN}/{installation_id}').hex}"


def desktop_tag(installation_id: str, desktop_id: str) -> str:
    return f"trivium-d-{uuid5(NAMESPACE_URL, f'{_URN}/{installation_id}/{desktop_id}').hex}"

"""A Nova in this process, as openstacksdk shows it: settings and mishaps that a lab lacks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

from openstack.exceptions import (
    BadRequestException,
    ForbiddenException,
    HttpException,
    NotFoundException,
)

MIB: Final = 4096
CPUS: Final = 2


class PretendNova:
    """As much of a connection as the engine asks. Each mishap is a switch."""

    def __init__(self, *, max_limit: int = 1000) -> None:
        self.max_limit = max_limit
        """[api]max_limit"""
        self.away = False
        self.rebuilds_fail = False
        """as when Glance is away from the compute host: nothing but the task is taken back"""
        self.keeps_deleted = False
        """reclaim_instance_interval > 0"""
        self.may_force = True
        """the policy lets the account delete for good"""
        self.lists = 0
        self.kept: dict[str, SimpleNamespace] = {}
        self._numbers = itertools.count(1)
        self.compute = self.image = self.network = self

    def close(self) -> None: ...

    def images(self, *, name: str, status: str) -> list[SimpleNamespace]:
        del status
        return [SimpleNamespace(id=f"image-{name}")]

    def flavors(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(id="f", name="f", vcpus=CPUS, ram=MIB, disk=20, ephemeral=0),
        ]

    # ------------------------------------------------------------------------ servers

    def servers(
        self, *, tags: str, limit: int, marker: str = "", details: bool, paginated: bool
    ) -> Iterator[SimpleNamespace]:
        assert details
        assert not paginated
        self._answer()
        self.lists += 1
        listed = [one for one in self.kept.values() if one.status != "SOFT_DELETED"]
        listed = [one for one in listed if tags in one.tags]
        ids = [one.id for one in listed]
        if marker and marker not in ids:
            raise BadRequestException(f"marker [{marker}] not found")
        first = ids.index(marker) + 1 if marker else 0
        return iter(listed[first : first + min(limit, self.max_limit)])

    def get_server(self, server_id: str) -> SimpleNamespace:
        self._answer()
        if server_id not in self.kept:
            raise NotFoundException
        return self.kept[server_id]

    def create_server(self, **wanted: Any) -> SimpleNamespace:
        self._answer()
        number = next(self._numbers)
        one = SimpleNamespace(
            id=f"server-{number}", name=wanted["name"], tags=wanted["tags"],
            metadata=dict(wanted["metadata"]), status="ACTIVE", task_state=None,
            compute_host="", flavor={"vcpus": CPUS, "ram": MIB, "disk": 20},
            created_at=f"2026-09-01T00:00:{number:02}Z", launched_at=self._now(),
        )  # fmt: skip
        self.kept[one.id] = one
        return one

    def rebuild_server(self, server_id: str, *, image: str, metadata: dict[str, str]) -> None:
        del image
        one = self.get_server(server_id)
        one.metadata = dict(metadata)
        if not self.rebuilds_fail:
            one.launched_at = self._now()

    def set_server_metadata(self, server_id: str, **changes: str) -> None:
        self.get_server(server_id).metadata |= changes

    def start_server(self, server_id: str) -> None:
        self.get_server(server_id).status = "ACTIVE"

    def resume_server(self, server_id: str) -> None:
        self.get_server(server_id).status = "ACTIVE"

    def delete_server(self, server_id: str, *, force: bool = False) -> None:
        self._answer()
        if force and not self.may_force:
            raise ForbiddenException
        if server_id in self.kept and self.keeps_deleted and not force:
            self.kept[server_id].status = "SOFT_DELETED"
        else:
            self.kept.pop(server_id, None)

    def _answer(self) -> None:
        if self.away:
            raise HttpException("the cloud is away")

    def _now(self) -> str:
        return f"2026-09-02T00:00:00.{next(self._numbers):06}"

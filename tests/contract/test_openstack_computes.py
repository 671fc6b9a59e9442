"""What is read out of Nova's lists of compute hosts, and told of them; Nova's answers by hand."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from openstack.exceptions import ForbiddenException

from broker.domain.errors import EngineError
from broker.engines.openstack import computes as asked
from broker.engines.openstack.abilities import abilities, condition, no_desktops
from broker.engines.openstack.computes import Compute, computes
from broker.engines.openstack.knobs import Place
from broker.engines.openstack.looks import Quota, Seen

ANYWHERE = Place(cloud="campus")
_GIB = 1 << 30


def hypervisor(number: int = 1, **changes: Any) -> dict[str, Any]:
    """As Nova writes it in API 2.53."""
    return {
        "id": f"id-{number}", "hypervisor_hostname": f"node-{number}", "state": "up",
        "status": "enabled", "hypervisor_type": "QEMU", "hypervisor_version": 7002005,
        "service": {"id": "s", "host": f"c{number}", "disabled_reason": None},
        "vcpus": 64, "vcpus_used": 16, "memory_mb": 256_000, "memory_mb_used": 100_000,
        "local_gb": 900, "local_gb_used": 400, "running_vms": 12,
    } | changes  # fmt: skip


class Nova:
    """Of the API what is asked here. `services`: host -> zone, None: the account may not look."""

    def __init__(
        self, *hypervisors: Mapping[str, Any], services: Mapping[str, str] | None = None,
        max_limit: int = 1000,
    ) -> None:  # fmt: skip
        self._all = list(hypervisors)
        self._max_limit = max_limit
        self._services = services
        self.compute = self

    def get(self, path: str, *, params: Mapping[str, Any], microversion: str) -> SimpleNamespace:
        assert (path, microversion) == ("/os-hypervisors/detail", "2.53")
        ids = [one["id"] for one in self._all]
        first = ids.index(params["marker"]) + 1 if "marker" in params else 0
        page = self._all[first : first + min(params["limit"], self._max_limit)]
        return SimpleNamespace(status_code=200, json=lambda: {"hypervisors": page})

    def services(self, *, binary: str) -> list[SimpleNamespace]:
        assert binary == "nova-compute"
        if self._services is None:
            raise ForbiddenException
        return [
            SimpleNamespace(host=host, availability_zone=zone, is_forced_down=False)
            for host, zone in self._services.items()
        ]


def found(nova: Nova, place: Place = ANYWHERE) -> tuple[Compute, ...]:
    told = computes(nova, place)
    assert told is not None
    return told


def test_all_pages_are_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "OPENSTACK_PAGE", 2)
    nova = Nova(*(hypervisor(number) for number in range(5)), services={})
    assert [one.host for one in found(nova)] == ["c0", "c1", "c2", "c3", "c4"]
    monkeypatch.setattr(asked, "OPENSTACK_COMPUTES_MAX", 4)
    with pytest.raises(EngineError, match="more than 4"):
        computes(nova, ANYWHERE)


@pytest.mark.parametrize("count", [3, 4])
def test_all_pages_are_read_of_a_cloud_that_makes_them_shorter(count: int) -> None:
    nova = Nova(*(hypervisor(number) for number in range(count)), services={}, max_limit=2)
    assert [one.host for one in found(nova)] == [f"c{number}" for number in range(count)]


def test_those_of_the_place_are_told_by_host_or_zone() -> None:
    nova = Nova(hypervisor(1), hypervisor(2), services={"c1": "az-1", "c2": "az-2"})
    assert [one.host for one in found(nova, Place(cloud="campus", zone="az-2"))] == ["c2"]
    assert [one.host for one in found(nova, Place(cloud="campus", host="c1"))] == ["c1"]
    assert found(nova, Place(cloud="campus", zone="az-3")) == ()


def test_without_the_services_zones_and_what_was_forced_down_are_not_known() -> None:
    nova = Nova(hypervisor())
    assert computes(nova, Place(cloud="campus", zone="az-1")) is None
    [one] = found(nova)
    assert (one.forced_down, one.state, one.takes) == (None, "up, enabled", True)


@pytest.mark.parametrize(
    ("sort", "number", "version"),
    [
        ("QEMU", 7002005, "7.2.5"),
        ("kvm", 10001000, "10.1.0"),
        ("fake", 1000, "1000"),
        ("ironic", 1, "1"),
        ("QEMU", None, ""),
    ],
)
def test_a_version_is_told_as_people_write_it(sort: str, number: int | None, version: str) -> None:
    nova = Nova(hypervisor(hypervisor_type=sort, hypervisor_version=number), services={})
    assert found(nova)[0].version == version


@pytest.mark.parametrize("value", [None, -1, "many"])
def test_what_nova_does_not_say_is_not_known_and_is_no_nought(value: object) -> None:
    strange = hypervisor(2, memory_mb_used=value, local_gb=value, state="odd", status=value)
    told = found(Nova(hypervisor(1), strange, services={}))
    assert (told[1].memory_used_mib, told[1].up, told[1].enabled) == (None, None, None)
    assert told[1].takes
    now = condition(told)
    assert (now.memory_mib, now.memory_free_mib) == (512_000, None)
    assert (now.disk_total, now.disk_free) == (None, None)
    assert {"memory", "disk"} <= set(now.unknown)
    facts = dict(abilities(ANYWHERE, Seen(api="2.90", computes=told, quota=None)).facts)
    assert facts["memory"] == "512,000 MiB, not known how much is used"
    assert facts["disks"] == "not known, 800 GiB used"
    assert facts["compute hosts"] == "c1: up, enabled; c2: not known"


def test_a_place_that_gives_more_than_it_has_has_nothing_free() -> None:
    now = condition(found(Nova(hypervisor(local_gb_used=1000), services={})))
    assert (now.disk_total, now.disk_free) == (900 * _GIB, 0)
    assert set(now.unknown) == {"pressure", "page_sharing"}


def test_nothing_is_made_where_every_compute_host_is_down_or_disabled() -> None:
    off = {"service": {"host": "c2", "disabled_reason": "new\x1bmemory"}, "status": "disabled"}
    told = found(Nova(hypervisor(1, state="down"), hypervisor(2, **off), services={}))
    assert no_desktops(ANYWHERE, told) == (
        "Nova makes nothing there (c1: down, enabled; c2: up, disabled (newmemory))"
    )
    assert no_desktops(ANYWHERE, (*told, *found(Nova(hypervisor(3), services={})))) == ""
    assert no_desktops(ANYWHERE, None) == ""
    assert no_desktops(ANYWHERE, ())


def test_a_quota_without_a_limit_is_told_as_such() -> None:
    quota = Quota(
        cpus=None, cpus_used=3, memory_mib=4096, memory_used_mib=1024, machines=10, machines_used=2
    )
    facts = dict(abilities(ANYWHERE, Seen(api="", computes=None, quota=quota)).facts)
    assert facts["the account's quota"] == (
        "3 of any number of CPUs; 1,024 of 4,096 MiB of memory; 2 of 10 machines"
    )
    assert "Nova's API" not in facts

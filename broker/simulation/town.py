"""Who and what there is in a simulated installation."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    Endpoint,
    EndpointKind,
    EndpointState,
    Group,
    Host,
    HostState,
    Identity,
    Image,
    LogOff,
    Pool,
    PoolKind,
    Resources,
    Role,
    User,
)
from broker.domain.policy.rules import EntitlementRule, Quota
from broker.domain.settings import SiteSettings
from broker.ports import RosterChange
from broker.simulation.rulers import (
    GROUPS,
    SIZE,
    draw_host_settings,
    draw_pool_settings,
    draw_quotas,
    draw_rules,
    draw_site,
)
from broker.simulation.seams import EPOCH_MS, public_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """The roster, what is set beside it, and who sits where. Stations that are not in the roster
    enrol by themselves."""

    change: RosterChange
    rules: tuple[EntitlementRule, ...]
    quotas: tuple[Quota, ...]
    site: SiteSettings
    people: tuple[Identity, ...]
    administrators: tuple[Identity, ...]
    stations: tuple[tuple[str, str], ...]
    """(name, architecture that it can carry)"""


def key_of_station(name: str) -> bytes:
    return name.encode().ljust(32, b".")[:32]


def _pool(number: int, architecture: Architecture, chance: Random, **changes: object) -> Pool:
    vdi = architecture is Architecture.VDI
    size_max = chance.randint(3, 7) if vdi else 100
    settings = draw_pool_settings(chance, size_max, vdi=vdi)
    values: dict[str, object] = {
        "id": f"pol_{number:08d}",
        "name": f"{architecture}-{number}",
        "title": f"Pool {number}",
        "architecture": architecture,
        "kind": PoolKind.FLOATING,
        "image_id": f"img_{chance.randint(1, 2):08d}",
        "resources": SIZE,
        "spares_min": chance.randint(0, 3) if vdi else 0,
        "size_max": size_max,
        "log_off": chance.choice((LogOff.RESET, LogOff.DELETE)),
        "disconnect_grace_s": chance.choice((5, 20, 60, 180)),
        "lease_s": chance.choice((120, 400, 1800)),
        "enabled": True,
        "group_ids": GROUPS,
        "created_at": EPOCH_MS,
        "settings": settings,
    }
    return Pool(**(values | changes))  # type: ignore[arg-type]


def _endpoint(number: int, kind: EndpointKind, name: str, pool_ids: tuple[str, ...]) -> Endpoint:
    return Endpoint(
        id=f"ept_{number:08d}",
        name=name,
        kind=kind,
        location="Room 1",
        state=EndpointState.ENROLLED,
        public_key=public_key(key_of_station(name)),
        pool_ids=pool_ids,
        agent_version="",
        last_seen_at=None,
        created_at=EPOCH_MS,
    )


def _place(number: int, endpoint: Endpoint, pool: Pool) -> Desktop:
    return Desktop(
        id=f"dsk_{number:08d}",
        name=f"{endpoint.name}/{pool.name}",
        pool_id=pool.id,
        architecture=pool.architecture,
        host_id=None,
        endpoint_id=endpoint.id,
        owner_id=None,
        state=DesktopState.UNAVAILABLE,
        target=None,
        deadline_at=None,
        generation=1,
        resources=pool.resources,
        note="",
        created_at=EPOCH_MS,
        changed_at=EPOCH_MS,
    )


def _people(count: int) -> tuple[Identity, ...]:
    return tuple(
        Identity(
            user_id=f"usr_{number:08d}",
            username=f"person{number}",
            role=Role.USER,
            token_id="-",
            group_ids=GROUPS[:1] if number % 4 else GROUPS[1:],
        )
        for number in range(1, count + 1)
    )


def _user(identity: Identity) -> User:
    return User(
        id=identity.user_id,
        username=identity.username,
        display_name=identity.username,
        role=identity.role,
        enabled=True,
        group_ids=identity.group_ids,
        created_at=EPOCH_MS,
    )


def _images() -> tuple[Image, ...]:
    return tuple(
        Image(
            id=f"img_{number:08d}",
            name=f"image{number}",
            version=1,
            size_bytes=3 * 2**20,
            boot_bytes=2 * 2**20,
            created_at=EPOCH_MS,
        )
        for number in (1, 2)
    )


def _hosts(chance: Random) -> tuple[Host, ...]:
    return tuple(
        Host(
            id=f"hst_{number:08d}",
            name=f"server-{number}",
            engine="simulated",
            profile=chance.choice(("bare-metal", "paravirtual", "container")),
            state=HostState.UP,
            capacity=Resources(cpus=8, memory_mib=chance.choice((16_384, 32_768))),
            overcommit_cpu=chance.choice((1.5, 2.0, 4.0)),
            start_limit=chance.randint(1, 4),
            created_at=EPOCH_MS,
            settings=draw_host_settings(chance),
        )
        for number in (1, 2)
    )


def build_town(chance: Random) -> Town:
    """Two VDI pools (one of them may be dedicated), an IDV and a VOI pool; 10 to 16 endpoints,
    24 to 44 people in two groups, two servers that may be too small for everybody; rules and
    quotas. What is set for pools, hosts and the site is drawn in rulers.py."""
    dedicated = chance.random() < 0.4
    pools = (
        _pool(1, Architecture.VDI, chance),
        _pool(
            2,
            Architecture.VDI,
            chance,
            kind=PoolKind.DEDICATED,
            log_off=chance.choice((LogOff.KEEP, LogOff.KEEP, LogOff.RESET)),
        )
        if dedicated
        else _pool(2, Architecture.VDI, chance),
        _pool(3, Architecture.IDV, chance, log_off=LogOff.RESET),
        _pool(4, Architecture.VOI, chance, log_off=LogOff.RESET),
    )
    endpoints: list[Endpoint] = []
    places: list[Desktop] = []
    stations: list[tuple[str, str]] = []
    for architecture, pool in (("vdi", None), ("idv", pools[2]), ("voi", pools[3])):
        for _ in range(chance.randint(3, 5)):
            number = len(stations) + 1
            name = f"{architecture.upper()}-{number:02d}"
            stations.append((name, architecture))
            kind = EndpointKind.THIN if pool is None else EndpointKind.FAT
            endpoint = _endpoint(number, kind, name, () if pool is None else (pool.id,))
            endpoints.append(endpoint)
            if pool is not None:
                places.append(_place(number, endpoint, pool))
    stations.append(("NEW-01", "vdi"))
    people = _people(chance.randint(24, 44))
    administrators = tuple(
        Identity(
            user_id=f"usr_9999999{number}",
            username=f"root{number}",
            role=Role.ADMINISTRATOR,
            token_id="-",
        )
        for number in (1, 2)
    )
    groups = tuple(
        Group(id=f"grp_{number:08d}", name=f"class{number}", title="", created_at=EPOCH_MS)
        for number in (1, 2)
    )
    change = RosterChange(
        groups=groups,
        users=tuple(_user(one) for one in (*people, *administrators)),
        images=_images(),
        hosts=_hosts(chance),
        pools=pools,
        endpoints=tuple(endpoints),
        desktops=tuple(places),
    )
    return Town(
        change=change,
        rules=draw_rules(chance, [one.id for one in pools], [one.id for one in endpoints]),
        quotas=draw_quotas(chance, [one.id for one in pools]),
        site=draw_site(chance),
        people=people,
        administrators=administrators,
        stations=tuple(stations),
    )

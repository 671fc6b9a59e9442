"""Users, groups, images, pools and hosts."""

from __future__ import annotations

from broker.domain.model import (
    Architecture,
    Group,
    Host,
    HostState,
    Image,
    LogOff,
    Pool,
    PoolKind,
    Resources,
    Role,
    User,
)
from broker.store.paging import folded
from broker.store.sql import tables as t
from broker.store.sql.rows import Row, Values

USER = (
    t.users.c.id,
    t.users.c.username,
    t.users.c.display_name,
    t.users.c.role,
    t.users.c.enabled,
    t.users.c.created_at,
)


def to_user(row: Row, group_ids: tuple[str, ...]) -> User:
    user_id, username, display_name, role, enabled, created_at = row
    return User(
        id=user_id,
        username=username,
        display_name=display_name,
        role=Role(role),
        enabled=enabled,
        group_ids=group_ids,
        created_at=created_at,
    )


def from_user(user: User) -> Values:
    return {
        "id": user.id,
        "username": user.username,
        "display_name": user.display_name,
        "search": folded(user.username, user.display_name),
        "role": user.role.value,
        "enabled": user.enabled,
        "created_at": user.created_at,
    }


GROUP = (t.groups.c.id, t.groups.c.name, t.groups.c.title, t.groups.c.created_at)


def to_group(row: Row) -> Group:
    group_id, name, title, created_at = row
    return Group(id=group_id, name=name, title=title, created_at=created_at)


def from_group(group: Group) -> Values:
    return {
        "id": group.id,
        "name": group.name,
        "title": group.title,
        "search": folded(group.name, group.title),
        "created_at": group.created_at,
    }


IMAGE = (
    t.images.c.id,
    t.images.c.name,
    t.images.c.version,
    t.images.c.size_bytes,
    t.images.c.boot_bytes,
    t.images.c.created_at,
)


def to_image(row: Row) -> Image:
    image_id, name, version, size_bytes, boot_bytes, created_at = row
    return Image(
        id=image_id,
        name=name,
        version=version,
        size_bytes=size_bytes,
        boot_bytes=boot_bytes,
        created_at=created_at,
    )


def from_image(image: Image) -> Values:
    return {
        "id": image.id,
        "name": image.name,
        "version": image.version,
        "size_bytes": image.size_bytes,
        "boot_bytes": image.boot_bytes,
        "created_at": image.created_at,
    }


POOL = tuple(t.pools.c)


def to_pool(row: Row, group_ids: tuple[str, ...]) -> Pool:
    pool_id, name, title, architecture, kind, image_id, cpus, memory_mib, *rest = row
    spares_min, size_max, log_off, disconnect_grace_s, lease_s, enabled, created_at = rest
    return Pool(
        id=pool_id,
        name=name,
        title=title,
        architecture=Architecture(architecture),
        kind=PoolKind(kind),
        image_id=image_id,
        resources=Resources(cpus=cpus, memory_mib=memory_mib),
        spares_min=spares_min,
        size_max=size_max,
        log_off=LogOff(log_off),
        disconnect_grace_s=disconnect_grace_s,
        lease_s=lease_s,
        enabled=enabled,
        group_ids=group_ids,
        created_at=created_at,
    )


def from_pool(pool: Pool) -> Values:
    return {
        "id": pool.id,
        "name": pool.name,
        "title": pool.title,
        "architecture": pool.architecture.value,
        "kind": pool.kind.value,
        "image_id": pool.image_id,
        "cpus": pool.resources.cpus,
        "memory_mib": pool.resources.memory_mib,
        "spares_min": pool.spares_min,
        "size_max": pool.size_max,
        "log_off": pool.log_off.value,
        "disconnect_grace_s": pool.disconnect_grace_s,
        "lease_s": pool.lease_s,
        "enabled": pool.enabled,
        "created_at": pool.created_at,
    }


HOST = tuple(t.hosts.c)


def to_host(row: Row) -> Host:
    host_id, name, engine, profile, state, cpus, memory_mib, overcommit, starts, created_at = row
    return Host(
        id=host_id,
        name=name,
        engine=engine,
        profile=profile,
        state=HostState(state),
        capacity=Resources(cpus=cpus, memory_mib=memory_mib),
        overcommit_cpu=overcommit,
        start_limit=starts,
        created_at=created_at,
    )


def from_host(host: Host) -> Values:
    return {
        "id": host.id,
        "name": host.name,
        "engine": host.engine,
        "profile": host.profile,
        "state": host.state.value,
        "cpus": host.capacity.cpus,
        "memory_mib": host.capacity.memory_mib,
        "overcommit_cpu": host.overcommit_cpu,
        "start_limit": host.start_limit,
        "created_at": host.created_at,
    }

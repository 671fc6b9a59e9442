"""Users, groups, images, pools and hosts."""

from __future__ import annotations

import msgspec

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
from broker.domain.settings import HostSettings, PoolSettings
from broker.store.paging import folded
from broker.store.sql import tables as t
from broker.store.sql.rows import Row, Values
from broker.store.sql.rows.resources import from_resources
from broker.store.sql.schema import NOTHING

_encode = msgspec.json.Encoder().encode
# what an older broker did not store yet has its default
to_pool_settings = msgspec.json.Decoder(PoolSettings).decode
_decode_host_settings = msgspec.json.Decoder(HostSettings).decode

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
    t.images.c.removed_at,
)


def to_image(row: Row) -> Image:
    image_id, name, version, size_bytes, boot_bytes, created_at, removed_at = row
    return Image(
        id=image_id,
        name=name,
        version=version,
        size_bytes=size_bytes,
        boot_bytes=boot_bytes,
        created_at=created_at,
        removed_at=removed_at,
    )


def from_image(image: Image) -> Values:
    return {
        "id": image.id,
        "name": image.name,
        "version": image.version,
        "size_bytes": image.size_bytes,
        "boot_bytes": image.boot_bytes,
        "created_at": image.created_at,
        "removed_at": image.removed_at,
    }


POOL = (
    t.pools.c.id,
    t.pools.c.name,
    t.pools.c.title,
    t.pools.c.architecture,
    t.pools.c.kind,
    t.pools.c.image_id,
    t.pools.c.cpus,
    t.pools.c.memory_mib,
    t.pools.c.disk_mib,
    t.pools.c.disk_iops,
    t.pools.c.network_mbit,
    t.pools.c.spares_min,
    t.pools.c.size_max,
    t.pools.c.log_off,
    t.pools.c.disconnect_grace_s,
    t.pools.c.lease_s,
    t.pools.c.enabled,
    t.pools.c.settings,
    t.pools.c.created_at,
    t.pools.c.image_since,
)


def to_pool(row: Row, group_ids: tuple[str, ...]) -> Pool:
    pool_id, name, title, architecture, kind, image_id, *rest = row
    cpus, memory_mib, disk_mib, disk_iops, network_mbit, *rest = rest
    spares_min, size_max, log_off, disconnect_grace_s, lease_s, enabled, *rest = rest
    settings, created_at, image_since = rest
    return Pool(
        id=pool_id,
        name=name,
        title=title,
        architecture=Architecture(architecture),
        kind=PoolKind(kind),
        image_id=image_id,
        resources=Resources(
            cpus=cpus,
            memory_mib=memory_mib,
            disk_mib=disk_mib,
            disk_iops=disk_iops,
            network_mbit=network_mbit,
        ),
        spares_min=spares_min,
        size_max=size_max,
        log_off=LogOff(log_off),
        disconnect_grace_s=disconnect_grace_s,
        lease_s=lease_s,
        enabled=enabled,
        group_ids=group_ids,
        created_at=created_at,
        settings=to_pool_settings(settings),
        image_since=image_since,
    )


def from_pool(pool: Pool) -> Values:
    return {
        "id": pool.id,
        "name": pool.name,
        "title": pool.title,
        "architecture": pool.architecture.value,
        "kind": pool.kind.value,
        "image_id": pool.image_id,
        **from_resources(pool.resources),
        "spares_min": pool.spares_min,
        "size_max": pool.size_max,
        "log_off": pool.log_off.value,
        "disconnect_grace_s": pool.disconnect_grace_s,
        "lease_s": pool.lease_s,
        "enabled": pool.enabled,
        "settings": _encode(pool.settings).decode(),
        "created_at": pool.created_at,
        "image_since": pool.image_since,
    }


HOST = (
    t.hosts.c.id,
    t.hosts.c.name,
    t.hosts.c.engine,
    t.hosts.c.profile,
    t.hosts.c.state,
    t.hosts.c.cpus,
    t.hosts.c.memory_mib,
    t.hosts.c.disk_mib,
    t.hosts.c.disk_iops,
    t.hosts.c.network_mbit,
    t.hosts.c.overcommit_cpu,
    t.hosts.c.start_limit,
    t.hosts.c.settings,
    t.hosts.c.deadline_at,
    t.hosts.c.changed_at,
    t.hosts.c.note,
    t.hosts.c.revision,
    t.hosts.c.created_at,
)


def to_host(row: Row) -> Host:
    host_id, name, engine, profile, state, *rest = row
    cpus, memory_mib, disk_mib, disk_iops, network_mbit, overcommit, starts, *rest = rest
    settings, deadline_at, changed_at, note, revision, created_at = rest
    return Host(
        id=host_id,
        name=name,
        engine=engine,
        profile=profile,
        state=HostState(state),
        capacity=Resources(
            cpus=cpus,
            memory_mib=memory_mib,
            disk_mib=disk_mib,
            disk_iops=disk_iops,
            network_mbit=network_mbit,
        ),
        overcommit_cpu=overcommit,
        start_limit=starts,
        created_at=created_at,
        settings=_decode_host_settings(settings),
        deadline_at=deadline_at,
        changed_at=changed_at,
        note=note,
        revision=revision,
    )


def from_host(host: Host) -> Values:
    """A new host's row."""
    return {
        "id": host.id,
        "name": host.name,
        "engine": host.engine,
        "profile": host.profile,
        "prior_state": NOTHING,
        "state": host.state.value,
        **from_resources(host.capacity),
        "overcommit_cpu": host.overcommit_cpu,
        "start_limit": host.start_limit,
        "settings": _encode(host.settings).decode(),
        "deadline_at": host.deadline_at,
        "changed_at": host.changed_at,
        "note": host.note,
        "revision": host.revision,
        "created_at": host.created_at,
    }

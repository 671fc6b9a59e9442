"""Images and hosts."""

from __future__ import annotations

from dataclasses import replace

from broker.domain import names
from broker.domain.model import Host, HostState, Image, Resources
from broker.domain.roster import HostRow, ImageRow
from broker.services.roster.draft import Draft, sized

_MIB = 1024 * 1024
_GIB = 1024 * _MIB

ENGINE_DEFAULT = "simulated"
PROFILE_DEFAULT = "bare-metal"
OVERCOMMIT_CPU_DEFAULT = 4.0
"""virtual CPUs a core carries: medium users, facts of virtual-machine-recs (2019)"""
START_LIMIT_DEFAULT = 20
"""machines starting at once on a host: the field's usual default (CTX135986)"""


def plan_images(draft: Draft) -> None:
    for row in draft.roster.images:
        old = draft.images.stored.get(row.key)
        size_bytes, boot_bytes = round(row.size_gib * _GIB), round(row.boot_mib * _MIB)
        if row.key in draft.removed:
            text = f"{names.shown(row.key)} was removed; give a new version number"
            draft.bad("images.csv", row.line, "version", text)
        _check_image(draft, row, old, size_bytes, boot_bytes)
        draft.images.put(
            row.key,
            old
            or Image(
                id=draft.new_id("img"),
                name=row.name,
                version=row.version,
                size_bytes=size_bytes,
                boot_bytes=boot_bytes,
                created_at=draft.now,
            ),
        )


def _check_image(
    draft: Draft, row: ImageRow, old: Image | None, size_bytes: int, boot_bytes: int
) -> None:
    if boot_bytes > size_bytes:
        text = f"a boot cannot read {row.boot_mib:g} MiB of an image of {row.size_gib:g} GiB"
        draft.bad("images.csv", row.line, "boot_mib", text)
    if old is not None and (old.size_bytes, old.boot_bytes) != (size_bytes, boot_bytes):
        text = f"{names.shown(row.key)} is stored with other sizes; give a new version number"
        draft.bad("images.csv", row.line, "version", text)


def plan_hosts(draft: Draft) -> None:
    for row in draft.roster.hosts:
        old = draft.hosts.stored.get(row.name)
        host = _host(draft, row, old)
        _check_host(draft, row, old, host)
        draft.hosts.put(row.name, host)


def _host(draft: Draft, row: HostRow, old: Host | None) -> Host:
    base = old or Host(
        id=draft.new_id("hst"),
        name=row.name,
        engine=ENGINE_DEFAULT,
        profile=PROFILE_DEFAULT,
        state=HostState.UP,
        capacity=Resources(cpus=row.cpus, memory_mib=row.memory_mib),
        overcommit_cpu=OVERCOMMIT_CPU_DEFAULT,
        start_limit=START_LIMIT_DEFAULT,
        created_at=draft.now,
    )
    return replace(
        base,
        engine=row.engine or base.engine,
        profile=row.profile or base.profile,
        capacity=sized(base.capacity, row),
        overcommit_cpu=row.overcommit_cpu or base.overcommit_cpu,
        start_limit=row.start_limit or base.start_limit,
    )


def _check_host(draft: Draft, row: HostRow, old: Host | None, host: Host) -> None:
    if old is not None and host.engine != old.engine:
        retired = " retired" if old.state is HostState.RETIRED else ""
        text = f"{names.shown(row.name)} is a{retired} host of engine {old.engine}"
        text += " and cannot change it"
        if retired:
            text += "; its name stays taken: choose another"
        draft.bad("hosts.csv", row.line, "engine", text)
    elif old is not None and host.profile != old.profile:
        # whether its desktops would be found again must be looked at, at the moment of the change
        text = f"{names.shown(row.name)} has another; change it with trivium host set, profile=…"
        draft.bad("hosts.csv", row.line, "profile", text)
    problem = draft.profiles.problem(host.engine, host.profile) if draft.profiles else None
    if problem is not None:
        draft.bad("hosts.csv", row.line, problem.field, problem.says)

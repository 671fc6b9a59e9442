"""Endpoints, desktops and jobs."""

from __future__ import annotations

import msgspec

from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    Endpoint,
    EndpointKind,
    EndpointState,
    Job,
    JobState,
    JobVerb,
    Resources,
)
from broker.store.paging import folded
from broker.store.sql import tables as t
from broker.store.sql.rows import Row, Values
from broker.store.sql.rows.resources import from_resources
from broker.store.sql.schema import NOTHING

_NO_ARGUMENTS = "{}"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode

ENDPOINT = (
    t.endpoints.c.id,
    t.endpoints.c.name,
    t.endpoints.c.kind,
    t.endpoints.c.location,
    t.endpoints.c.state,
    t.endpoints.c.public_key,
    t.endpoints.c.agent_version,
    t.endpoints.c.last_seen_at,
    t.endpoints.c.created_at,
)


def to_endpoint(row: Row, pool_ids: tuple[str, ...]) -> Endpoint:
    endpoint_id, name, kind, location, state, public_key, version, seen_at, created_at = row
    return Endpoint(
        id=endpoint_id,
        name=name,
        kind=EndpointKind(kind),
        location=location,
        state=EndpointState(state),
        public_key=public_key,
        pool_ids=pool_ids,
        agent_version=version,
        last_seen_at=seen_at,
        created_at=created_at,
    )


def from_endpoint(endpoint: Endpoint) -> Values:
    """A new endpoint's row."""
    return {
        "id": endpoint.id,
        "name": endpoint.name,
        "search": folded(endpoint.name),
        "kind": endpoint.kind.value,
        "location": endpoint.location,
        "prior_state": NOTHING,
        "state": endpoint.state.value,
        "public_key": endpoint.public_key,
        "agent_version": endpoint.agent_version,
        "last_seen_at": endpoint.last_seen_at,
        "created_at": endpoint.created_at,
    }


DESKTOP = (
    t.desktops.c.id,
    t.desktops.c.name,
    t.desktops.c.pool_id,
    t.desktops.c.architecture,
    t.desktops.c.host_id,
    t.desktops.c.endpoint_id,
    t.desktops.c.owner_id,
    t.desktops.c.state,
    t.desktops.c.target,
    t.desktops.c.deadline_at,
    t.desktops.c.generation,
    t.desktops.c.cpus,
    t.desktops.c.memory_mib,
    t.desktops.c.note,
    t.desktops.c.created_at,
    t.desktops.c.changed_at,
    t.desktops.c.disk_mib,
    t.desktops.c.disk_iops,
    t.desktops.c.network_mbit,
    t.desktops.c.moving_to,
    t.desktops.c.image_id,
)


def to_desktop(row: Row) -> Desktop:
    desktop_id, name, pool_id, architecture, host_id, endpoint_id, owner_id, *rest = row
    state, target, deadline_at, generation, cpus, memory_mib, note, created_at, *rest = rest
    changed_at, disk_mib, disk_iops, network_mbit, moving_to, image_id = rest
    return Desktop(
        id=desktop_id,
        name=name,
        pool_id=pool_id,
        architecture=Architecture(architecture),
        host_id=host_id,
        endpoint_id=endpoint_id,
        owner_id=owner_id,
        state=DesktopState(state),
        target=DesktopState(target) if target is not None else None,
        deadline_at=deadline_at,
        generation=generation,
        resources=Resources(
            cpus=cpus,
            memory_mib=memory_mib,
            disk_mib=disk_mib,
            disk_iops=disk_iops,
            network_mbit=network_mbit,
        ),
        note=note,
        created_at=created_at,
        changed_at=changed_at,
        moving_to=moving_to,
        image_id=image_id,
    )


def from_desktop(desktop: Desktop) -> Values:
    """A new desktop's row."""
    return {
        "id": desktop.id,
        "name": desktop.name,
        "search": folded(desktop.name),
        "pool_id": desktop.pool_id,
        "architecture": desktop.architecture.value,
        "host_id": desktop.host_id,
        "endpoint_id": desktop.endpoint_id,
        "owner_id": desktop.owner_id,
        "prior_state": NOTHING,
        "state": desktop.state.value,
        "target": desktop.target.value if desktop.target is not None else None,
        "deadline_at": desktop.deadline_at,
        "generation": desktop.generation,
        **from_resources(desktop.resources),
        "note": desktop.note,
        "created_at": desktop.created_at,
        "changed_at": desktop.changed_at,
        "moving_to": desktop.moving_to,
        "image_id": desktop.image_id,
    }


JOB = (
    t.jobs.c.id,
    t.jobs.c.verb,
    t.jobs.c.desktop_id,
    t.jobs.c.host_id,
    t.jobs.c.generation,
    t.jobs.c.state,
    t.jobs.c.attempts,
    t.jobs.c.deadline_at,
    t.jobs.c.not_before_at,
    t.jobs.c.error,
    t.jobs.c.created_at,
    t.jobs.c.finished_at,
    t.jobs.c.arguments,
)


def to_job(row: Row) -> Job:
    job_id, verb, desktop_id, host_id, generation, state, attempts, *rest = row
    deadline_at, not_before_at, error, created_at, finished_at, arguments = rest
    return Job(
        id=job_id,
        verb=JobVerb(verb),
        desktop_id=desktop_id or "",
        host_id=host_id,
        generation=generation,
        state=JobState(state),
        attempts=attempts,
        deadline_at=deadline_at,
        not_before_at=not_before_at,
        error=error,
        created_at=created_at,
        finished_at=finished_at,
        arguments=_decode(arguments) if arguments != _NO_ARGUMENTS else {},
    )


def from_job(job: Job) -> Values:
    """A new job's row."""
    return {
        "id": job.id,
        "verb": job.verb.value,
        "desktop_id": job.desktop_id or None,
        "host_id": job.host_id,
        "generation": job.generation,
        "prior_state": NOTHING,
        "state": job.state.value,
        "attempts": job.attempts,
        "deadline_at": job.deadline_at,
        "not_before_at": job.not_before_at,
        "error": job.error,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "arguments": _encode(job.arguments).decode() if job.arguments else _NO_ARGUMENTS,
    }

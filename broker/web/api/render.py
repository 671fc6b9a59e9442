"""Records as shapes: ids become names, instants become stamps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from broker.domain.images import is_outdated
from broker.domain.model import (
    Campaign,
    Desktop,
    Endpoint,
    Group,
    Image,
    Job,
    Pool,
    Resources,
    User,
)
from broker.domain.placement import HostLoad
from broker.domain.silence import Silence
from broker.services.guest_news import GuestNews
from broker.web.api.host_shapes import HostShape, SilenceShape
from broker.web.api.settings import show_host_settings, show_pool_settings
from broker.web.api.shapes import (
    CampaignShape,
    DesktopShape,
    EndpointShape,
    GroupShape,
    GuestShape,
    ImageRef,
    ImageShape,
    JobShape,
    PoolShape,
    Ref,
    ResourcesShape,
    UserRef,
    UserShape,
)
from broker.web.context import Web
from broker.web.encoding import stamp, stamp_or_none
from broker.web.names import GONE
from broker.web.poolcounts import Counts


def resources(value: Resources) -> ResourcesShape:
    return ResourcesShape(
        cpus=value.cpus,
        memory_mib=value.memory_mib,
        disk_mib=value.disk_mib,
        disk_iops=value.disk_iops,
        network_mbit=value.network_mbit,
    )


def _user(user_id: str | None, names: Mapping[str, str]) -> UserRef | None:
    return UserRef(id=user_id, username=names.get(user_id, GONE)) if user_id is not None else None


def _ref(thing_id: str | None, names: Mapping[str, str]) -> Ref | None:
    return None if thing_id is None else Ref(id=thing_id, name=names.get(thing_id, GONE))


async def users(web_: Web, people: Sequence[User]) -> list[UserShape]:
    names = await web_.names.learn(groups=[one for user in people for one in user.group_ids])
    return [
        UserShape(
            id=user.id,
            username=user.username,
            display_name=user.display_name,
            role=user.role,
            enabled=user.enabled,
            groups=sorted(names.get(one, GONE) for one in user.group_ids),
            created_at=stamp(user.created_at),
        )
        for user in people
    ]


def group(one: Group) -> GroupShape:
    return GroupShape(id=one.id, name=one.name, title=one.title, created_at=stamp(one.created_at))


def image(one: Image) -> ImageShape:
    return ImageShape(
        id=one.id,
        name=one.name,
        version=one.version,
        size_bytes=one.size_bytes,
        boot_bytes=one.boot_bytes,
        created_at=stamp(one.created_at),
    )


async def pools(web_: Web, some: Sequence[Pool]) -> list[PoolShape]:
    """With the counts of their desktops and queues."""
    names = await web_.names.learn(groups=[one for pool in some for one in pool.group_ids])
    images = {one.id: one for one in await web_.services.pools.images()}
    every = await web_.services.pools.all()
    counts = await web_.pool_counts.now(tuple(pool.id for pool in every))
    return [_pool(pool, names, images.get(pool.image_id), counts) for pool in some]


def _pool(pool: Pool, names: Mapping[str, str], shown: Image | None, counts: Counts) -> PoolShape:
    return PoolShape(
        id=pool.id,
        name=pool.name,
        title=pool.title,
        architecture=pool.architecture,
        kind=pool.kind,
        image=_image_ref(pool.image_id, shown),
        resources=resources(pool.resources),
        spares_min=pool.spares_min,
        size_max=pool.size_max,
        log_off=pool.log_off,
        disconnect_grace_s=pool.disconnect_grace_s,
        lease_s=pool.lease_s,
        enabled=pool.enabled,
        groups=sorted(names.get(one, GONE) for one in pool.group_ids),
        desktops=dict(counts.desktops.get(pool.id, {})),
        waiting=counts.waiting.get(pool.id, 0),
        settings=show_pool_settings(pool.settings),
    )


async def pool_names(web_: Web) -> Mapping[str, str]:
    return {pool.id: pool.name for pool in await web_.services.pools.all()}


async def host_names(web_: Web) -> Mapping[str, str]:
    loads = await web_.services.kit.store.directory.host_loads()
    return {load.host.id: load.host.name for load in loads}


def _image_ref(image_id: str, shown: Image | None) -> ImageRef:
    return ImageRef(
        id=image_id,
        name=shown.name if shown is not None else GONE,
        version=shown.version if shown is not None else 0,
    )


def _image_due(desktop: Desktop, pool: Pool | None, images: Mapping[str, Image]) -> ImageRef | None:
    if pool is None or not is_outdated(desktop, pool):
        return None
    return _image_ref(pool.image_id, images.get(pool.image_id))


async def desktops(web_: Web, some: Sequence[Desktop]) -> list[DesktopShape]:
    names = dict(
        await web_.names.learn(
            endpoints=[one.endpoint_id for one in some], users=[one.owner_id for one in some]
        )
    )
    names.update(await pool_names(web_))
    if any(one.host_id is not None for one in some):
        names.update(await host_names(web_))
    every = {pool.id: pool for pool in await web_.services.pools.all()}
    images = {one.id: one for one in await web_.services.pools.images()}
    return [
        DesktopShape(
            id=one.id,
            name=one.name,
            pool=Ref(id=one.pool_id, name=names.get(one.pool_id, GONE)),
            image=_image_ref(one.image_id, images.get(one.image_id)) if one.image_id else None,
            image_due=_image_due(one, every.get(one.pool_id), images),
            architecture=one.architecture,
            host=_ref(one.host_id, names),
            moving_to=_ref(one.moving_to, names),
            endpoint=_ref(one.endpoint_id, names),
            owner=_user(one.owner_id, names),
            state=one.state,
            target=one.target,
            deadline_at=stamp_or_none(one.deadline_at),
            generation=one.generation,
            resources=resources(one.resources),
            note=one.note,
            created_at=stamp(one.created_at),
            changed_at=stamp(one.changed_at),
            guest=guest(web_.services.guests.news(one.id, one.generation)),
        )
        for one in some
    ]


def guest(news: GuestNews | None) -> GuestShape | None:
    if news is None:
        return None
    return GuestShape(
        at=stamp(news.at),
        user=news.user,
        idle_s=None if news.idle_s is None else round(news.idle_s, 1),
        addresses=list(news.addresses),
        policy=news.policy,
        policy_why=news.policy_why,
    )


async def endpoints(web_: Web, some: Sequence[Endpoint]) -> list[EndpointShape]:
    names = await pool_names(web_)
    return [
        EndpointShape(
            id=one.id,
            name=one.name,
            kind=one.kind,
            location=one.location,
            state=one.state,
            pools=sorted(names.get(pool_id, GONE) for pool_id in one.pool_ids),
            agent_version=one.agent_version,
            last_seen_at=stamp_or_none(one.last_seen_at),
            created_at=stamp(one.created_at),
        )
        for one in some
    ]


def host(load: HostLoad, silent: Silence | None = None) -> HostShape:
    one = load.host
    return HostShape(
        id=one.id,
        name=one.name,
        engine=one.engine,
        profile=one.profile,
        state=one.state,
        capacity=resources(one.capacity),
        used=resources(load.used),
        starting=load.starting,
        overcommit_cpu=one.overcommit_cpu,
        start_limit=one.start_limit,
        settings=show_host_settings(one.settings),
        revision=one.revision,
        deadline_at=stamp_or_none(one.deadline_at),
        note=one.note,
        silent=SilenceShape(since=stamp(silent.since), why=silent.why) if silent else None,
    )


async def jobs(web_: Web, some: Sequence[Job]) -> list[JobShape]:
    names = dict(
        await web_.names.learn(desktops=[one.desktop_id for one in some if one.desktop_id])
    )
    if some:
        names.update(await host_names(web_))
    return [
        JobShape(
            id=one.id,
            verb=one.verb,
            desktop=_ref(one.desktop_id or None, names),
            host=Ref(id=one.host_id, name=names.get(one.host_id, GONE)),
            generation=one.generation,
            state=one.state,
            attempts=one.attempts,
            error=one.error,
            not_before_at=stamp(one.not_before_at),
            deadline_at=stamp_or_none(one.deadline_at),
            created_at=stamp(one.created_at),
            finished_at=stamp_or_none(one.finished_at),
        )
        for one in some
    ]


def campaign(one: Campaign) -> CampaignShape:
    return CampaignShape(
        id=one.id,
        name=one.name,
        seed=one.seed,
        plan_sha256=one.plan_sha256,
        state=one.state,
        verdict=one.verdict,
        report_path=one.report_path,
        summary=dict(one.summary),
        started_at=stamp(one.started_at),
        finished_at=stamp_or_none(one.finished_at),
    )


def campaigns(some: Iterable[Campaign]) -> list[CampaignShape]:
    return [campaign(one) for one in some]

"""People, groups, images, pools and hosts in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.domain.calendar import OnHolidays, Window
from broker.domain.errors import (
    AlreadyExistsError,
    ConflictError,
    IllegalTransitionError,
    ImageInUseError,
    NotFoundError,
)
from broker.domain.lifecycle import DesktopEvent, EndpointEvent, HostEvent
from broker.domain.model import (
    DesktopState,
    EndpointKind,
    EndpointState,
    HostState,
    Resources,
    Role,
)
from broker.domain.settings import (
    HostSettings,
    PoolSettings,
    ScheduleEntry,
    ServiceState,
    Shadowing,
    Share,
    TakeOver,
)
from broker.limits import POOLS_MAX
from broker.ports import PageQuery, RosterChange, Store
from tests.support.builders import NOW, make_host, make_pool
from tests.support.stores import (
    IDV,
    VDI,
    fill,
    make_group,
    make_image,
    make_user,
    new_desktop,
    new_endpoint,
    ready_desktops,
)


async def test_a_user_is_read_back_as_stored_with_groups_in_their_order(store: Store) -> None:
    await fill(store)
    user = make_user(50, group_ids=("grp_3", "grp_1"), role=Role.AUDITOR, enabled=False)
    await store.directory.add_user(user, "hash")
    assert await store.directory.user(user.id) == user
    assert await store.directory.user_by_name(user.username) == user
    assert await store.directory.password_hash(user.id) == "hash"


async def test_unknown_people_are_none(store: Store) -> None:
    assert await store.directory.user("usr_9") is None
    assert await store.directory.user_by_name("nobody") is None
    assert await store.directory.password_hash("usr_9") is None


async def test_a_user_without_groups_or_password_is_stored(store: Store) -> None:
    user = make_user(50, group_ids=())
    await store.directory.add_user(user, None)
    assert await store.directory.user(user.id) == user
    assert await store.directory.password_hash(user.id) is None


async def test_a_taken_user_name_is_refused(store: Store) -> None:
    await fill(store)
    with pytest.raises(AlreadyExistsError):
        await store.directory.add_user(make_user(50, username="user-0001"), None)
    assert await store.directory.user("usr_50") is None


async def test_a_user_of_an_unknown_group_is_refused_whole(store: Store) -> None:
    await fill(store)
    with pytest.raises(ConflictError):
        await store.directory.add_user(make_user(50, group_ids=("grp_9",)), None)
    assert await store.directory.user("usr_50") is None


async def test_update_changes_all_but_the_password_and_the_day_of_entry(store: Store) -> None:
    await fill(store)
    await store.directory.set_passwords({"usr_1": "old"})
    changed = make_user(
        1,
        username="renamed",
        display_name="Renamed",
        role=Role.OPERATOR,
        enabled=False,
        group_ids=("grp_2",),
        created_at=NOW + 5,
    )
    await store.directory.update_user(changed)
    assert await store.directory.user("usr_1") == replace(changed, created_at=NOW)
    assert await store.directory.user_by_name("user-0001") is None
    assert await store.directory.password_hash("usr_1") == "old"


async def test_update_of_an_unknown_user_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        await store.directory.update_user(make_user(1, group_ids=()))


async def test_an_update_cannot_take_another_users_name(store: Store) -> None:
    await fill(store)
    with pytest.raises(AlreadyExistsError):
        await store.directory.update_user(make_user(1, username="user-0002"))


async def test_passwords_are_set_all_or_none(store: Store) -> None:
    await fill(store)
    await store.directory.set_passwords({"usr_1": "a", "usr_2": "b"})
    with pytest.raises(NotFoundError):
        await store.directory.set_passwords({"usr_1": "c", "usr_99": "d"})
    assert await store.directory.password_hash("usr_1") == "a"
    assert await store.directory.password_hash("usr_2") == "b"
    await store.directory.set_passwords({})


async def test_an_administrator_counts_when_enabled_and_with_a_password(store: Store) -> None:
    await fill(store)
    assert not await store.directory.has_administrator()
    admin = make_user(50, role=Role.ADMINISTRATOR)
    await store.directory.add_user(admin, None)
    assert not await store.directory.has_administrator()
    await store.directory.set_passwords({admin.id: "hash"})
    assert await store.directory.has_administrator()
    await store.directory.update_user(replace(admin, enabled=False))
    assert not await store.directory.has_administrator()


async def test_pools_are_listed_by_name_with_groups_in_their_order(store: Store) -> None:
    await fill(store)
    assert await store.directory.pools() == (IDV, VDI)


async def test_a_pool_is_changed_but_keeps_its_day(store: Store) -> None:
    await fill(store)
    changed = replace(
        VDI, name="renamed", enabled=False, size_max=99, group_ids=("grp_3",), created_at=NOW + 9
    )
    await store.directory.save_pool(changed, new=False)
    assert await store.directory.pools() == (IDV, replace(changed, created_at=NOW))


async def test_a_pools_name_is_its_own(store: Store) -> None:
    await fill(store)
    with pytest.raises(AlreadyExistsError):
        await store.directory.save_pool(make_pool(id="pol_9"), new=True)
    with pytest.raises(AlreadyExistsError):
        await store.directory.save_pool(replace(IDV, name=VDI.name), new=False)
    with pytest.raises(NotFoundError):
        await store.directory.save_pool(make_pool(id="pol_9", name="ninth"), new=False)
    with pytest.raises(ConflictError):
        await store.directory.save_pool(
            make_pool(id="pol_9", name="ninth", image_id="img_9"), new=True
        )
    assert await store.directory.pools() == (IDV, VDI)


async def test_a_pool_is_read_back_with_every_setting(store: Store) -> None:
    await fill(store)
    window = Window(days=(0, 4), start_min=480, end_min=960, on_holidays=OnHolidays.ALSO)
    settings = PoolSettings(
        state=ServiceState.DRAINING,
        take_over=TakeOver.ASK,
        shadowing=Shadowing.VIEW,
        guarantee=Share(cpus=0.5, memory=1),
        labels=("gpu", "ssd"),
        time_zone="Europe/Berlin",
        schedule=(ScheduleEntry(name="day", window=window, spares_min=9, open=False),),
    )
    size = Resources(cpus=1.5, memory_mib=2, disk_mib=3, disk_iops=4, network_mbit=5)
    pool = make_pool(id="pol_9", name="ninth", resources=size, settings=settings)
    await store.directory.save_pool(pool, new=True)
    assert pool in await store.directory.pools()
    other = replace(pool, settings=replace(settings, schedule=(), apart=True))
    await store.directory.save_pool(other, new=False)
    assert other in await store.directory.pools()


async def test_hosts_carry_what_their_desktops_take(store: Store) -> None:
    await fill(store)
    other = make_host(id="hst_2", name="server-0", state=HostState.DRAINING, overcommit_cpu=1.5)
    await store.directory.save_host(other, new=True)
    half = Resources(cpus=0.5, memory_mib=1000)
    await ready_desktops(store, [1, 2], resources=half)
    await store.desktops.add([new_desktop(3, resources=half), new_desktop(4)], [])
    failed = await store.desktops.advance(new_desktop(4).id, DesktopEvent.DEADLINE_PASSED, NOW)
    assert failed.state is DesktopState.FAILED
    first, second = await store.directory.host_loads()
    assert (first.host, first.used, first.starting) == (
        other,
        Resources(cpus=0.0, memory_mib=0),
        0,
    )
    assert second.host == make_host()
    assert second.used == Resources(cpus=1.5, memory_mib=3000)
    assert second.starting == 1


async def test_a_deleted_desktop_takes_nothing_from_its_host(store: Store) -> None:
    await fill(store)
    (desktop,) = await ready_desktops(store, [1])
    await store.desktops.advance(desktop.id, DesktopEvent.DELETE_ASKED, NOW)
    (load,) = await store.directory.host_loads()
    assert load.used.memory_mib == desktop.resources.memory_mib
    await store.desktops.advance(desktop.id, DesktopEvent.DELETED, NOW)
    (load,) = await store.directory.host_loads()
    assert load.used.memory_mib == 0


async def test_a_host_is_saved_under_the_same_rules_as_a_pool(store: Store) -> None:
    await fill(store)
    with pytest.raises(AlreadyExistsError):
        await store.directory.save_host(make_host(id="hst_2"), new=True)
    with pytest.raises(NotFoundError):
        await store.directory.save_host(make_host(id="hst_2", name="x"), new=False)
    changed = make_host(
        start_limit=1,
        capacity=Resources(cpus=2, memory_mib=3, disk_mib=4, disk_iops=5, network_mbit=6),
        settings=HostSettings(overcommit_disk=1.5, labels=("gpu",), power_managed=True),
    )
    saved = await store.directory.save_host(changed, new=False)
    assert saved == replace(changed, revision=2)
    (load,) = await store.directory.host_loads()
    assert load.host == saved
    assert await store.directory.hosts() == (saved,)


async def test_images_are_listed_by_name_then_version(store: Store) -> None:
    images = (
        make_image(1, name="zeta"),
        make_image(2, name="alpha", version=10),
        make_image(3, name="alpha", version=9),
    )
    await store.directory.apply_roster(RosterChange(images=images))
    assert await store.directory.images() == (images[2], images[1], images[0])


async def test_a_version_that_no_pool_starts_from_is_removed_and_its_number_stays_taken(
    store: Store,
) -> None:
    images = (make_image(1, name="alpha"), make_image(2, name="alpha"))
    await store.directory.apply_roster(RosterChange(images=images))
    removed = await store.directory.remove_image("img_1", NOW + 1)
    assert removed == replace(images[0], removed_at=NOW + 1)
    assert await store.directory.images() == (images[1],)
    assert await store.directory.removed_images() == (removed,)
    assert (await store.directory.all_names())["images"] == {"alpha@2": "img_2"}
    assert await store.directory.remove_image("img_1", NOW + 2) == removed
    # a roster that read it before does not bring it back
    await store.directory.apply_roster(RosterChange(images=(images[0],)))
    assert await store.directory.removed_images() == (removed,)
    again = make_image(3, name="alpha", version=1)
    with pytest.raises(AlreadyExistsError):
        await store.directory.apply_roster(RosterChange(images=(again,)))
    with pytest.raises(NotFoundError):
        await store.directory.remove_image("img_3", NOW)


async def test_a_version_that_pools_start_from_is_not_removed_and_they_are_named(
    store: Store,
) -> None:
    await fill(store)
    with pytest.raises(ImageInUseError) as refused:
        await store.directory.remove_image("img_1", NOW)
    assert refused.value.fields == {"pools": ["laboratory", "library"]}
    assert "laboratory, library start from office@1" in refused.value.detail
    assert await store.directory.removed_images() == ()


async def test_no_pool_starts_from_a_version_that_was_removed(store: Store) -> None:
    await fill(store)
    other = make_image(2, name="other", version=1)
    await store.directory.apply_roster(RosterChange(images=(other,)))
    await store.directory.remove_image("img_2", NOW)
    new = make_pool(id="pol_9", name="ninth", image_id="img_2")
    with pytest.raises(ConflictError, match="other@1 was removed"):
        await store.directory.save_pool(new, new=True)
    with pytest.raises(ConflictError, match="other@1 was removed"):
        await store.directory.save_pool(replace(VDI, image_id="img_2"), new=False)
    with pytest.raises(ConflictError, match="other@1 was removed"):
        await store.directory.apply_roster(RosterChange(pools=(new,)))
    assert {one.image_id for one in await store.directory.pools()} == {"img_1"}


async def test_a_removal_and_a_pool_of_the_same_version_never_both_succeed(store: Store) -> None:
    await fill(store)
    for number in range(10, 22):
        image = make_image(number, name=f"raced-{number}")
        await store.directory.apply_roster(RosterChange(images=(image,)))
        pool = make_pool(id=f"pol_{number}", name=f"pool-{number}", image_id=image.id)
        results = await asyncio.gather(
            store.directory.remove_image(image.id, NOW),
            store.directory.save_pool(pool, new=True),
            return_exceptions=True,
        )
        errors = [one for one in results if isinstance(one, BaseException)]
        assert len(errors) == 1, results
        assert isinstance(errors[0], ImageInUseError | ConflictError)


async def test_all_names_lead_to_ids(store: Store) -> None:
    await fill(store, users=2, endpoints=1)
    assert await store.directory.all_names() == {
        "users": {"user-0001": "usr_1", "user-0002": "usr_2"},
        "groups": {"group-1": "grp_1", "group-2": "grp_2", "group-3": "grp_3"},
        "images": {"office@1": "img_1"},
        "hosts": {"server-1": "hst_1"},
        "pools": {"library": "pol_1", "laboratory": "pol_2"},
        "endpoints": {"LAB-01": "ept_1"},
    }


async def test_names_of_ids_leave_out_the_unknown(store: Store) -> None:
    await fill(store)
    (desktop,) = await ready_desktops(store, [1])
    names_of = store.directory.names_of
    assert await names_of("users", ["usr_1", "usr_99"]) == {"usr_1": "user-0001"}
    assert await names_of("people", ["usr_1", "usr_99"]) == {"usr_1": "User 1"}
    assert await names_of("groups", {"grp_2"}) == {"grp_2": "group-2"}
    assert await names_of("desktops", [desktop.id]) == {desktop.id: desktop.name}
    assert await names_of("endpoints", ["ept_1"]) == {"ept_1": "LAB-01"}
    assert await names_of("users", []) == {}
    with pytest.raises(ValueError, match="no names of"):
        await names_of("tokens", ["tok_1"])
    with pytest.raises(ValueError, match="at most"):
        await names_of("users", [f"usr_{number}" for number in range(501)])


async def test_a_roster_replaces_records_but_not_what_they_have_lived_through(
    store: Store,
) -> None:
    await fill(store)
    await store.directory.set_passwords({"usr_1": "hash"})
    await store.directory.move_host("hst_1", HostEvent.DRAIN_ASKED, NOW + 2, note="for repair")
    await store.endpoints.enrol(
        name="LAB-01",
        kind=EndpointKind.FAT,
        location="",
        public_key=b"k" * 32,
        agent_version="1.0",
        new_id="ept_new",
        now=NOW,
    )
    await store.endpoints.presence("ept_1", EndpointEvent.CONNECTED, NOW + 3)
    later = NOW + 100
    await store.directory.apply_roster(
        RosterChange(
            groups=(make_group(1, title="First", created_at=later),),
            users=(make_user(1, display_name="Other", group_ids=(), created_at=later),),
            images=(make_image(1, size_bytes=5, created_at=later),),
            hosts=(make_host(start_limit=3, created_at=later),),
            pools=(replace(VDI, title="Other", group_ids=(), created_at=later),),
            endpoints=(new_endpoint(1, location="Cellar", pool_ids=(), created_at=later),),
        )
    )
    groups = await store.directory.groups(PageQuery())
    assert groups.items[0] == make_group(1, title="First")
    assert await store.directory.user("usr_1") == make_user(1, display_name="Other", group_ids=())
    assert await store.directory.password_hash("usr_1") == "hash"
    assert await store.directory.images() == (make_image(1, size_bytes=5),)
    (load,) = await store.directory.host_loads()
    assert load.host == make_host(
        start_limit=3, state=HostState.DRAINING, changed_at=NOW + 2, note="for repair", revision=2
    )
    assert await store.directory.pools() == (IDV, replace(VDI, title="Other", group_ids=()))
    assert await store.endpoints.endpoint("ept_1") == new_endpoint(
        1,
        location="Cellar",
        pool_ids=(),
        public_key=b"k" * 32,
        agent_version="1.0",
        state=EndpointState.ONLINE,
        last_seen_at=NOW + 3,
    )


async def test_a_roster_brings_places_of_fat_endpoints(store: Store) -> None:
    await fill(store)
    place = new_desktop(1, IDV)
    await store.directory.apply_roster(RosterChange(desktops=(place,)))
    assert await store.desktops.desktop(place.id) == place


async def test_a_bad_roster_changes_nothing(store: Store) -> None:
    await fill(store)
    before = await store.directory.all_names()
    bad = RosterChange(
        groups=(make_group(9),),
        users=(make_user(90), make_user(91, username="user-0001")),
        endpoints=(new_endpoint(90),),
    )
    with pytest.raises(AlreadyExistsError):
        await store.directory.apply_roster(bad)
    assert await store.directory.all_names() == before
    good = replace(bad, users=(make_user(90),), desktops=(new_desktop(90, IDV),) * 2)
    with pytest.raises(AlreadyExistsError):
        await store.directory.apply_roster(good)
    assert await store.directory.all_names() == before
    assert await store.desktops.desktop(new_desktop(90, IDV).id) is None


async def test_a_roster_cannot_bring_desktops_or_endpoints_past_their_beginning(
    store: Store,
) -> None:
    await fill(store)
    ready = new_desktop(1, IDV, state=DesktopState.READY)
    with pytest.raises(IllegalTransitionError):
        await store.directory.apply_roster(RosterChange(desktops=(ready,)))
    online = new_endpoint(90, state=EndpointState.ONLINE)
    with pytest.raises(IllegalTransitionError):
        await store.directory.apply_roster(RosterChange(endpoints=(online,)))
    assert await store.endpoints.endpoint(online.id) is None


async def test_one_pool_more_than_an_installation_has_is_refused(store: Store) -> None:
    await fill(store)
    there = len(await store.directory.pools())
    more = tuple(
        make_pool(id=f"pol_x{number}", name=f"x{number:04d}")
        for number in range(POOLS_MAX - there + 1)
    )
    with pytest.raises(ConflictError, match="room for no more"):
        await store.directory.apply_roster(RosterChange(pools=more))
    assert len(await store.directory.pools()) == there
    await store.directory.apply_roster(RosterChange(pools=more[:-1]))
    with pytest.raises(ConflictError, match="room for no more"):
        await store.directory.save_pool(more[-1], new=True)
    assert len(await store.directory.pools()) == POOLS_MAX
    await store.directory.save_pool(replace(more[0], title="changed"), new=False)

"""The queue as people see it: groups take turns while desktops become ready one by one."""

from __future__ import annotations

from dataclasses import replace

from broker.domain.model import Group, Role, Session, SessionState, User
from broker.ports import PageQuery, RosterChange
from tests.support.builders import NOW
from tests.support.world import World, make_world


async def with_teacher(world: World) -> None:
    """One desktop for pupils and staff, and a teacher."""
    pool = await world.pools.find("library")
    staff = Group(id="grp_3", name="staff", title="Staff", created_at=NOW)
    teacher = User(
        id="usr_teacher",
        username="teacher",
        display_name="Teacher",
        role=Role.USER,
        enabled=True,
        group_ids=(staff.id,),
        created_at=NOW,
    )
    await world.kit.store.directory.apply_roster(RosterChange(groups=(staff,), users=(teacher,)))
    world.users["teacher"] = teacher
    both = replace(pool, group_ids=("grp_1", staff.id), spares_min=0, size_max=1)
    await world.kit.store.directory.save_pool(both, new=False)
    world.pools.forget()


async def serve_next(world: World) -> str:
    """Who gets the one desktop next; he logs off at once. Everybody's client keeps calling."""
    store = world.kit.store.sessions
    for _ in range(60):
        world.clock.advance(2)
        queued = await store.sessions(PageQuery(limit=500, filters={"state": "queued"}))
        await store.active({one.id: world.clock.now() for one in queued.items})
        await world.look(2)
        rows = (await store.sessions(PageQuery(filters={"state": "delivering"}))).items
        if rows:
            name = rows[0].user_id.removeprefix("usr_")
            await world.sessions.log_off(world.who(name), rows[0].id)
            return name
    raise AssertionError("nobody was served")


async def test_a_teacher_is_served_after_one_pupil_and_is_told_so() -> None:
    async with make_world() as world:
        await with_teacher(world)
        for number in range(10):
            await world.connect.connect(world.who(f"pupil{number}"), "library")
            world.clock.advance(0.01)
        order = [await serve_next(world), await serve_next(world)]
        asked = await world.connect.connect(world.who("teacher"), "library")
        assert asked.session.state is SessionState.QUEUED
        assert asked.place == 1
        assert await world.services.queues.place(asked.session) == 1
        third = await store_session(world, "pupil2")
        assert await world.services.queues.place(third) == 2
        order += [await serve_next(world), await serve_next(world)]
        assert order == ["pupil0", "pupil1", "teacher", "pupil2"]


async def store_session(world: World, username: str) -> Session:
    filters = {"user_id": world.users[username].id, "state": "queued"}
    (session,) = (await world.kit.store.sessions.sessions(PageQuery(filters=filters))).items
    return session

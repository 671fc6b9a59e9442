"""Changes of pools that are refused, since nothing would come of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import BadRequestError
from broker.domain.model import Architecture
from tests.support.world import World, make_world


async def become(world: World, architecture: Architecture) -> None:
    pool = replace(await world.pools.find("library"), architecture=architecture)
    await world.kit.store.directory.save_pool(pool, new=False)
    world.pools.forget()


async def test_only_desktops_that_go_on_alone_have_a_lease_to_be_changed() -> None:
    async with make_world() as world:
        change = world.services.directory.change_pool
        before = (await world.pools.find("library")).lease_s
        with pytest.raises(BadRequestError, match="lease_s: desktops of library") as refused:
            await change("library", lease_s=before + 50)
        assert refused.value.fields == {"field": "lease_s"}
        assert (await change("library", lease_s=before, title="Books")).title == "Books"
        await become(world, Architecture.IDV)
        assert (await change("library", lease_s=before + 50)).lease_s == before + 50

"""What removed images left on hosts is cleared away in the background, host by host, for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from broker import limits
from broker.domain.errors import EngineError
from broker.domain.lifecycle import HostEvent
from broker.domain.model import Host, Image
from broker.ports import PageQuery, RosterChange, Store
from broker.store.memory import MemoryStore
from tests.support.brokers import Broker, broker_on, fill
from tests.support.builders import make_host
from tests.support.prompt_engine import PromptEngine
from tests.support.stores import make_image

OLD = make_image(7, name="old", version=7)


class Keeping(PromptEngine):
    """One that keeps files on hosts. `left`: host name -> files; `away`: hosts that do not answer;
    `broken`: hosts at which it fails by a fault of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.left = {"server-1": ["old-v7"], "server-2": ["old-v7"]}
        self.away: set[str] = set()
        self.broken: set[str] = set()
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.at_once = self.most = 0

    async def clear_images(
        self, host: Host, removed: Sequence[Image], deadline_s: float
    ) -> tuple[str, ...]:
        assert deadline_s > 0
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        self.asked.append((host.name, tuple(one.id for one in removed)))
        if host.name in self.broken:
            raise RuntimeError
        if host.name in self.away:
            raise EngineError("it does not answer")
        return tuple(self.left.pop(host.name, ()))


HOSTS = (make_host(), make_host(id="hst_2", name="server-2"))


async def filled(hosts: tuple[Host, ...] = HOSTS) -> MemoryStore:
    store = MemoryStore()
    await fill(store, hosts=hosts)
    await store.directory.apply_roster(RosterChange(images=(OLD,)))
    return store


async def removed(broker: Broker, engine: Keeping) -> None:
    """And settled."""
    await broker.services.image_removal.remove(OLD.id)
    broker.clock.advance(limits.IMAGE_SETTLE_S)
    await broker.services.image_removal.clear([engine])


async def told(store: Store) -> list[tuple[str | None, object]]:
    entries = (await store.audit.entries(PageQuery(limit=100))).items
    return [(one.host_id, one.details["files"]) for one in entries if one.action == "image.clear"]


async def test_every_host_is_cleared_once_what_had_begun_is_over_and_the_trail_says_so() -> None:
    store, engine = await filled(), Keeping()
    async with broker_on(store, engine=engine) as broker:
        removal = broker.services.image_removal
        await removal.remove(OLD.id)
        broker.clock.advance(limits.IMAGE_SETTLE_S - 1)
        await removal.clear([engine])
        assert engine.asked == []
        broker.clock.advance(1)
        await removal.clear([engine])
        assert sorted(engine.asked) == [("server-1", (OLD.id,)), ("server-2", (OLD.id,))]
        assert engine.left == {}
        assert sorted(await told(store)) == [("hst_1", ["old-v7"]), ("hst_2", ["old-v7"])]
        await removal.clear([engine])
        assert len(await told(store)) == 2, "nothing was left to tell of"


async def test_nothing_is_asked_for_while_no_image_was_removed() -> None:
    store, engine = await filled(), Keeping()
    async with broker_on(store, engine=engine) as broker:
        broker.clock.advance(limits.IMAGE_SETTLE_S)
        await broker.services.image_removal.clear([engine, PromptEngine()])
    assert engine.asked == []


@pytest.mark.parametrize("why", ["away", "broken"])
async def test_a_host_that_fails_keeps_no_other_waiting_and_is_asked_again(why: str) -> None:
    store, engine = await filled(), Keeping()
    getattr(engine, why).add("server-1")
    async with broker_on(store, engine=engine) as broker:
        removal, bugs = broker.services.image_removal, list[BaseException]()
        removal.on_bug = bugs.append
        await removed(broker, engine)
        assert engine.left == {"server-1": ["old-v7"]}
        assert removal.failures["images of a host"] == 1
        assert len(bugs) == (why == "broken")
        getattr(engine, why).clear()
        await removal.clear([engine])
        assert engine.left == {}


async def test_hosts_that_are_down_are_left_until_they_are_back() -> None:
    store, engine = await filled(), Keeping()
    async with broker_on(store, engine=engine) as broker:
        now = broker.clock.now()
        await store.directory.move_host("hst_1", HostEvent.LOST, now)
        await removed(broker, engine)
        assert engine.left == {"server-1": ["old-v7"]}
        await store.directory.move_host("hst_1", HostEvent.BACK, now)
        await broker.services.image_removal.clear([engine])
        assert engine.left == {}


async def test_only_one_broker_asks_hosts() -> None:
    store, engine = await filled(), Keeping()
    async with (
        broker_on(store, engine=engine) as one,
        broker_on(store, process="b", clock=one.clock, engine=engine) as other,
    ):
        await removed(one, engine)
        count = len(engine.asked)
        await other.services.image_removal.clear([engine])
        assert len(engine.asked) == count


async def test_hosts_are_asked_a_few_at_a_time() -> None:
    hosts = tuple(make_host(id=f"hst_{number}", name=f"server-{number}") for number in range(1, 21))
    store, engine = await filled(hosts), Keeping()
    async with broker_on(store, engine=engine) as broker:
        await removed(broker, engine)
    assert len(engine.asked) == 20
    assert engine.most == limits.HOSTS_CLEARED_AT_ONCE

"""The administrators: they drain and open, resize, set rules and quotas, and look after sessions.

They go to the brokers over the same unreliable way as everybody. What an administrator closes is
opened again by the same person, who insists on it. Requests that the web writes into the audit
trail are written here as broker/web/recorder.py does it; the services write the others themselves.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any, Final, Protocol

from broker.domain.audit import Outcome
from broker.domain.errors import TriviumError
from broker.domain.lifecycle import SESSION_HOLDS_PLACE
from broker.domain.model import Architecture, Host, Identity, Pool, Resources, Session
from broker.domain.policy.rules import Effect, QuotaScope
from broker.domain.settings import ServiceState
from broker.services.bundle import Services
from broker.services.decisions import decision
from broker.services.rulebook import QuotaWish, RuleWish
from broker.simulation.hands import Hands
from broker.simulation.keepers import Keeper
from broker.simulation.people import Office, Person
from broker.simulation.rulers import SIZE, draw_quota, draw_rule

PAUSE_S: Final = 14.0
"""mean pause between two things that an administrator does"""
CLOSED_S: Final = 45.0
"""mean time for which something is closed"""
SET_S: Final = 90.0
"""mean time for which a rule or a quota that was added holds"""
STUBBORN_MAX: Final = 8
"""times that an administrator begins again to undo what was done"""
Work = Callable[[Services], Awaitable[Any]]


class Site(Office, Protocol):
    """What the administrators see."""

    def hosts(self) -> tuple[Host, ...]: ...

    def live_sessions(self) -> tuple[Session, ...]: ...

    def endpoint_ids(self) -> tuple[str, ...]: ...


class Administrator(Person):
    """Somebody with the right to everything. `acknowledged`: action -> how often a broker said
    that it was done."""

    def __init__(self, site: Site, identity: Identity, chance: Random) -> None:
        super().__init__(site, identity, chance)
        self._site = site
        self.acknowledged: Counter[str] = Counter()
        self._made = 0

    async def live(self) -> None:
        keeper = Keeper(self._do, self.identity.user_id, self._chance, self._site.pools, self._name)
        hands = Hands(self._do, self.identity.user_id, self._chance, self._site.pools)
        acts = (
            (keeper.take, 4),
            (keeper.revert, 3),
            (keeper.drop, 2),
            (hands.restart, 4),
            (self._close_host, 3),
            (self._close_pool, 3),
            (self._close_site, 1),
            (self._resize_pool, 4),
            (self._resize_desktops, 2),
            (self._share_host, 2),
            (self._message, 3),
            (self._extend, 2),
            (self._end, 1),
            (self._rule, 3),
            (self._quota, 3),
            (self._preview, 3),
            (self._change_image, 3),
        )
        kinds = [act for act, _ in acts]
        weights = [weight for _, weight in acts]
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / PAUSE_S))
            if not self._site.acting:
                return
            await self._chance.choices(kinds, weights)[0]()

    # ------------------------------------------------------------------- the way

    async def _do(self, action: str, work: Work, *, recorded: bool = False, **about: str) -> bool:
        """Ask for it until there is an answer; whether it was done."""
        actor = self.identity.user_id

        async def asked(services: Services) -> bool:
            await (
                as_recorded(services, actor, action, about, work) if recorded else work(services)
            )
            return True

        done = await self.insist(f"administrator: {action}", asked)
        self.acknowledged[action] += bool(done)
        return bool(done)

    async def _undo(self, action: str, work: Work, *, recorded: bool = False, **about: str) -> None:
        """After the faults, too: nobody leaves the place closed behind them."""
        for _ in range(STUBBORN_MAX):
            if await self._do(action, work, recorded=recorded, **about):
                return
            await asyncio.sleep(5.0)

    async def _for_a_while(self, mean_s: float) -> None:
        await asyncio.sleep(self._chance.expovariate(1 / mean_s))

    def _name(self, noun: str) -> str:
        self._made += 1
        return f"{noun}-{self.identity.username}-{self._made}"

    def _closed_state(self) -> ServiceState:
        return self._chance.choice((ServiceState.DRAINING, ServiceState.MAINTENANCE))

    # -------------------------------------------------------- hosts, pools, the site

    async def _close_host(self) -> None:
        host = self._chance.choice(self._site.hosts())
        state, actor = self._closed_state(), self.identity.user_id

        async def close(services: Services) -> None:
            await services.site.set_host_state(host.id, state, actor=actor)

        async def reopen(services: Services) -> None:
            await services.site.set_host_state(host.id, ServiceState.OPEN, actor=actor)

        if await self._do(f"host.{_VERB[state]}", close):
            await self._for_a_while(CLOSED_S)
            # one that is open already, or was switched off meanwhile, is refused: so be it
            await self._do("host.open", reopen)

    async def _close_pool(self) -> None:
        pool = self._chance.choice(self._site.pools())
        state, actor = self._closed_state(), self.identity.user_id

        async def close(services: Services) -> None:
            await services.site.set_pool_state(pool.id, state, actor=actor)

        async def reopen(services: Services) -> None:
            await services.site.set_pool_state(pool.id, ServiceState.OPEN, actor=actor)

        if await self._do(f"pool.{_VERB[state]}", close):
            await self._for_a_while(CLOSED_S)
            await self._undo("pool.open", reopen)

    async def _close_site(self) -> None:
        state, actor = self._closed_state(), self.identity.user_id

        async def close(services: Services) -> None:
            await services.site.set_state(state, actor=actor)

        async def reopen(services: Services) -> None:
            await services.site.set_state(ServiceState.OPEN, actor=actor)

        if await self._do(f"site.{_VERB[state]}", close):
            await self._for_a_while(CLOSED_S / 2)
            await self._undo("site.open", reopen)

    # ------------------------------------------------------------------- sizes

    def _vdi_pool(self) -> Pool:
        pools = [one for one in self._site.pools() if one.architecture is Architecture.VDI]
        return self._chance.choice(pools)

    async def _resize_pool(self) -> None:
        pool, draw = self._vdi_pool(), self._chance
        size = max(draw.randint(3, 8), pool.settings.size_min, *_most_of(pool))
        spares, closes = draw.randint(0, min(3, size)), draw.random() < 0.2

        async def change(services: Services) -> None:
            await services.directory.change_pool(
                pool.id, size_max=size, spares_min=spares, enabled=not closes
            )

        async def enable(services: Services) -> None:
            await services.directory.change_pool(pool.id, enabled=True)

        done = await self._do("pool.change", change, recorded=True, pool_id=pool.id)
        if done and closes:
            await self._for_a_while(CLOSED_S)
            await self._undo("pool.change", enable, recorded=True, pool_id=pool.id)

    async def _resize_desktops(self) -> None:
        """Larger or smaller machines: those that are there are resized or made anew."""
        pool = self._vdi_pool()
        factor = self._chance.choice((0.5, 1.0, 1.5))
        size = Resources(cpus=SIZE.cpus * factor, memory_mib=int(SIZE.memory_mib * factor))

        async def change(services: Services) -> None:
            await services.directory.change_pool(pool.id, resources=size)

        await self._do("pool.change", change, recorded=True, pool_id=pool.id)

    async def _change_image(self) -> None:
        """Spares are made fresh of it, others at their next reset; sessions go on."""
        pool, ref = self._vdi_pool(), self._chance.choice(("image1@1", "image2@1"))

        async def change(services: Services) -> None:
            await services.directory.change_pool(pool.id, image=ref)

        await self._do("pool.change", change, recorded=True, pool_id=pool.id)

    async def _share_host(self) -> None:
        host, limit = self._chance.choice(self._site.hosts()), self._chance.randint(1, 4)
        managed = self._chance.random() < 0.3

        async def change(services: Services) -> None:
            await services.directory.change_host(
                host.id,
                start_limit=limit,
                settings=lambda settings: replace(settings, power_managed=managed),
            )

        await self._do("host.change", change, recorded=True, host_id=host.id)

    # ---------------------------------------------------------------- sessions

    def _session(self) -> Session | None:
        live = [one for one in self._site.live_sessions() if one.state in SESSION_HOLDS_PLACE]
        return self._chance.choice(live) if live else None

    async def _message(self) -> None:
        session = self._session()
        if session is not None:
            await self._do(
                "session.message",
                lambda all_: all_.sessions.message(self.identity, session.id, "please save"),
                recorded=True,
                session_id=session.id,
            )

    async def _extend(self) -> None:
        session, seconds = self._session(), self._chance.randint(10, 120)
        if session is not None:
            await self._do(
                "session.extend",
                lambda all_: all_.sessions.extend(self.identity, session.id, seconds),
                recorded=True,
                session_id=session.id,
            )

    async def _end(self) -> None:
        """Straight through the services: the move of the session is what is written."""
        session = self._session()
        if session is not None:
            await self.insist(
                "administrator: session.log_off",
                lambda all_: all_.sessions.log_off(self.identity, session.id),
            )

    # ---------------------------------------------------------- rules and quotas

    async def _rule(self) -> None:
        """A rule for a while. It is named, so that a repeated request makes one only."""
        pools = [one.id for one in self._site.pools()]
        drawn = draw_rule(self._chance, 0, pools, self._site.endpoint_ids())
        name = self._name("rule")
        wish = RuleWish(
            name=name,
            effect=Effect(drawn.effect),
            users=drawn.user_ids,
            groups=drawn.group_ids,
            pools=drawn.pool_ids,
            endpoints=drawn.endpoint_ids,
            networks=drawn.networks,
            windows=drawn.windows,
        )
        await self._do("rule.create", lambda all_: all_.rulebook.add_rule(wish), recorded=True)
        await self._for_a_while(SET_S)
        await self._do("rule.delete", lambda all_: all_.rulebook.remove_rule(name), recorded=True)

    async def _quota(self) -> None:
        drawn = draw_quota(self._chance, 0, [one.id for one in self._site.pools()])
        name = self._name("quota")
        wish = QuotaWish(
            name=name,
            scope=QuotaScope(drawn.scope),
            sessions_max=drawn.sessions_max,
            group=drawn.group_id,
            pools=drawn.pool_ids,
        )
        await self._do("quota.create", lambda all_: all_.rulebook.add_quota(wish), recorded=True)
        await self._for_a_while(SET_S)
        await self._do("quota.delete", lambda all_: all_.rulebook.remove_quota(name), recorded=True)

    async def _preview(self) -> None:
        """What can somebody do now? Nothing is changed by asking."""
        username = f"person{self._chance.randint(1, 24)}"

        async def preview(services: Services) -> None:
            user = await services.directory.user(username)
            await services.previews.preview(user)

        await self.insist("administrator: preview", preview)


_VERB: Final = {ServiceState.DRAINING: "drain", ServiceState.MAINTENANCE: "maintain"}


def _most_of(pool: Pool) -> tuple[int, ...]:
    """What the pool's settings want at most: its size may not be below."""
    wanted = [pool.settings.spares_suspended]
    for entry in pool.settings.schedule:
        wanted += [entry.spares_min or 0, entry.spares_suspended or 0, entry.size_min or 0]
    return tuple(wanted)


async def as_recorded(
    services: Services, actor: str, action: str, about: dict[str, str], work: Work
) -> None:
    """As the web does a request: its entry is there before it, with its outcome after."""
    entry = decision(services.kit, action, "done", about=about, actor=actor)
    await services.audit.ask(entry)
    try:
        await work(services)
    except TriviumError as error:
        outcome = Outcome.REFUSED
        await services.audit.settle(entry, outcome, f"refused: {error.detail}", {}, {})
        raise
    await services.audit.settle(entry, Outcome.DONE, "done", {}, {})

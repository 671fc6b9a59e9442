"""What administrators have said holds for everything that is given after it: drained hosts, pools
and sites, rules that deny, quotas, room and sizes.

What stops at once is checked at once. Rules, quotas and sizes may be known to a broker a little
later: it decides by copies of a few seconds, and a slow store makes the way from there longer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from broker.domain.calendar import holds
from broker.domain.lifecycle import SESSION_HOLDS_PLACE
from broker.domain.model import (
    Desktop,
    DesktopState,
    HostState,
    Instant,
    Pool,
    PoolKind,
    Session,
    SessionState,
)
from broker.domain.placement import Room, amounts
from broker.domain.planning.effective import zone_of
from broker.domain.policy.networks import parse_address, within
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.domain.settings import ServiceState
from broker.simulation.history import History
from broker.simulation.seams import SimClock
from broker.simulation.settling import site_of, waits_for_host
from broker.simulation.watched import WatchedState
from broker.store.loads import ASLEEP, host_load

KNOWN_MS: Final = 25_000
"""after which every broker goes by what was set: two copies' age, three slow reads on the way,
and what clocks differ by"""
_WAKING: Final = frozenset({DesktopState.RESUMING, DesktopState.UNPARKING})
_EPSILON: Final = 1e-6


class Rulings:
    """`addresses`: user -> where his requests come from."""

    def __init__(self, history: History, state: WatchedState, clock: SimClock) -> None:
        self.addresses: dict[str, str] = {}
        self._history = history
        self._state = state
        self._clock = clock
        self._since: dict[str, tuple[EntitlementRule | Quota, Instant]] = {}
        self._sizes: dict[str, tuple[int, Instant]] = {}

    def _broken(self, name: str, what: str) -> None:
        self._history.violated(name, what)

    def changed(self) -> None:
        """The store carried out a call: something may have been set."""
        now, state = self._clock.now(), self._state
        rows: Iterable[EntitlementRule | Quota] = (*state.rules.values(), *state.quotas.values())
        for row in rows:
            known = self._since.get(row.id)
            if known is None or known[0] is not row:
                self._since[row.id] = (row, now)
        for pool in state.pools.values():
            most, at = self._sizes.get(pool.id, (0, 0))
            if pool.size_max >= most or now - at > KNOWN_MS:
                self._sizes[pool.id] = (pool.size_max, now)

    def _in_force(self, row: EntitlementRule | Quota) -> bool:
        """So long that whoever decides now has decided by it."""
        known = self._since.get(row.id)
        return row.enabled and known is not None and known[1] < self._clock.now() - KNOWN_MS

    # -------------------------------------------------------------------- sessions

    def session_changed(self, old: Session | None, new: Session) -> None:
        pool = self._state.pools[new.pool_id]
        if old is None:
            self._admitted(new, pool)
            self._counted(new)
        given = new.state is SessionState.DELIVERING and (
            old is None or old.state is SessionState.QUEUED
        )
        if given or old is None:
            self._closed(old, new, pool)

    def _closed(self, old: Session | None, new: Session, pool: Pool) -> None:
        states = (pool.settings.state, site_of(self._state).state)
        owner = None
        if new.desktop_id is not None and pool.kind is PoolKind.DEDICATED:
            # those who wait for what is theirs are served while nobody new is
            owner = self._state.desktops[new.desktop_id].owner_id
        if old is not None and owner == new.user_id and ServiceState.MAINTENANCE not in states:
            return
        if states != (ServiceState.OPEN, ServiceState.OPEN) or not pool.enabled:
            words = f"{pool.name} is {states[0]}, the site {states[1]}, enabled {pool.enabled}"
            self._broken("I20", f"{new.id} is {new.state} although {words}")

    def _admitted(self, new: Session, pool: Pool) -> None:
        for rule in self._state.rules.values():
            if rule.effect is Effect.DENY and self._in_force(rule) and self._denies(rule, new):
                self._broken("I19", f"{new.id} was let into {pool.name} against {rule.name}")

    def _denies(self, rule: EntitlementRule, new: Session) -> bool:
        """All that the rule names fits, and its windows held for as long as that takes."""
        user, now = self._state.users[new.user_id], self._clock.now()
        zone = zone_of(None, site_of(self._state))
        address = parse_address(self.addresses.get(new.user_id, ""))
        fits = (
            (rule.user_ids, user.id in rule.user_ids),
            (rule.group_ids, not set(rule.group_ids).isdisjoint(user.group_ids)),
            (rule.pool_ids, new.pool_id in rule.pool_ids),
            (rule.endpoint_ids, new.endpoint_id in rule.endpoint_ids),
            (rule.networks, address is None or within(address, rule.networks)),
            (
                rule.windows,
                any(
                    holds(window, now - KNOWN_MS, zone) and holds(window, now + KNOWN_MS, zone)
                    for window in rule.windows
                ),
            ),
        )
        return all(fit for named, fit in fits if named)

    def _counted(self, new: Session) -> None:
        """Called before or after the new session is among the rows: it counts once."""
        live = {one: self._state.sessions[one] for one in self._state.held_places.values()}
        if new.state in SESSION_HOLDS_PLACE:
            live[new.id] = new
        groups = self._state.users[new.user_id].group_ids
        for quota in self._state.quotas.values():
            if not self._in_force(quota) or (quota.pool_ids and new.pool_id not in quota.pool_ids):
                continue
            if quota.scope is QuotaScope.GROUP and quota.group_id != new.group_id:
                continue
            if quota.scope is QuotaScope.USER and quota.group_id not in {None, *groups}:
                continue
            here = sum(self._counts(quota, one, new) for one in live.values())
            if here > quota.sessions_max:
                text = f"{new.id} is session {here} of {quota.sessions_max} under {quota.name}"
                self._broken("I18", text)

    @staticmethod
    def _counts(quota: Quota, one: Session, new: Session) -> bool:
        if quota.pool_ids and one.pool_id not in quota.pool_ids:
            return False
        if quota.scope is QuotaScope.USER:
            return one.user_id == new.user_id
        return quota.scope is QuotaScope.POOL or one.group_id == new.group_id

    # -------------------------------------------------------------------- desktops

    def desktop_changed(self, old: Desktop | None, new: Desktop) -> None:
        """A machine that comes to a host: new, woken, larger, or moved there."""
        if old is None and new.host_id is not None:
            self._comes(new, new.host_id, "made")
            self._sized(new)
        if old is None:
            return
        if new.moving_to is not None and new.moving_to != old.moving_to:
            self._comes(new, new.moving_to, "moved")
        woken = new.state in _WAKING and old.state in ASLEEP
        larger = any(
            now > before
            for now, before in zip(amounts(new.resources), amounts(old.resources), strict=True)
        )
        if (woken or larger) and new.host_id is not None:
            self._fits(new.host_id, f"{new.id} is {new.state}")

    def _comes(self, new: Desktop, host_id: str, how: str) -> None:
        state = self._state.hosts[host_id].state
        if state is not HostState.UP:
            self._broken("I20", f"{new.id} is {how} on {host_id}, which is {state}")
        self._fits(host_id, f"{new.id} is {how}")

    def _fits(self, host_id: str, what: str) -> None:
        """As the domain counts: what sleeps takes its disk, guarantees are kept."""
        state = self._state
        rows = [state.desktops[one] for one in sorted(state.host_desktops[host_id])]
        # one that failed takes nothing, and is cleared away in the look that fills its room
        there = [one for one in rows if one.state is not DesktopState.DELETING]
        load = host_load(state.hosts[host_id], there)
        room = Room(load, {one.id: one.settings.guarantee for one in state.pools.values()})
        promised = room.used[:2], room.most[:2]
        reserved = room.reserved[:2], room.capacity[:2]
        for taken, most in (*zip(*promised, strict=True), *zip(*reserved, strict=True)):
            if taken > most + _EPSILON:
                text = f"{what}: {len(there)} machines on {host_id}, {taken:g} of {most:g}"
                self._broken("I12", text)

    def _sized(self, new: Desktop) -> None:
        pool = self._state.pools[new.pool_id]
        most = max(pool.size_max, self._sizes.get(pool.id, (0, 0))[0])
        rows = [self._state.desktops[one] for one in self._state.pool_desktops[pool.id]]
        count = sum(not waits_for_host(self._state, one) for one in rows)
        if count > most:
            self._broken("I12", f"{pool.name} has {count} of {most}")

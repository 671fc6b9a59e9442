"""Which process shows a browser's display, and whether it still lives.

A display ends with its socket, and the process that holds that says so to the store. One that is
killed together with the person's browser says nothing, so each process has a sign of life: a lease
on one of BROKERS_MAX names. The sign (name and fence) is part of each display's id; a session whose
display is of no living sign is dark, and after DARK_S it is as if the display had been closed.
Until then its browser may come back by itself and show it at another process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from broker import limits
from broker.domain.errors import BusyError, TriviumError
from broker.domain.model import Instant, Session, WorkLease
from broker.services.kit import Kit
from broker.services.sessions import Sessions
from broker.services.shared_work import SharedWork

_log = logging.getLogger("trivium.display")

_PREFIX: Final = "broker:"
_LEFT_S: Final = limits.LEASE_SKEW_S + limits.DARK_S
_WHY: Final = "its display and the broker that showed it are gone"


class Showing:
    def __init__(self, kit: Kit, shared: SharedWork, sessions: Sessions) -> None:
        self._kit = kit
        self._shared = shared
        self._sessions = sessions
        self._lease: WorkLease | None = None
        self._dark: dict[tuple[str, str | None], float] = {}
        self._looked_s: float | None = None

    async def named(self, ticket_id: str) -> str:
        """The id of a display that this process opens with that ticket.

        Raises:
            BusyError: as many processes live as may.
            UnavailableError: the store does not answer.
        """
        if self._lease is None:
            await self.renew()
        if self._lease is None:
            raise BusyError(
                f"more than {limits.BROKERS_MAX} brokers share this database", retry_after_s=5.0
            )
        return f"{_sign(self._lease)}.{ticket_id}"

    async def renew(self) -> None:
        """Give the sign of life; to be called every SHOWING_RENEW_S. Raises what the store does."""
        if self._lease is not None:
            self._lease = await self._take(self._lease.name)
        if self._lease is None:
            now = self._kit.clock.now()
            leases = {one.name: one for one in await self._kit.store.leases.leases()}
            for number in range(limits.BROKERS_MAX):
                name = f"{_PREFIX}{number}"
                if name not in leases or _is_left(leases[name], now):
                    self._lease = await self._take(name)
                if self._lease is not None:
                    return

    async def _take(self, name: str) -> WorkLease | None:
        now = self._kit.clock.now()
        until = now + limits.SHOWING_S * 1000
        return await self._kit.store.leases.acquire(name, self._shared.holder, now, until)

    async def stop(self) -> None:
        """This process shows nothing any more."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            await self._kit.store.leases.release(lease)
        except TriviumError as error:
            _log.warning("the sign of life was not given back: %s", error.detail)

    async def sweep(self, lease: WorkLease | None) -> None:
        """Take note of the sessions that are dark, and disconnect those that have been for DARK_S.

        Only what was seen dark again and again, without a gap of DARK_LOOK_GAP_S, counts: after an
        outage of the database every sign is old, and no process has had its turn to renew it.
        """
        now_s = self._kit.clock.monotonic()
        if self._looked_s is None or now_s - self._looked_s > limits.DARK_LOOK_GAP_S:
            self._dark.clear()
        self._looked_s = now_s
        # all are noted at once, for each must be dark for DARK_S; few are disconnected in one look
        found = await self._kit.store.sessions.dark(await self._signs(), limits.DISPLAYS_MAX)
        for session in self._due(found, now_s)[: limits.RECONCILE_BATCH_MAX]:
            if lease is None or not await self._shared.keep(lease):
                return
            _log.info("the display of %s is gone with its broker", session.id)
            await self._sessions.lost(session, _WHY, display=session.display)

    async def shown(self, displays: Iterable[str]) -> frozenset[str]:
        """Those of these displays, by id, whose process gives its sign of life. Raises what the
        store does."""
        starts = tuple(f"{sign}." for sign in await self._signs())
        return frozenset(one for one in displays if one.startswith(starts))

    async def _signs(self) -> list[str]:
        now = self._kit.clock.now()
        return [
            _sign(one)
            for one in await self._kit.store.leases.leases()
            if one.name.startswith(_PREFIX) and _lives(one, now)
        ]

    def _due(self, found: Iterable[Session], now_s: float) -> list[Session]:
        before, due = self._dark, list[Session]()
        self._dark = {}
        for session in found:
            key = (session.id, session.display)
            self._dark[key] = since_s = before.get(key, now_s)
            if now_s - since_s >= limits.DARK_S:
                due.append(session)
        return due


def _sign(lease: WorkLease) -> str:
    return f"{lease.name}.{lease.fence}"


def _is_left(lease: WorkLease, now: Instant) -> bool:
    """Given back, or for so long not renewed that what its holder showed is dark: one that an
    outage of the database kept from renewing comes back to its name, which its displays bear."""
    return not lease.holder or lease.until + _LEFT_S * 1000 <= now


def _lives(lease: WorkLease, now: Instant) -> bool:
    return bool(lease.holder) and lease.until + limits.LEASE_SKEW_S * 1000 > now

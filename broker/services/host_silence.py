"""Hosts that do not answer: noticed, told, kept out of use, and given up only where that is safe.

An engine says since when it hears nothing of a host (HostListener). The process that sweeps keeps
what it found in one document: every process shows it, nothing new is made there, and nobody is
given a desktop there (broker/store). It is written into the audit trail when it begins and when it
ends, and the people whose sessions are there are told.

A host that does not answer may still run its machines. To call it lost makes its desktops anew
elsewhere, so the broker does that by itself only where nothing can come of both: the site's
settings allow it, none of the host's desktops keeps its person's work, and most of the hosts are
heard, so that it is not the broker that is cut off. Everything else is an administrator's decision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from broker import limits
from broker.domain.errors import (
    ConflictError,
    EngineError,
    IllegalTransitionError,
    NotFoundError,
)
from broker.domain.keeping import keeps_work
from broker.domain.lifecycle import HOST, HOST_RUNS, HostEvent
from broker.domain.model import Host, Instant, WorkLease
from broker.domain.silence import SILENCE_DOCUMENT, Silence, plain, silent_of
from broker.ports import Engine, HostListener, PageQuery
from broker.services.decisions import BROKER, decision
from broker.services.host_power import RUNS_STATES
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.sessions import Sessions
from broker.services.shared_work import SharedWork
from broker.services.site import Site

_log = logging.getLogger("trivium.hosts")

_TOLD: Final = (
    "The server that your desktop runs on does not answer just now. Nothing of yours is given up "
    "yet; the staff can see it."
)
_TOLD_BACK: Final = "The server that your desktop runs on answers again."


def heard(engine: Engine, host: Host, now: Instant) -> Silence | None:
    """The host's silence, if it has lasted long enough to count; None: it is heard, or its engine
    does not tell of hosts. Of one whose profile cannot be read here nothing is heard, either."""
    try:
        found = _missed(engine, host)
    except EngineError as error:
        return Silence(since=now, why=error.detail)
    return found if found is not None and _counts(found, now) else None


def _missed(engine: Engine, host: Host) -> Silence | None:
    """The host's silence, however short. Raises EngineError where this process cannot tell."""
    if host.state not in HOST_RUNS or not isinstance(engine, HostListener):
        return None
    return engine.silence(host)


def _counts(silence: Silence, now: Instant) -> bool:
    return silence.lasts_s(now) >= limits.HOST_SILENT_S


def _later(silence: Silence, host: Host) -> Silence:
    """What of it came after the host's state changed last: that it was not heard while it was off,
    or given up, says nothing of one that was put back."""
    return replace(silence, since=max(silence.since, host.changed_at))


class HostSilence:
    def __init__(
        self,
        kit: Kit,
        shared: SharedWork,
        pools: Pools,
        site: Site,
        sessions: Sessions,
        engines: Callable[[str], Engine],
    ) -> None:
        self._kit = kit
        self._shared = shared
        self._pools = pools
        self._site = site
        self._sessions = sessions
        self._engines = engines
        self.count: int | None = None
        """hosts that are not heard, as this process found; None: another does this work"""

    async def known(self) -> Mapping[str, Silence]:
        """Host id -> its silence, whichever process found it. Raises UnavailableError,
        BusyError."""
        document = await self._kit.store.documents.document(SILENCE_DOCUMENT)
        return silent_of(document.value) if document is not None else {}

    async def sweep(self, lease: WorkLease | None) -> None:
        """One look at every host that should run."""
        if lease is None:
            self.count = None
            return
        now = self._kit.clock.now()
        loads = await self._kit.store.directory.host_loads()
        hosts = {load.host.id: load.host for load in loads}
        before = await self.known()
        found: dict[str, Silence] = {}
        lasting: dict[str, Silence] = {}
        listened = unknown = 0
        for host in hosts.values():
            if host.state not in HOST_RUNS:
                continue
            known = before.get(host.id)
            try:
                engine = self._engines(host.engine)
                missed = _missed(engine, host)
            except (KeyError, EngineError):
                # this process cannot tell: what another found stands
                if known is not None:
                    found[host.id] = known
                    unknown += 1
                continue
            listened += isinstance(engine, HostListener)
            if missed is None:
                continue
            silence = _later(missed, host)
            if _counts(silence, now):
                lasting[host.id] = silence
            elif known is None:
                continue
            # shown is what the process before this one noted; it may have waited for longer
            since = min(known.since, silence.since) if known is not None else silence.since
            found[host.id] = Silence(since=since, why=silence.why)
        self.count = len(found)
        await self._keep(before, found, hosts)
        most = 2 * (len(found) - unknown) <= listened
        # only what this process itself has missed counts: nobody knows what was heard between
        # the last look of the process before it and its own first
        for host_id, silence in lasting.items():
            if not await self._shared.keep(lease):
                return
            await self._give_up(hosts[host_id], silence, most=most)

    async def _keep(
        self, before: Mapping[str, Silence], found: Mapping[str, Silence], hosts: Mapping[str, Host]
    ) -> None:
        """Store it, and tell what is new. Told after it is stored: who is told looks."""
        if dict(before) == dict(found):
            return
        documents = self._kit.store.documents
        document = await documents.document(SILENCE_DOCUMENT)
        revision = 0 if document is None else document.revision
        try:
            await documents.save(SILENCE_DOCUMENT, plain(found), revision=revision)
        except ConflictError:
            return  # another process does this work by now
        for host_id in sorted(found.keys() - before.keys()):
            await self._tell(hosts[host_id], "host.silent", found[host_id].why, _TOLD)
        for host_id in sorted(before.keys() - found.keys()):
            if host_id in hosts and hosts[host_id].state in HOST_RUNS:
                lasted_s = before[host_id].lasts_s(self._kit.clock.now())
                why = f"nothing was heard of it for {lasted_s:.0f} s"
                await self._tell(hosts[host_id], "host.heard", why, _TOLD_BACK)

    async def _tell(self, host: Host, action: str, why: str, words: str) -> None:
        _log.warning("%s: %s: %s", host.name, action, why)
        entry = decision(self._kit, action, why, about={"host_id": host.id})
        await self._kit.store.audit.append([entry])
        self._kit.events.publish("host", id=host.id)
        self._kit.events.publish("work", host_id=host.id)
        for desktop in await self._kit.store.desktops.on_host(
            host.id, RUNS_STATES, limits.DESKTOPS_PER_HOST_MAX
        ):
            query = PageQuery(filters={"desktop_id": desktop.id, "live": "true"})
            for session in (await self._kit.store.sessions.sessions(query)).items:
                try:
                    await self._sessions.tell(session.id, words)
                except (ConflictError, IllegalTransitionError, NotFoundError) as error:
                    _log.debug("%s was not told: %s", session.id, error.detail)

    # ------------------------------------------------------------------------- given up

    async def _give_up(self, host: Host, silence: Silence, *, most: bool) -> None:
        """Call it lost, where the broker may. `most`: at least half of the hosts are heard."""
        after_s = (await self._site.settings()).lost_after_s
        lasted_s = silence.lasts_s(self._kit.clock.now())
        if not after_s or lasted_s < after_s or not most:
            return
        if not HOST.allows(host.state, HostEvent.LOST) or await self._keeps(host):
            return
        why = f"nothing was heard of it for {lasted_s:.0f} s, and none of its desktops keeps work"
        try:
            await self._site.set_host_lost(host.id, lost=True, actor=BROKER, why=why)
        except (IllegalTransitionError, NotFoundError) as error:
            _log.debug("%s went another way: %s", host.name, error.detail)

    async def _keeps(self, host: Host) -> bool:
        """Whether somebody's work lies in a desktop there."""
        rows = await self._kit.store.desktops.on_host(
            host.id, RUNS_STATES, limits.DESKTOPS_PER_HOST_MAX
        )
        for row in rows:
            if keeps_work(await self._pools.find(row.pool_id), row.owner_id):
                return True
        return False

"""The store in plain dictionaries: for simulation and unit tests. Gone with the process.

Every method runs to its end without giving way, so each is atomic on the event loop. The same
rules hold as in the database: `state.State` refuses what the tables' constraints refuse.
"""

from __future__ import annotations

from collections import Counter

from broker.domain.errors import UnavailableError
from broker.domain.lifecycle import SESSION
from broker.domain.model import DesktopState
from broker.ports import Overview
from broker.store.memory.audit import MemoryAudit
from broker.store.memory.backup import MemoryBackup
from broker.store.memory.campaigns import MemoryCampaigns
from broker.store.memory.credentials import MemoryCredentials
from broker.store.memory.desktops import MemoryDesktops
from broker.store.memory.directory import MemoryDirectory
from broker.store.memory.documents import MemoryDocuments
from broker.store.memory.endpoints import MemoryEndpoints
from broker.store.memory.jobs import MemoryJobs
from broker.store.memory.leases import MemoryLeases
from broker.store.memory.sessions import MemorySessions
from broker.store.memory.snapshots import MemorySnapshots
from broker.store.memory.state import State

__all__ = ["MemoryStore"]


class MemoryStore:
    """Implements broker.ports.Store."""

    def __init__(self, state: State | None = None) -> None:
        """`state`: rows to begin with; the simulation brings one that it watches."""
        self._state = state or State()
        self._open = False
        self._directory = MemoryDirectory(self._state)
        self._credentials = MemoryCredentials(self._state)
        self._sessions = MemorySessions(self._state)
        self._desktops = MemoryDesktops(self._state)
        self._jobs = MemoryJobs(self._state)
        self._endpoints = MemoryEndpoints(self._state)
        self._campaigns = MemoryCampaigns(self._state)
        self._audit = MemoryAudit(self._state.audit, self._state.leases)
        self._leases = MemoryLeases(self._state.leases)
        self._documents = MemoryDocuments(self._state.documents)
        self._snapshots = MemorySnapshots(self._state)
        self._backup = MemoryBackup(self._state)

    @property
    def directory(self) -> MemoryDirectory:
        return self._directory

    @property
    def credentials(self) -> MemoryCredentials:
        return self._credentials

    @property
    def sessions(self) -> MemorySessions:
        return self._sessions

    @property
    def desktops(self) -> MemoryDesktops:
        return self._desktops

    @property
    def jobs(self) -> MemoryJobs:
        return self._jobs

    @property
    def endpoints(self) -> MemoryEndpoints:
        return self._endpoints

    @property
    def campaigns(self) -> MemoryCampaigns:
        return self._campaigns

    @property
    def audit(self) -> MemoryAudit:
        return self._audit

    @property
    def leases(self) -> MemoryLeases:
        return self._leases

    @property
    def documents(self) -> MemoryDocuments:
        return self._documents

    @property
    def snapshots(self) -> MemorySnapshots:
        return self._snapshots

    @property
    def backup(self) -> MemoryBackup:
        return self._backup

    async def open(self) -> None:
        """What was stored before a `close` is still there, as in a database."""
        self._open = True

    async def close(self) -> None:
        self._open = False

    async def ping(self) -> None:
        if not self._open:
            raise UnavailableError("the store is not open")

    async def overview(self) -> Overview:
        sessions = +self._state.session_counts
        terminal = {state.value for state in SESSION.terminal}
        return Overview(
            desktops=Counter(
                (one.architecture.value, one.state.value)
                for one in self._state.desktops.values()
                if one.state is not DesktopState.DELETED
            ),
            sessions={key: count for key, count in sessions.items() if key[1] not in terminal},
            endpoints=Counter(
                (one.kind.value, one.state.value) for one in self._state.endpoints.values()
            ),
            ended_total={key: count for key, count in sessions.items() if key[1] in terminal},
        )

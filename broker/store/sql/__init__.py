"""The store in SQL: SQLAlchemy Core over SQLite or PostgreSQL, statements run on threads."""

from __future__ import annotations

from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import URL

from broker.domain.errors import UnavailableError
from broker.limits import STORE_CONNECTIONS
from broker.ports import Overview
from broker.store.sql.audit import SqlAudit
from broker.store.sql.backup import SqlBackup
from broker.store.sql.campaigns import SqlCampaigns
from broker.store.sql.credentials import SqlCredentials
from broker.store.sql.desktops import SqlDesktops
from broker.store.sql.directory import SqlDirectory
from broker.store.sql.documents import SqlDocuments
from broker.store.sql.endpoints import SqlEndpoints
from broker.store.sql.engine import parse_url, prepare_file
from broker.store.sql.jobs import SqlJobs
from broker.store.sql.leases import SqlLeases
from broker.store.sql.migrate import bring_up_to_date
from broker.store.sql.overview import Overviews
from broker.store.sql.runner import Database
from broker.store.sql.sessions import SqlSessions
from broker.store.sql.snapshots import SqlSnapshots

__all__ = ["SqlStore"]


class SqlStore:
    """Implements broker.ports.Store.

    `migrate`: bring an older database up to date when it is opened; without it an older one is
    refused. `connections`: threads, each with its connection, to PostgreSQL; SQLite has one
    thread that writes and STORE_READERS that read. No thread starts before `open`.
    """

    def __init__(
        self, url: str, *, migrate: bool = True, connections: int = STORE_CONNECTIONS
    ) -> None:
        self._url: URL = parse_url(url)
        self._migrate = migrate
        self._database = Database(self._url, connections=connections)
        self._overviews = Overviews()
        self._directory = SqlDirectory(self._database)
        self._credentials = SqlCredentials(self._database)
        self._sessions = SqlSessions(self._database)
        self._desktops = SqlDesktops(self._database)
        self._jobs = SqlJobs(self._database)
        self._endpoints = SqlEndpoints(self._database)
        self._campaigns = SqlCampaigns(self._database)
        self._audit = SqlAudit(self._database)
        self._leases = SqlLeases(self._database)
        self._documents = SqlDocuments(self._database)
        self._snapshots = SqlSnapshots(self._database)
        self._backup = SqlBackup(self._database, self._url)

    @property
    def directory(self) -> SqlDirectory:
        return self._directory

    @property
    def credentials(self) -> SqlCredentials:
        return self._credentials

    @property
    def sessions(self) -> SqlSessions:
        return self._sessions

    @property
    def desktops(self) -> SqlDesktops:
        return self._desktops

    @property
    def jobs(self) -> SqlJobs:
        return self._jobs

    @property
    def endpoints(self) -> SqlEndpoints:
        return self._endpoints

    @property
    def campaigns(self) -> SqlCampaigns:
        return self._campaigns

    @property
    def audit(self) -> SqlAudit:
        return self._audit

    @property
    def leases(self) -> SqlLeases:
        return self._leases

    @property
    def documents(self) -> SqlDocuments:
        return self._documents

    @property
    def snapshots(self) -> SqlSnapshots:
        return self._snapshots

    @property
    def backup(self) -> SqlBackup:
        return self._backup

    async def open(self) -> None:
        if self._database.is_sqlite:
            prepare_file(self._url)
        await self._database.direct(partial(bring_up_to_date, migrate=self._migrate))

    async def close(self) -> None:
        await self._database.close()

    async def ping(self) -> None:
        def work(connection: sa.Connection) -> None:
            if connection.execute(sa.select(sa.literal_column("1"))).scalar() != 1:
                raise UnavailableError("the database does not answer")

        await self._database.read(work)

    async def overview(self) -> Overview:
        return await self._database.view(self._overviews.read)

"""Backup and restore of the memory store: for tests and the simulation.

Its dumps are the domain's records, and go into a memory store only (`schema`).
"""

from __future__ import annotations

import dataclasses
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from broker.domain.audit import AuditEntry, SealedEntry
from broker.domain.errors import (
    AlreadyExistsError,
    BadBackupError,
    ConflictError,
)
from broker.domain.lifecycle import DESKTOP, JOB, SESSION
from broker.domain.model import (
    Campaign,
    Desktop,
    Endpoint,
    Group,
    Host,
    Image,
    Job,
    Pool,
    Session,
    User,
    WorkLease,
)
from broker.domain.policy.rules import EntitlementRule, Quota
from broker.domain.snapshots import Snapshot
from broker.limits import EXPORT_BATCH
from broker.ports import Document, TableDump
from broker.store.desktop_snapshots import restored_state
from broker.store.memory.audit import insert_entries
from broker.store.memory.state import State
from broker.store.restoring import (
    RESTORED,
    desktop_state,
    endpoint_state,
    installation_secret,
    job_state,
    session_state,
)

Row = Mapping[str, Any]

LEFT_OUT: Final[Mapping[str, str]] = {
    "tokens": "what was given out does not work after a restore",
    "tickets": "likewise",
    "secrets": "likewise",
    "spent": "belongs to tickets and secrets",
    "keys": "idempotency keys name sessions that are over after a restore",
    "passwords": "stands in the rows of the users",
    "held_places": "follows from sessions",
    "user_places": "likewise",
    "held_desktops": "likewise",
    "queues": "likewise",
    "session_counts": "likewise",
    "timed_sessions": "likewise",
    "names": "follows from the named rows",
    "named": "likewise",
    "desktop_names": "follows from desktops",
    "spots": "likewise",
    "pool_desktops": "likewise",
    "endpoint_desktops": "likewise",
    "host_desktops": "likewise",
    "open_jobs": "follows from jobs",
}
"""fields of State that a dump does not hold, and why"""

_NAMED: Final[Mapping[str, tuple[type[Any], Callable[[Any], str]]]] = {
    "groups": (Group, lambda one: one.name),
    "users": (User, lambda one: one.username),
    "images": (Image, lambda one: f"{one.name}@{one.version}"),
    "hosts": (Host, lambda one: one.name),
    "pools": (Pool, lambda one: one.name),
    "endpoints": (Endpoint, lambda one: one.name),
    "rules": (EntitlementRule, lambda one: one.name),
    "quotas": (Quota, lambda one: one.name),
}
_PLAIN: Final[Mapping[str, type[Any]]] = {
    "desktops": Desktop,
    "sessions": Session,
    "jobs": Job,
    "snapshots": Snapshot,
    "campaigns": Campaign,
    "leases": WorkLease,
    "documents": Document,
}
_INSTALLATION: Final = "installation_secrets"
_AUDIT: Final = "audit_entries"
_OTHERS: Final = {"installation": _INSTALLATION, "audit": _AUDIT}
DUMPED: Final = {name: name for name in (*_NAMED, *_PLAIN)} | _OTHERS
"""field of State -> table of the dump, in the order in which they can be stored again"""
TABLES: Final = tuple(DUMPED.values())


def _row(record: object) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


def _dumped(state: State, table: str) -> list[Row]:
    if table == "users":
        rows = state.users.values()
        return [{**_row(one), "password_hash": state.passwords.get(one.id)} for one in rows]
    if table == _INSTALLATION:
        items = state.installation.items()
        return [{"name": name, "value": b64encode(value).decode()} for name, value in items]
    if table == _AUDIT:
        seals = {one.entry.id: one for one in state.audit.chain}
        return [_audit_row(one, seals.get(one.id)) for one in state.audit.entries.values()]
    return [_row(one) for one in getattr(state, table).values()]


def _audit_row(entry: AuditEntry, sealed: SealedEntry | None) -> Row:
    if sealed is None:
        return {**_row(entry), "number": None, "seal": None}
    return {**_row(entry), "number": sealed.number, "seal": b64encode(sealed.seal).decode()}


class MemoryBackup:
    """Implements broker.ports.BackupStore."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def schema(self) -> str:
        return "memory"

    async def dump(self) -> AsyncGenerator[TableDump, None]:
        everything = {table: _dumped(self._state, table) for table in TABLES}
        for table, rows in everything.items():
            for first in range(0, len(rows), EXPORT_BATCH):
                yield TableDump(table=table, rows=tuple(rows[first : first + EXPORT_BATCH]))

    async def restore(
        self, parts: AsyncIterator[TableDump], *, entry: AuditEntry, generation_step: int
    ) -> None:
        found = [part async for part in parts]
        if any(_dumped(self._state, table) for table in TABLES):
            raise ConflictError("a backup goes into an empty store only")
        # A trial first, so that a bad dump leaves the store empty.
        for state in (State(), self._state):
            try:
                _Restoring(state, entry, generation_step).fill(found)
            except (msgspec.ValidationError, AlreadyExistsError, KeyError, ValueError) as error:
                raise BadBackupError("its rows are damaged, or contradict each other") from error


def _record(row: Row, kind: type[Any], *, beside: Iterable[str] = ()) -> Any:
    """Raises msgspec.ValidationError or ValueError: the row is not that of such a record."""
    if row.keys() - set(beside) != {one.name for one in dataclasses.fields(kind)}:
        raise ValueError("a row has other columns than its record")
    return msgspec.convert(row, kind)


@dataclasses.dataclass(frozen=True, slots=True)
class _Restoring:
    state: State
    entry: AuditEntry
    step: int
    seen: set[tuple[str, str]] = dataclasses.field(default_factory=set)

    def fill(self, parts: Iterable[TableDump]) -> None:
        chain: list[SealedEntry] = []
        for part in parts:
            for row in part.rows:
                if part.table == _AUDIT:
                    chain += self._audit(row)
                else:
                    self._check_new(part.table, row)
                    self._put(part.table, row)
        self.state.audit.chain.extend(sorted(chain, key=lambda one: one.number))
        insert_entries(self.state.audit, [self.entry])

    def _check_new(self, table: str, row: Row) -> None:
        key = (table, str(row.get("id", row.get("name"))))
        if key in self.seen:
            raise AlreadyExistsError("a row comes twice")
        self.seen.add(key)

    def _put(self, table: str, row: Row) -> None:
        if table in _NAMED:
            kind, name_of = _NAMED[table]
            record = _record(row, kind, beside={"password_hash"} if table == "users" else set())
            if isinstance(record, Endpoint):
                record = replace(record, state=endpoint_state(record.state))
            rows = getattr(self.state, table)
            self.state.put_named(table, rows, record.id, name_of(record), record)
            if table == "users" and row["password_hash"] is not None:
                self.state.passwords[record.id] = row["password_hash"]
        elif table == _INSTALLATION:
            name, value = row["name"], b64decode(row["value"], validate=True)
            self.state.installation[name] = installation_secret(name, value, self.entry.at)
        else:
            self._plain(_record(row, _PLAIN[table]))

    def _plain(self, record: Any) -> None:
        state = self.state
        match record:
            case Desktop():
                state.put_desktop(self._desktop(record))
            case Session():
                state.put_session(self._session(record))
            case Job():
                state.put_job(self._job(record))
            case Snapshot():
                state.snapshots[record.id] = self._snapshot(record)
            case Campaign():
                state.campaigns[record.id] = record
            case WorkLease():
                freed = replace(record, holder="", until=0, fence=record.fence + self.step)
                state.leases[record.name] = freed
            case _:
                state.documents[record.name] = record

    def _desktop(self, desktop: Desktop) -> Desktop:
        generation = desktop.generation + self.step
        desktop = replace(desktop, generation=generation, moving_to=None)
        state = desktop_state(desktop.state, on_endpoint=desktop.endpoint_id is not None)
        if state is desktop.state:
            passing = state in DESKTOP.transient
            return replace(desktop, deadline_at=self.entry.at if passing else None)
        return replace(
            desktop,
            state=state,
            target=DESKTOP.transient.get(state),
            deadline_at=None,
            note=RESTORED,
            changed_at=self.entry.at,
        )

    def _session(self, session: Session) -> Session:
        if session.state in SESSION.terminal:
            return session
        return replace(
            session,
            state=session_state(session.state),
            why=RESTORED,
            deadline_at=None,
            lease_until=None,
            wish=None,
            browser=None,
            display=None,
            ended_at=self.entry.at,
            revision=session.revision + 1,
        )

    def _job(self, job: Job) -> Job:
        if job.state in JOB.terminal:
            return job
        return replace(
            job,
            state=job_state(job.state),
            error=RESTORED,
            deadline_at=None,
            finished_at=self.entry.at,
        )

    def _snapshot(self, snapshot: Snapshot) -> Snapshot:
        snapshot = replace(snapshot, generation=snapshot.generation + self.step)
        state = restored_state(snapshot.state)
        if state is snapshot.state:
            return snapshot
        return replace(snapshot, state=state, why=RESTORED, changed_at=self.entry.at)

    def _audit(self, row: Row) -> list[SealedEntry]:
        fields = dict(row)
        number, seal = fields.pop("number"), fields.pop("seal")
        entry = msgspec.convert(fields, AuditEntry)
        insert_entries(self.state.audit, [entry])
        if number is None:
            return []
        known = self.state.audit.unsealed.pop(entry.id)
        return [SealedEntry(number=number, seal=b64decode(seal, validate=True), entry=known)]

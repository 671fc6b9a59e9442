"""Stores of the audit trail, of leases for shared work, of documents, and of whole backups."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.domain.audit import AuditEntry, Outcome, SealedEntry
from broker.domain.model import Instant, WorkLease
from broker.ports.records import Page, PageQuery


class AuditStore(Protocol):
    """Entries are written with the change they tell of; see `SessionStore.claim` and others."""

    async def append(self, entries: Sequence[AuditEntry]) -> None:
        """Not sealed yet. An id that is known already is left as it is (a repeated call)."""

    async def settle(
        self,
        entry_id: str,
        outcome: Outcome,
        why: str,
        details: Mapping[str, object],
        about: Mapping[str, str] | None = None,
    ) -> bool:
        """Give an entry that was ASKED its outcome; False when it is settled or sealed already.

        `about`: ids by field (user_id, pool_id, …) that were not known when it was asked, such
        as those of what was made; one that the entry has already stays. Others: ValueError."""

    async def unsealed(self, asked_before: Instant, limit: int) -> tuple[AuditEntry, ...]:
        """Those to seal next, oldest first: settled ones, and ASKED ones from before that
        instant (the sealer settles these as UNKNOWN first)."""

    async def last_seal(self) -> tuple[int, bytes]:
        """(number, seal) of the last sealed entry; (0, GENESIS) when there is none."""

    async def seal(self, chain: Sequence[SealedEntry], lease: WorkLease) -> None:
        """Store these seals in one transaction. ConflictError, and nothing is stored, when the
        chain does not start behind the last seal, an entry is not settled or has a seal, or the
        lease's fence is not current."""

    async def chain(self, after: int, limit: int) -> tuple[SealedEntry, ...]:
        """Sealed entries with a number above `after`, ascending: for checking and export."""

    async def entries(self, query: PageQuery) -> Page[AuditEntry]:
        """Newest first (`after`: `at` and id as `at:id`). Filters: actor, action, outcome,
        user_id, session_id, desktop_id, pool_id, host_id, endpoint_id, request_id; also `since`
        (inclusive) and `until` (exclusive), instants as decimals. An empty filter is a
        ValueError."""


class AnchorKeeper(Protocol):
    """Keeps the newest anchor (`number:seal`) where who may write the database need not reach."""

    async def kept(self) -> str:
        """Empty where none was kept. Raises OSError."""

    async def keep(self, anchor: str) -> None:
        """In the place of the one before. Raises OSError."""


class LeaseStore(Protocol):
    """Who may do shared work. Times are the caller's: brokers' clocks differ by less than
    LEASE_SKEW_S, which takers wait for beyond `until`."""

    async def acquire(
        self, name: str, holder: str, now: Instant, until: Instant
    ) -> WorkLease | None:
        """Take a lease that nobody holds (free, or past its `until`) or renew one's own. A new
        holder gets the next fence, the same one keeps it. None while another holds it."""

    async def release(self, lease: WorkLease) -> None:
        """Give it back, if it is still this one (holder and fence)."""

    async def leases(self) -> tuple[WorkLease, ...]:
        """All, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A small JSON value under a name: the site's settings, a circuit breaker, a counter.
    `revision` counts from 1."""

    name: str
    revision: int
    value: Mapping[str, object]


class DocumentStore(Protocol):
    async def document(self, name: str) -> Document | None: ...

    async def documents(self, prefix: str) -> tuple[Document, ...]:
        """Those whose names begin with it, by name."""

    async def save(self, name: str, value: Mapping[str, object], *, revision: int) -> Document:
        """Store if the document is at `revision` (0: there is none), as the next revision;
        ConflictError otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDump:
    """Rows of one table: JSON-able values by column (bytes as base64 text). Tables come in an
    order in which they can be stored again; one table may come in many parts. Rows of
    `audit_entries` carry `number` and `seal` (null where there is none), those of
    `installation_secrets` `name` and `value`."""

    table: str
    rows: tuple[Mapping[str, object], ...]


class BackupStore(Protocol):
    @property
    def schema(self) -> str:
        """Names the tables and their columns: a dump goes only into a store of its schema."""

    def dump(self) -> AsyncGenerator[TableDump, None]:
        """Everything as of one instant, while others go on reading and writing."""

    async def restore(
        self, parts: AsyncIterator[TableDump], *, entry: AuditEntry, generation_step: int
    ) -> None:
        """Fill an empty store, in one transaction. ConflictError when it is not empty,
        BadBackupError when the rows are not this schema's or contradict each other.

        What was given out before must not work after: tokens, tickets, one-use secrets and
        idempotency keys are left out, sessions that were not over are FAILED (CANCELLED where
        they waited), desktops' generations and leases' fences go up by `generation_step`, and
        lease holders are cleared. Desktops on hosts that existed become `failed` (to be cleared
        and made anew; one that is being deleted still is), those of endpoints `unavailable`;
        online endpoints are offline. Queued and running jobs are cancelled. `entry` tells of the
        restore and is stored too; its `at` is when all of this ended.
        """

"""What a driver's failure means to us. No driver's text leaves the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from enum import Enum, auto

import psycopg
import sqlalchemy as sa

from broker.domain.errors import (
    AlreadyExistsError,
    BadRequestError,
    BusyError,
    ConflictError,
    TriviumError,
    UnavailableError,
)
from broker.limits import STORE_RETRY_S


class Fault(Enum):
    """Why a statement failed."""

    AGAIN = auto()
    """lost against another transaction; the same work may succeed at once"""
    LOST = auto()
    """the connection is gone"""
    BUSY = auto()
    """a lock or the statement's time ran out"""
    DUPLICATE = auto()
    REFERENCE = auto()
    IMPOSSIBLE = auto()
    """a check refused the row"""
    BAD_VALUE = auto()
    """the database has no way to store the value"""
    OTHER = auto()


class WorldMoved(Exception):  # noqa: N818 - it is no error, it is the other one's good luck
    """What a decision stood on is not so any more: decide again."""


DRIVER_ERRORS = (
    WorldMoved,
    sa.exc.SQLAlchemyError,
    sqlite3.Error,
    psycopg.Error,
    UnicodeError,
    OverflowError,
)
"""what a failed statement, a value that no driver takes, or a lost race raises"""

_SQLITE_PRIMARY = 0xFF
_SQLITE_FAULTS = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: Fault.DUPLICATE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: Fault.DUPLICATE,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: Fault.REFERENCE,
    sqlite3.SQLITE_CONSTRAINT_CHECK: Fault.IMPOSSIBLE,
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: Fault.IMPOSSIBLE,
}
_POSTGRES_FAULTS: tuple[tuple[type[psycopg.Error], Fault], ...] = (
    (psycopg.errors.SerializationFailure, Fault.AGAIN),
    (psycopg.errors.DeadlockDetected, Fault.AGAIN),
    (psycopg.errors.LockNotAvailable, Fault.BUSY),
    (psycopg.errors.QueryCanceled, Fault.BUSY),
    (psycopg.errors.UniqueViolation, Fault.DUPLICATE),
    (psycopg.errors.ForeignKeyViolation, Fault.REFERENCE),
    (psycopg.errors.IntegrityError, Fault.IMPOSSIBLE),
    (psycopg.errors.DataError, Fault.BAD_VALUE),
)


def fault_of(error: BaseException) -> Fault:
    """Sort a failure. UnicodeError and OverflowError come from values that no driver takes."""
    cause = error.orig if isinstance(error, sa.exc.StatementError) else error
    if isinstance(cause, sqlite3.Error):
        return _sqlite_fault(cause)
    if isinstance(cause, psycopg.Error):
        for kind, fault in _POSTGRES_FAULTS:
            if isinstance(cause, kind):
                return fault
        lost = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        return Fault.LOST if lost else Fault.OTHER
    if isinstance(cause, WorldMoved):
        return Fault.AGAIN
    if isinstance(cause, UnicodeError | OverflowError):
        return Fault.BAD_VALUE
    return Fault.OTHER


def _sqlite_fault(error: sqlite3.Error) -> Fault:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return Fault.BAD_VALUE if isinstance(error, sqlite3.DataError) else Fault.OTHER
    if code in _SQLITE_FAULTS:
        return _SQLITE_FAULTS[code]
    if code & _SQLITE_PRIMARY in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Fault.BUSY
    return Fault.OTHER


_TOLD: Mapping[Fault, tuple[type[TriviumError], str | None]] = {
    Fault.AGAIN: (BusyError, "too many changed the same thing"),
    Fault.BUSY: (UnavailableError, "the database is busy"),
    Fault.LOST: (UnavailableError, "the database does not answer"),
    Fault.OTHER: (UnavailableError, "the database failed"),
    Fault.DUPLICATE: (AlreadyExistsError, None),
    Fault.REFERENCE: (ConflictError, "it refers to something that does not exist"),
    Fault.IMPOSSIBLE: (ConflictError, "the database's rules refuse it"),
    Fault.BAD_VALUE: (BadRequestError, "a value cannot be stored"),
}
_PASSES = {Fault.AGAIN, Fault.BUSY, Fault.LOST, Fault.OTHER}
"""faults that a later try may not meet"""


def told(fault: Fault) -> TriviumError:
    """The error that callers see."""
    kind, detail = _TOLD[fault]
    return kind(detail, retry_after_s=STORE_RETRY_S if fault in _PASSES else None)

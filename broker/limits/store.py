"""The database, its queues, backups and the audit trail."""

from __future__ import annotations

from typing import Final

CLAIM_BATCH_MAX: Final = 128
"""claims that share one commit"""
IDENTITY_BATCH_MAX: Final = 128
"""tokens that are looked up together"""
CLAIM_QUEUE_MAX: Final = 16_384
"""claims waiting for a commit in one process; past it: server.busy"""
STORE_CALLS_MAX: Final = 10_000
"""calls of the store waiting or running in one process; past it: server.busy"""
STORE_READERS: Final = 3
"""threads that read SQLite beside its one writer"""
STORE_CONNECTIONS: Final = 16
"""threads, each with its own connection, to PostgreSQL in one process"""
STORE_CONNECT_S: Final = 5
"""to reach the database server"""
STORE_LOCK_S: Final = 5
"""wait for a lock that another process holds"""
STORE_STATEMENT_S: Final = 30
"""one statement on PostgreSQL"""
STORE_TRIES_MAX: Final = 5
"""runs of one transaction that loses against other processes"""
STORE_RETRY_S: Final = 1.0
"""pause told to callers when the database is busy or away"""
IDEMPOTENCY_S: Final = 24 * 3600
"""life of an idempotency key"""
PURGE_BATCH_MAX: Final = 5000
"""expired rows of one kind that one transaction deletes"""
ENDED_SETTLED_S: Final = 600
"""after this a session's end is counted once and for all; clocks of brokers differ by less"""
PURGE_S: Final = 600.0
"""between two clear-outs of expired credentials"""
STORE_PING_S: Final = 2.0
"""for the store to answer a readiness check"""
AUDIT_SETTLE_S: Final = 60
"""a request that was not settled by then is sealed as unknown"""
AUDIT_SEAL_S: Final = 1.0
"""between two runs of the sealer"""
AUDIT_ANCHOR_S: Final = 60.0
"""between two anchors that a broker keeps outside its database"""
AUDIT_SEAL_MAX: Final = 2000
"""entries sealed in one transaction"""
AUDIT_DETAILS_BYTES_MAX: Final = 8 * 1024
"""an entry's details, as JSON; what is past it is cut and said so"""
DOCUMENT_BYTES_MAX: Final = 256 * 1024
"""one stored document, as JSON"""
EXPORT_BATCH: Final = 1000
"""rows of one part of an export or a backup"""
GENERATION_STEP: Final = 1_000_000
"""what a restore adds to generations and fences, so that whatever was given out before loses"""
BACKUP_BYTES_MAX: Final = 256 * 2**30
"""a backup's tables, decompressed"""
BACKUP_ROW_BYTES_MAX: Final = 1024 * 1024
"""one row of a backup"""
BACKUP_CHUNK_BYTES: Final = 256 * 1024
"""read from a backup at a time, decompressed"""
BACKUP_MANIFEST_BYTES_MAX: Final = 256 * 1024
BACKUP_TABLES_MAX: Final = 200
"""tables in a backup"""

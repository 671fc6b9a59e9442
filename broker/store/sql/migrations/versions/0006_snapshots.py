"""Snapshots of desktops, and the jobs that make them, drop them and revert to them.

SQLite cannot change a check, so the table of jobs is made anew from its own stored text, as in
0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WORD = sa.Text()
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SIZE = sa.BigInteger()

_BEFORE = (
    "CONSTRAINT a_job_has_a_known_verb CHECK (verb IN ('create', 'destroy', 'migrate',"
    " 'power_off', 'power_on', 'reset', 'resize', 'resume', 'suspend'))"
)
_NOW = (
    "CONSTRAINT a_job_has_a_known_verb CHECK (verb IN ('create', 'destroy', 'drop_snapshot',"
    " 'migrate', 'power_off', 'power_on', 'reset', 'resize', 'resume', 'revert', 'snapshot',"
    " 'suspend'))"
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA legacy_alter_table = ON")
        _rebuild_jobs()
        op.execute("PRAGMA legacy_alter_table = OFF")
    else:
        op.execute("ALTER TABLE jobs DROP CONSTRAINT a_job_has_a_known_verb")
        op.execute(f"ALTER TABLE jobs ADD {_NOW}")
    _snapshots()


def _rebuild_jobs() -> None:
    connection = op.get_bind()
    stored = connection.execute(
        sa.text("SELECT type, sql FROM sqlite_master WHERE tbl_name = 'jobs'")
    ).all()
    text = next(sql for kind, sql in stored if kind == "table")
    if _BEFORE not in text:
        raise ValueError("the table of jobs has no such check")
    info = connection.exec_driver_sql("PRAGMA table_info(jobs)").all()
    names = ", ".join(row[1] for row in info)
    connection.exec_driver_sql("ALTER TABLE jobs RENAME TO jobs_before")
    connection.exec_driver_sql(text.replace(_BEFORE, _NOW))
    connection.exec_driver_sql(
        f"INSERT INTO jobs ({names}) SELECT {names} FROM jobs_before"  # noqa: S608 - our own
    )
    connection.exec_driver_sql("DROP TABLE jobs_before")
    for kind, sql in stored:
        if kind == "index" and sql:
            connection.exec_driver_sql(sql)


def _snapshots() -> None:
    op.create_table(
        "snapshot_moves",
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.PrimaryKeyConstraint("prior_state", "state", name="snapshot_moves_pk"),
    )
    op.create_table(
        "snapshots",
        sa.Column("id", NAME, nullable=False),
        sa.Column("desktop_id", NAME, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("note", WORD, nullable=False),
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("why", WORD, nullable=False),
        sa.Column("size_bytes", SIZE, nullable=True),
        sa.Column("cpus", sa.Double, nullable=False),
        sa.Column("memory_mib", sa.Integer, nullable=False),
        sa.Column("disk_mib", SIZE, nullable=False),
        sa.Column("disk_iops", SIZE, nullable=False),
        sa.Column("network_mbit", SIZE, nullable=False),
        sa.Column("created_at", SIZE, nullable=False),
        sa.Column("changed_at", SIZE, nullable=False),
        sa.ForeignKeyConstraint(
            ["desktop_id"], ["desktops.id"], name="snapshots_desktop_id_exists"
        ),
        sa.ForeignKeyConstraint(
            ["prior_state", "state"],
            ["snapshot_moves.prior_state", "snapshot_moves.state"],
            name="a_snapshot_moves_along_its_lifecycle",
        ),
        sa.PrimaryKeyConstraint("id", name="snapshots_pk"),
        sa.UniqueConstraint(
            "desktop_id", "generation", "name", name="a_snapshot_has_its_own_name_on_its_disk"
        ),
    )

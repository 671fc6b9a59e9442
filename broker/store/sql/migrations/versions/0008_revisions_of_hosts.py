"""How often administrators have changed what they say of a host.

SQLite appends a new column behind the table's constraints, where nobody reads it; so the table is
made anew from its own stored text, as in 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA legacy_alter_table = ON")
        _rebuild()
        op.execute("PRAGMA legacy_alter_table = OFF")
        return
    op.execute("ALTER TABLE hosts ADD COLUMN revision BIGINT NOT NULL DEFAULT 1")
    op.execute("ALTER TABLE hosts ALTER COLUMN revision DROP DEFAULT")


def _rebuild() -> None:
    connection = op.get_bind()
    stored = connection.execute(
        sa.text("SELECT type, sql FROM sqlite_master WHERE tbl_name = 'hosts'")
    ).all()
    opening, rest = next(sql for kind, sql in stored if kind == "table").split("(", 1)
    info = connection.exec_driver_sql("PRAGMA table_info(hosts)").all()
    names = ", ".join(row[1] for row in info)
    connection.exec_driver_sql("ALTER TABLE hosts RENAME TO hosts_before")
    connection.exec_driver_sql(f"{opening}(\n\trevision BIGINT NOT NULL,{rest}")
    connection.exec_driver_sql(
        f"INSERT INTO hosts (revision, {names}) SELECT 1, {names} FROM hosts_before"  # noqa: S608 - our own
    )
    connection.exec_driver_sql("DROP TABLE hosts_before")
    for kind, sql in stored:
        if kind == "index" and sql:
            connection.exec_driver_sql(sql)

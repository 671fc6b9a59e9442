"""Where a session is besides an endpoint: in which browser, with which display, and from where it
was asked.

SQLite appends a new column behind the table's constraints, where nobody reads it; so the table is
made anew from its own stored text, as in 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = (("browser", "NAME"), ("display", "NAME"), ("source", "TEXT"))


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA legacy_alter_table = ON")
        _rebuild()
        op.execute("PRAGMA legacy_alter_table = OFF")
        return
    for column, kind in COLUMNS:
        of_kind = 'TEXT COLLATE "C"' if kind == "NAME" else kind
        op.execute(f"ALTER TABLE sessions ADD COLUMN {column} {of_kind}")


def _rebuild() -> None:
    connection = op.get_bind()
    stored = connection.execute(
        sa.text("SELECT type, sql FROM sqlite_master WHERE tbl_name = 'sessions'")
    ).all()
    opening, rest = next(sql for kind, sql in stored if kind == "table").split("(", 1)
    added = "".join(f"\n\t{column} TEXT," for column, _ in COLUMNS)
    info = connection.exec_driver_sql("PRAGMA table_info(sessions)").all()
    names = ", ".join(row[1] for row in info)
    connection.exec_driver_sql("ALTER TABLE sessions RENAME TO sessions_before")
    connection.exec_driver_sql(f"{opening}({added}{rest}")
    connection.exec_driver_sql(
        f"INSERT INTO sessions ({names}) SELECT {names} FROM sessions_before"  # noqa: S608 - our own
    )
    connection.exec_driver_sql("DROP TABLE sessions_before")
    for kind, sql in stored:
        if kind == "index" and sql:
            connection.exec_driver_sql(sql)

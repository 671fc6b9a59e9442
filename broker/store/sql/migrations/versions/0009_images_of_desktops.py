"""What each desktop's disk was made from, and since when a pool has its image.

Of what is there already neither is known. SQLite appends a new column behind the table's
constraints, where nobody reads it; so the tables are made anew from their own stored text, as in
0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_IMAGE = "CONSTRAINT desktops_image_id_exists FOREIGN KEY(image_id) REFERENCES images (id)"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA legacy_alter_table = ON")
        _rebuild("pools", "\n\timage_since BIGINT,")
        _rebuild("desktops", "\n\timage_id TEXT,", f",\n\t{_IMAGE}")
        op.execute("PRAGMA legacy_alter_table = OFF")
    else:
        op.execute("ALTER TABLE pools ADD COLUMN image_since BIGINT")
        op.execute('ALTER TABLE desktops ADD COLUMN image_id TEXT COLLATE "C"')
        op.execute(f"ALTER TABLE desktops ADD {_IMAGE}")
    where = sa.text("state IN ('ready', 'suspended') AND owner_id IS NULL AND host_id IS NOT NULL")
    op.create_index(
        "spares_by_image",
        "desktops",
        ["pool_id", "image_id"],
        sqlite_where=where,
        postgresql_where=where,
    )


def _rebuild(table: str, columns: str, constraints: str = "") -> None:
    connection = op.get_bind()
    stored = connection.execute(
        sa.text("SELECT type, sql FROM sqlite_master WHERE tbl_name = :name"), {"name": table}
    ).all()
    opening, rest = next(sql for kind, sql in stored if kind == "table").split("(", 1)
    rest, closing = rest.rsplit(")", 1)
    info = connection.exec_driver_sql(f"PRAGMA table_info({table})").all()
    names = ", ".join(row[1] for row in info)
    connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {table}_before")
    made = f"{opening}({columns}{rest.rstrip()}{constraints}\n){closing}"
    connection.exec_driver_sql(made)
    connection.exec_driver_sql(
        f"INSERT INTO {table} ({names})"  # noqa: S608 - our own
        f" SELECT {names} FROM {table}_before"
    )
    connection.exec_driver_sql(f"DROP TABLE {table}_before")
    for kind, sql in stored:
        if kind == "index" and sql:
            connection.exec_driver_sql(sql)

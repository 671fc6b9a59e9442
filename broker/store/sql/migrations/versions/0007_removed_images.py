"""Versions of images that were removed.

SQLite appends a new column behind the table's constraints, where nobody reads it; so the table is
made anew from its own stored text, as in 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA legacy_alter_table = ON")
        _rebuild()
        op.execute("PRAGMA legacy_alter_table = OFF")
    else:
        op.add_column("images", sa.Column("removed_at", sa.BigInteger(), nullable=True))


def _rebuild() -> None:
    connection = op.get_bind()
    text = connection.execute(
        sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'images'")
    ).scalar_one()
    opening, rest = text.split("(", 1)
    connection.exec_driver_sql("ALTER TABLE images RENAME TO images_before")
    connection.exec_driver_sql(f"{opening}(\n\tremoved_at BIGINT,{rest}")
    names = "id, name, version, size_bytes, boot_bytes, created_at"
    connection.exec_driver_sql(
        f"INSERT INTO images ({names}) SELECT {names} FROM images_before"  # noqa: S608 - our own
    )
    connection.exec_driver_sql("DROP TABLE images_before")

"""Alembic's entry: runs the steps on the connection that `migrate` holds, in its transaction."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], version_table="schema_version"
)
context.run_migrations()

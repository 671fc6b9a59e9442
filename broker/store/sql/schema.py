"""What the tables are made of: column types, naming, lifecycle columns.

Every constraint carries the name of the rule it enforces. States move only along their
lifecycle: a row holds its state and the one before, and the pair must stand in the noun's table
of moves, which `migrate` fills from broker.domain.lifecycle. A new row comes from NOTHING, so
that it can only begin where its lifecycle begins. Statements write `prior_state = state`, never
a value of their own, which makes the pair true.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(column_0_name)s_exists",
    }
)

NOTHING = "nothing"
"""the state before the first one"""

# The database's own order must be the code points' order, which is Python's and SQLite's, or
# pages by name would skip rows.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
WORD = sa.Text()
INSTANT = sa.BigInteger()
SIZE = sa.BigInteger()


def listed(values: Iterable[StrEnum | str]) -> str:
    """The values as an SQL list, in a stable order: for partial indexes and checks.

    SQLite uses a partial index only where the query spells its condition the same way, as
    constants; queries therefore take theirs from here too.
    """
    texts = sorted(str(value) for value in values)
    return "(" + ", ".join(f"'{text}'" for text in texts) + ")"


def among(column: str, values: Iterable[StrEnum | str]) -> sa.TextClause:
    """`column IN (constants)`, as it stands in partial indexes."""
    return sa.text(f"{column} IN {listed(values)}")


def one_of(column: str, values: type[StrEnum], rule: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN {listed(values)}", name=rule)


def link(column: str, target: str, *, null: bool = False, **options: Any) -> sa.Column[Any]:
    """A column that refers to another table's id."""
    return sa.Column(column, NAME, sa.ForeignKey(f"{target}.id"), nullable=null, **options)


def resource_columns() -> tuple[sa.Column[Any], ...]:
    """What a desktop takes or a host has (broker.domain.model.Resources)."""
    return (
        sa.Column("cpus", sa.Double, nullable=False),
        sa.Column("memory_mib", sa.Integer, nullable=False),
        sa.Column("disk_mib", SIZE, nullable=False),
        sa.Column("disk_iops", SIZE, nullable=False),
        sa.Column("network_mbit", SIZE, nullable=False),
    )


def moves_table(noun: str) -> sa.Table:
    """The pairs (prior_state, state) that the noun's lifecycle allows."""
    return sa.Table(
        f"{noun}_moves",
        METADATA,
        sa.Column("prior_state", WORD, primary_key=True),
        sa.Column("state", WORD, primary_key=True),
    )


def lifecycle_columns(noun: str) -> tuple[sa.Column[str], sa.Column[str], sa.Constraint]:
    """prior_state and state, bound to the noun's moves."""
    article = "an" if noun[0] in "aeiou" else "a"
    return (
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.ForeignKeyConstraint(
            ["prior_state", "state"],
            [f"{noun}_moves.prior_state", f"{noun}_moves.state"],
            name=f"{article}_{noun}_moves_along_its_lifecycle",
        ),
    )


def partial_index(name: str, *columns: Any, where: sa.TextClause, unique: bool = False) -> sa.Index:
    return sa.Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)

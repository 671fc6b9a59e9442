"""Settings of pools and hosts, hosts' lifecycle, disk and network, migrations, wishes, notices.

PostgreSQL changes tables in place. SQLite cannot change constraints, so each table is made anew
from its own stored text, as SQLite's manual prescribes; `migrate` has foreign keys off meanwhile
and checks them before it commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WORD = sa.Text()

Column = tuple[str, str, str | None]
"""name, type, and the value that rows of before get; None: the column may be null"""

_RESOURCES: tuple[Column, ...] = (
    ("disk_mib", "BIGINT", "0"),
    ("disk_iops", "BIGINT", "0"),
    ("network_mbit", "BIGINT", "0"),
)
ADDED: Mapping[str, tuple[Column, ...]] = {
    "pools": (*_RESOURCES, ("settings", "TEXT", "'{}'")),
    "hosts": (
        *_RESOURCES,
        ("settings", "TEXT", "'{}'"),
        ("prior_state", "TEXT", "'nothing'"),
        ("deadline_at", "BIGINT", None),
        ("changed_at", "BIGINT", "0"),
        ("note", "TEXT", "''"),
    ),
    "desktops": (*_RESOURCES, ("moving_to", "NAME", None)),
    "jobs": (("arguments", "TEXT", "'{}'"),),
    "sessions": (
        ("active_at", "BIGINT", None),
        ("ends_at", "BIGINT", None),
        ("wish", "TEXT", None),
        ("notice", "TEXT", None),
    ),
}

_KNOWN_STATE = "CONSTRAINT a_host_is_in_a_known_state CHECK (state IN ('down', 'draining', 'up'))"
_HOST_MOVES = (
    "CONSTRAINT a_host_moves_along_its_lifecycle"
    " FOREIGN KEY(prior_state, state) REFERENCES host_moves (prior_state, state)"
)
_MOVING_TO = "CONSTRAINT desktops_moving_to_exists FOREIGN KEY(moving_to) REFERENCES hosts (id)"
_VERBS = "CONSTRAINT a_job_has_a_known_verb CHECK (verb IN ('create', 'destroy', 'reset'))"
_MORE_VERBS = (
    "CONSTRAINT a_job_has_a_known_verb CHECK (verb IN ('create', 'destroy', 'migrate',"
    " 'power_off', 'power_on', 'reset', 'resize', 'resume', 'suspend'))"
)


def upgrade() -> None:
    _host_moves()
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_all()
    else:
        _alter_all()
    # from here on a waiting session has a sign of life of its own
    op.execute("UPDATE sessions SET active_at = requested_at WHERE state = 'queued'")
    _indexes()


def _host_moves() -> None:
    moves = op.create_table(
        "host_moves",
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.PrimaryKeyConstraint("prior_state", "state", name="host_moves_pk"),
    )
    # the hosts that are there already must have come from somewhere
    rows = [{"prior_state": "nothing", "state": state} for state in ("down", "draining", "up")]
    op.bulk_insert(moves, rows)


# ------------------------------------------------------------------------------ PostgreSQL


def _alter_all() -> None:
    for table, columns in ADDED.items():
        for name, kind, value in columns:
            of_kind = 'TEXT COLLATE "C"' if kind == "NAME" else kind
            default = f" DEFAULT {value} NOT NULL" if value is not None else ""
            op.execute(f"ALTER TABLE {table} ADD COLUMN {name} {of_kind}{default}")
            if value is not None:
                op.execute(f"ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT")
    op.execute("ALTER TABLE hosts DROP CONSTRAINT a_host_is_in_a_known_state")
    op.execute(f"ALTER TABLE hosts ADD {_HOST_MOVES}")
    op.execute(f"ALTER TABLE desktops ADD {_MOVING_TO}")
    op.execute("ALTER TABLE jobs DROP CONSTRAINT a_job_has_a_known_verb")
    op.execute(f"ALTER TABLE jobs ADD {_MORE_VERBS}")
    op.execute("ALTER TABLE jobs ALTER COLUMN desktop_id DROP NOT NULL")
    op.execute("DROP INDEX desktops_on_hosts")


# ---------------------------------------------------------------------------------- SQLite


def _rebuild_all() -> None:
    # renaming a table must not change what other tables refer to
    op.execute("PRAGMA legacy_alter_table = ON")
    _rebuild("pools")
    _rebuild("hosts", instead={_KNOWN_STATE: _HOST_MOVES})
    _rebuild("desktops", constraints=(_MOVING_TO,), without=("desktops_on_hosts",))
    _rebuild(
        "jobs",
        instead={_VERBS: _MORE_VERBS, "desktop_id TEXT NOT NULL": "desktop_id TEXT"},
    )
    _rebuild("sessions")
    op.execute("PRAGMA legacy_alter_table = OFF")


def _rebuild(
    table: str,
    *,
    constraints: Sequence[str] = (),
    instead: Mapping[str, str] | None = None,
    without: Iterable[str] = (),
) -> None:
    """Make the table with its new columns and constraints, copy the rows, make its indexes."""
    connection = op.get_bind()
    stored = connection.execute(
        sa.text("SELECT type, name, sql FROM sqlite_master WHERE tbl_name = :name"),
        {"name": table},
    ).all()
    text = next(sql for kind, _, sql in stored if kind == "table")
    indexes = [sql for kind, name, sql in stored if kind == "index" and sql and name not in without]
    names = [row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})").all()]
    for old, better in (instead or {}).items():
        if old not in text:
            raise ValueError(f"{table} has no {old!r}")
        text = text.replace(old, better)
    opening, rest = text.split("(", 1)
    body, closing = rest.rsplit("\n)", 1)
    columns = [
        f"\n\t{name} {'TEXT' if kind == 'NAME' else kind}{'' if value is None else ' NOT NULL'},"
        for name, kind, value in ADDED[table]
    ]
    added = "".join(f", \n\t{constraint}" for constraint in constraints)
    connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {table}_before")
    connection.exec_driver_sql(f"{opening}({''.join(columns)}{body}{added}\n){closing}")
    new = [(name, value) for name, _, value in ADDED[table] if value is not None]
    into = ", ".join([*names, *(name for name, _ in new)])
    values = ", ".join([*names, *(value for _, value in new)])
    connection.exec_driver_sql(
        f"INSERT INTO {table} ({into}) SELECT {values} FROM {table}_before"  # noqa: S608 - our own
    )
    connection.exec_driver_sql(f"DROP TABLE {table}_before")
    for sql in indexes:
        connection.exec_driver_sql(sql)


# --------------------------------------------------------------------------------- indexes


def _indexes() -> None:
    load = ["state", "pool_id", "cpus", "memory_mib", "disk_mib", "disk_iops", "network_mbit"]
    _partial(
        "desktops_on_hosts",
        "desktops",
        ["host_id", *load, "moving_to"],
        "host_id IS NOT NULL AND state <> 'deleted'",
    )
    _partial(
        "desktops_moving",
        "desktops",
        ["moving_to", *load],
        "moving_to IS NOT NULL AND state <> 'deleted'",
    )
    _partial("sessions_by_silence", "sessions", ["active_at", "id"], "state IN ('queued')")
    _partial(
        "sessions_of_groups",
        "sessions",
        ["group_id", "pool_id"],
        "state IN ('active', 'delivering', 'disconnected', 'queued')",
    )


def _partial(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)

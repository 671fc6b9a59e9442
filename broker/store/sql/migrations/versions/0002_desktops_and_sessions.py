"""Desktops, jobs, sessions, tickets, campaigns."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WORD = sa.Text()
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""ordered by code point everywhere"""


def upgrade() -> None:
    _desktops()
    _jobs()
    _sessions()
    _tickets()
    _idempotency_keys()
    _campaigns()


def _where(condition: str) -> dict[str, Any]:
    """For a partial index."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def _desktops() -> None:
    op.create_table(
        "desktops",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("search", WORD, nullable=False),
        sa.Column("pool_id", NAME, nullable=False),
        sa.Column("architecture", WORD, nullable=False),
        sa.Column("host_id", NAME, nullable=True),
        sa.Column("endpoint_id", NAME, nullable=True),
        sa.Column("owner_id", NAME, nullable=True),
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("target", WORD, nullable=True),
        sa.Column("deadline_at", sa.BigInteger, nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("cpus", sa.Double(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("note", WORD, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "architecture IN ('idv', 'vdi', 'voi')", name="a_desktop_has_a_known_architecture"
        ),
        sa.CheckConstraint(
            "host_id IS NULL OR endpoint_id IS NULL", name="a_desktop_is_on_a_host_or_an_endpoint"
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name="desktops_endpoint_id_exists"
        ),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="desktops_host_id_exists"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="desktops_owner_id_exists"),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name="desktops_pool_id_exists"),
        sa.ForeignKeyConstraint(
            ["prior_state", "state"],
            ["desktop_moves.prior_state", "desktop_moves.state"],
            name="a_desktop_moves_along_its_lifecycle",
        ),
        sa.PrimaryKeyConstraint("id", name="desktops_pk"),
    )
    op.create_index(
        "a_desktop_has_its_own_name",
        "desktops",
        ["name"],
        unique=True,
        **_where("state <> 'deleted'"),
    )
    op.create_index(
        "an_endpoint_has_one_place_in_a_pool",
        "desktops",
        ["endpoint_id", "pool_id"],
        unique=True,
        **_where("endpoint_id IS NOT NULL AND state <> 'deleted'"),
    )
    op.create_index(
        "desktops_by_deadline", "desktops", ["deadline_at"], **_where("deadline_at IS NOT NULL")
    )
    op.create_index(
        "desktops_by_owner", "desktops", ["owner_id", "pool_id"], **_where("owner_id IS NOT NULL")
    )
    op.create_index("desktops_by_state", "desktops", ["state", "changed_at", "id"])
    op.create_index(
        "desktops_on_hosts",
        "desktops",
        ["host_id", "state", "cpus", "memory_mib"],
        **_where("host_id IS NOT NULL AND state NOT IN ('deleted', 'failed')"),
    )
    op.create_index("desktops_to_give", "desktops", ["pool_id", "state", "name", "id", "owner_id"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", NAME, nullable=False),
        sa.Column("verb", WORD, nullable=False),
        sa.Column("desktop_id", NAME, nullable=False),
        sa.Column("host_id", NAME, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger, nullable=True),
        sa.Column("not_before_at", sa.BigInteger, nullable=False),
        sa.Column("error", WORD, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=True),
        sa.CheckConstraint("verb IN ('create', 'destroy', 'reset')", name="a_job_has_a_known_verb"),
        sa.ForeignKeyConstraint(["desktop_id"], ["desktops.id"], name="jobs_desktop_id_exists"),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="jobs_host_id_exists"),
        sa.ForeignKeyConstraint(
            ["prior_state", "state"],
            ["job_moves.prior_state", "job_moves.state"],
            name="a_job_moves_along_its_lifecycle",
        ),
        sa.PrimaryKeyConstraint("id", name="jobs_pk"),
    )
    op.create_index(
        "jobs_by_deadline", "jobs", ["deadline_at"], **_where("deadline_at IS NOT NULL")
    )
    op.create_index("jobs_by_desktop", "jobs", ["desktop_id", "id"])
    op.create_index("jobs_to_do", "jobs", ["created_at", "id"], **_where("state IN ('queued')"))


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", NAME, nullable=False),
        sa.Column("user_id", NAME, nullable=False),
        sa.Column("pool_id", NAME, nullable=False),
        sa.Column("architecture", WORD, nullable=False),
        sa.Column("desktop_id", NAME, nullable=True),
        sa.Column("endpoint_id", NAME, nullable=True),
        sa.Column("group_id", NAME, nullable=True),
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("deadline_at", sa.BigInteger, nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("why", WORD, nullable=False),
        sa.Column("requested_at", sa.BigInteger, nullable=False),
        sa.Column("assigned_at", sa.BigInteger, nullable=True),
        sa.Column("live_at", sa.BigInteger, nullable=True),
        sa.Column("ended_at", sa.BigInteger, nullable=True),
        sa.Column("lease_until", sa.BigInteger, nullable=True),
        sa.Column("phases", WORD, nullable=False),
        sa.Column("control_bytes", sa.BigInteger, nullable=False),
        sa.Column("display_bytes", sa.BigInteger, nullable=False),
        sa.Column("image_bytes", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "architecture IN ('idv', 'vdi', 'voi')", name="a_session_has_a_known_architecture"
        ),
        sa.CheckConstraint(
            "desktop_id IS NOT NULL"
            " OR state NOT IN ('active', 'delivering', 'disconnected', 'ending')",
            name="a_session_past_the_queue_has_a_desktop",
        ),
        sa.ForeignKeyConstraint(["desktop_id"], ["desktops.id"], name="sessions_desktop_id_exists"),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name="sessions_endpoint_id_exists"
        ),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="sessions_group_id_exists"),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name="sessions_pool_id_exists"),
        sa.ForeignKeyConstraint(
            ["prior_state", "state"],
            ["session_moves.prior_state", "session_moves.state"],
            name="a_session_moves_along_its_lifecycle",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="sessions_user_id_exists"),
        sa.PrimaryKeyConstraint("id", name="sessions_pk"),
    )
    op.create_index(
        "a_desktop_has_one_live_session",
        "sessions",
        ["desktop_id"],
        unique=True,
        **_where("state IN ('active', 'delivering', 'disconnected', 'ending')"),
    )
    op.create_index(
        "a_user_has_one_live_session_of_a_pool",
        "sessions",
        ["user_id", "pool_id"],
        unique=True,
        **_where("state IN ('active', 'delivering', 'disconnected', 'queued')"),
    )
    op.create_index(
        "sessions_by_deadline", "sessions", ["deadline_at"], **_where("deadline_at IS NOT NULL")
    )
    op.create_index("sessions_by_desktop", "sessions", ["desktop_id", "id"])
    op.create_index("sessions_by_endpoint", "sessions", ["endpoint_id", "state"])
    op.create_index("sessions_by_state", "sessions", ["state", "id"])
    op.create_index("sessions_by_user", "sessions", ["user_id", "id"])
    op.create_index(
        "sessions_ended",
        "sessions",
        ["ended_at", "architecture", "state"],
        **_where("ended_at IS NOT NULL"),
    )
    op.create_index("sessions_in_queues", "sessions", ["pool_id"], **_where("state IN ('queued')"))
    op.create_index(
        "sessions_live",
        "sessions",
        ["id", "architecture", "state"],
        **_where("state IN ('active', 'delivering', 'disconnected', 'ending', 'queued')"),
    )


def _tickets() -> None:
    op.create_table(
        "tickets",
        sa.Column("id", NAME, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", NAME, nullable=False),
        sa.Column("user_id", NAME, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=True),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="tickets_session_id_exists"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="tickets_user_id_exists"),
        sa.PrimaryKeyConstraint("id", name="tickets_pk"),
        sa.UniqueConstraint("secret_hash", name="a_secret_opens_one_ticket"),
    )
    op.create_index("tickets_by_expiry", "tickets", ["expires_at"])


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("digest", NAME, nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", NAME, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name="idempotency_keys_session_id_exists"
        ),
        sa.PrimaryKeyConstraint("digest", name="idempotency_keys_pk"),
    )
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["seen_at"])


def _campaigns() -> None:
    op.create_table(
        "campaigns",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("search", WORD, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("plan_sha256", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("verdict", WORD, nullable=False),
        sa.Column("report_path", WORD, nullable=False),
        sa.Column("summary", WORD, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=True),
        sa.CheckConstraint(
            "state IN ('failed', 'finished', 'running')", name="a_campaign_is_in_a_known_state"
        ),
        sa.PrimaryKeyConstraint("id", name="campaigns_pk"),
    )

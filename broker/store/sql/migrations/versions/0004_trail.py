"""The audit trail, leases for shared work, documents, rules, quotas."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WORD = sa.Text()
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

_ABOUT = ("user_id", "session_id", "desktop_id", "pool_id", "host_id", "endpoint_id", "request_id")


def upgrade() -> None:
    _audit_entries()
    _work_leases()
    _documents()
    _rules()
    _quotas()


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def _audit_entries() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", NAME, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("action", NAME, nullable=False),
        sa.Column("outcome", WORD, nullable=False),
        sa.Column("why", WORD, nullable=False),
        sa.Column("details", WORD, nullable=False),
        *(sa.Column(name, NAME, nullable=False) for name in _ABOUT),
        sa.Column("source", WORD, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=True),
        sa.Column("seal", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('asked', 'done', 'failed', 'refused', 'unknown')",
            name="an_entry_has_a_known_outcome",
        ),
        sa.CheckConstraint(
            "(number IS NULL) = (seal IS NULL)", name="an_entry_has_a_number_with_its_seal"
        ),
        sa.CheckConstraint(
            "number IS NULL OR outcome <> 'asked'", name="a_sealed_entry_has_its_outcome"
        ),
        sa.PrimaryKeyConstraint("id", name="audit_entries_pk"),
    )
    op.create_index(
        "a_number_of_the_chain_is_given_once",
        "audit_entries",
        ["number"],
        unique=True,
        **_where("number IS NOT NULL"),
    )
    op.create_index(
        "audit_entries_to_seal",
        "audit_entries",
        ["at", "id", "outcome"],
        **_where("number IS NULL"),
    )
    op.create_index("audit_entries_by_time", "audit_entries", ["at", "id"])
    for name in ("actor", "action", "outcome"):
        op.create_index(f"audit_entries_by_{name}", "audit_entries", [name, "at", "id"])
    for name in _ABOUT:
        op.create_index(
            f"audit_entries_by_{name}",
            "audit_entries",
            [name, "at", "id"],
            **_where(f"{name} <> ''"),
        )


def _work_leases() -> None:
    op.create_table(
        "work_leases",
        sa.Column("name", NAME, nullable=False),
        sa.Column("holder", WORD, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="work_leases_pk"),
    )


def _documents() -> None:
    op.create_table(
        "documents",
        sa.Column("name", NAME, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("value", WORD, nullable=False),
        sa.PrimaryKeyConstraint("name", name="documents_pk"),
    )


def _rules() -> None:
    op.create_table(
        "rules",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("effect", WORD, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("terms", WORD, nullable=False),
        sa.Column("note", WORD, nullable=False),
        sa.CheckConstraint("effect IN ('allow', 'deny')", name="a_rule_has_a_known_effect"),
        sa.PrimaryKeyConstraint("id", name="rules_pk"),
        sa.UniqueConstraint("name", name="a_rule_has_its_own_name"),
    )


def _quotas() -> None:
    op.create_table(
        "quotas",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("scope", WORD, nullable=False),
        sa.Column("sessions_max", sa.Integer(), nullable=False),
        sa.Column("group_id", NAME, nullable=True),
        sa.Column("pool_ids", WORD, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.CheckConstraint("scope IN ('group', 'pool', 'user')", name="a_quota_has_a_known_scope"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="quotas_group_id_exists"),
        sa.PrimaryKeyConstraint("id", name="quotas_pk"),
        sa.UniqueConstraint("name", name="a_quota_has_its_own_name"),
    )

"""The tables of the audit trail, of leases, documents, rules and quotas."""

from __future__ import annotations

import sqlalchemy as sa

from broker.domain.audit import Outcome
from broker.domain.policy.rules import Effect, QuotaScope
from broker.store.sql.schema import (
    INSTANT,
    METADATA,
    NAME,
    WORD,
    link,
    one_of,
    partial_index,
)

ABOUT = ("user_id", "session_id", "desktop_id", "pool_id", "host_id", "endpoint_id", "request_id")
"""columns of an entry that are empty where it is not about such a thing"""
UNSEALED = sa.text("number IS NULL")

# Entries outlive what they are about, so their ids refer to nothing.
audit_entries = sa.Table(
    "audit_entries",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("at", INSTANT, nullable=False),
    sa.Column("actor", NAME, nullable=False),
    sa.Column("action", NAME, nullable=False),
    sa.Column("outcome", WORD, nullable=False),
    sa.Column("why", WORD, nullable=False),
    sa.Column("details", WORD, nullable=False),
    *(sa.Column(name, NAME, nullable=False) for name in ABOUT),
    sa.Column("source", WORD, nullable=False),
    sa.Column("number", sa.BigInteger),
    sa.Column("seal", sa.LargeBinary),
    one_of("outcome", Outcome, "an_entry_has_a_known_outcome"),
    sa.CheckConstraint(
        "(number IS NULL) = (seal IS NULL)", name="an_entry_has_a_number_with_its_seal"
    ),
    sa.CheckConstraint(
        "number IS NULL OR outcome <> 'asked'", name="a_sealed_entry_has_its_outcome"
    ),
    partial_index(
        "a_number_of_the_chain_is_given_once",
        "number",
        unique=True,
        where=sa.text("number IS NOT NULL"),
    ),
    partial_index("audit_entries_to_seal", "at", "id", "outcome", where=UNSEALED),
    sa.Index("audit_entries_by_time", "at", "id"),
    *(
        sa.Index(f"audit_entries_by_{name}", name, "at", "id")
        for name in ("actor", "action", "outcome")
    ),
    *(
        partial_index(f"audit_entries_by_{name}", name, "at", "id", where=sa.text(f"{name} <> ''"))
        for name in ABOUT
    ),
)

work_leases = sa.Table(
    "work_leases",
    METADATA,
    sa.Column("name", NAME, primary_key=True),
    # empty where nobody holds it
    sa.Column("holder", WORD, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("until", INSTANT, nullable=False),
)

documents = sa.Table(
    "documents",
    METADATA,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("value", WORD, nullable=False),
)

rules = sa.Table(
    "rules",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("effect", WORD, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    # what must match, as JSON: no statement looks into it
    sa.Column("terms", WORD, nullable=False),
    sa.Column("note", WORD, nullable=False),
    sa.UniqueConstraint("name", name="a_rule_has_its_own_name"),
    one_of("effect", Effect, "a_rule_has_a_known_effect"),
)

quotas = sa.Table(
    "quotas",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("scope", WORD, nullable=False),
    sa.Column("sessions_max", sa.Integer, nullable=False),
    link("group_id", "groups", null=True),
    # JSON
    sa.Column("pool_ids", WORD, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.UniqueConstraint("name", name="a_quota_has_its_own_name"),
    one_of("scope", QuotaScope, "a_quota_has_a_known_scope"),
)

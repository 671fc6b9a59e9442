"""Moves, people, images, pools, hosts, endpoints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WORD = sa.Text()
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""ordered by code point everywhere"""


def upgrade() -> None:
    _desktop_moves()
    _session_moves()
    _endpoint_moves()
    _job_moves()
    _users()
    _groups()
    _memberships()
    _tokens()
    _one_use_secrets()
    _installation_secrets()
    _images()
    _pools()
    _entitlements()
    _hosts()
    _endpoints()
    _endpoint_pools()


def _desktop_moves() -> None:
    op.create_table(
        "desktop_moves",
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.PrimaryKeyConstraint("prior_state", "state", name="desktop_moves_pk"),
    )


def _session_moves() -> None:
    op.create_table(
        "session_moves",
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.PrimaryKeyConstraint("prior_state", "state", name="session_moves_pk"),
    )


def _endpoint_moves() -> None:
    op.create_table(
        "endpoint_moves",
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.PrimaryKeyConstraint("prior_state", "state", name="endpoint_moves_pk"),
    )


def _job_moves() -> None:
    op.create_table(
        "job_moves",
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.PrimaryKeyConstraint("prior_state", "state", name="job_moves_pk"),
    )


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("id", NAME, nullable=False),
        sa.Column("username", NAME, nullable=False),
        sa.Column("display_name", WORD, nullable=False),
        sa.Column("search", WORD, nullable=False),
        sa.Column("role", WORD, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("password_hash", WORD, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "role IN ('administrator', 'auditor', 'operator', 'user')",
            name="a_user_has_a_known_role",
        ),
        sa.PrimaryKeyConstraint("id", name="users_pk"),
        sa.UniqueConstraint("username", name="a_username_belongs_to_one_user"),
    )


def _groups() -> None:
    op.create_table(
        "groups",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("title", WORD, nullable=False),
        sa.Column("search", WORD, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="groups_pk"),
        sa.UniqueConstraint("name", name="a_group_has_its_own_name"),
    )


def _memberships() -> None:
    op.create_table(
        "memberships",
        sa.Column("user_id", NAME, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("group_id", NAME, nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="memberships_group_id_exists"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="memberships_user_id_exists"),
        sa.PrimaryKeyConstraint("user_id", "position", name="memberships_pk"),
        sa.UniqueConstraint("group_id", "user_id", name="a_user_is_in_a_group_once"),
    )


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", NAME, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", NAME, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="tokens_user_id_exists"),
        sa.PrimaryKeyConstraint("id", name="tokens_pk"),
        sa.UniqueConstraint("secret_hash", name="a_secret_opens_one_token"),
    )
    op.create_index("tokens_by_expiry", "tokens", ["expires_at"])
    op.create_index("tokens_by_user", "tokens", ["user_id"])


def _one_use_secrets() -> None:
    op.create_table(
        "one_use_secrets",
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("payload", WORD, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("secret_hash", name="one_use_secrets_pk"),
    )
    op.create_index("one_use_secrets_by_expiry", "one_use_secrets", ["expires_at"])


def _installation_secrets() -> None:
    op.create_table(
        "installation_secrets",
        sa.Column("name", NAME, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="installation_secrets_pk"),
    )


def _images() -> None:
    op.create_table(
        "images",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("boot_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="images_pk"),
        sa.UniqueConstraint("name", "version", name="an_image_has_a_version_once"),
    )


def _pools() -> None:
    op.create_table(
        "pools",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("title", WORD, nullable=False),
        sa.Column("architecture", WORD, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("image_id", NAME, nullable=False),
        sa.Column("cpus", sa.Double(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("spares_min", sa.Integer(), nullable=False),
        sa.Column("size_max", sa.Integer(), nullable=False),
        sa.Column("log_off", WORD, nullable=False),
        sa.Column("disconnect_grace_s", sa.Integer(), nullable=False),
        sa.Column("lease_s", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "architecture IN ('idv', 'vdi', 'voi')", name="a_pool_has_a_known_architecture"
        ),
        sa.CheckConstraint("kind IN ('dedicated', 'floating')", name="a_pool_is_of_a_known_kind"),
        sa.CheckConstraint(
            "log_off IN ('delete', 'keep', 'reset')", name="a_pool_has_a_known_log_off"
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="pools_image_id_exists"),
        sa.PrimaryKeyConstraint("id", name="pools_pk"),
        sa.UniqueConstraint("name", name="a_pool_has_its_own_name"),
    )


def _entitlements() -> None:
    op.create_table(
        "entitlements",
        sa.Column("pool_id", NAME, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("group_id", NAME, nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="entitlements_group_id_exists"),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name="entitlements_pool_id_exists"),
        sa.PrimaryKeyConstraint("pool_id", "position", name="entitlements_pk"),
        sa.UniqueConstraint("group_id", "pool_id", name="a_group_is_entitled_to_a_pool_once"),
    )


def _hosts() -> None:
    op.create_table(
        "hosts",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("engine", WORD, nullable=False),
        sa.Column("profile", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("cpus", sa.Double(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("overcommit_cpu", sa.Double(), nullable=False),
        sa.Column("start_limit", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state IN ('down', 'draining', 'up')", name="a_host_is_in_a_known_state"
        ),
        sa.PrimaryKeyConstraint("id", name="hosts_pk"),
        sa.UniqueConstraint("name", name="a_host_has_its_own_name"),
    )


def _endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("search", WORD, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("location", NAME, nullable=False),
        sa.Column("prior_state", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=True),
        sa.Column("agent_version", WORD, nullable=False),
        sa.Column("last_seen_at", sa.BigInteger, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("kind IN ('fat', 'thin')", name="an_endpoint_is_of_a_known_kind"),
        sa.ForeignKeyConstraint(
            ["prior_state", "state"],
            ["endpoint_moves.prior_state", "endpoint_moves.state"],
            name="an_endpoint_moves_along_its_lifecycle",
        ),
        sa.PrimaryKeyConstraint("id", name="endpoints_pk"),
        sa.UniqueConstraint("name", name="an_endpoint_has_its_own_name"),
    )
    op.create_index("endpoints_by_kind", "endpoints", ["kind", "state"])
    op.create_index("endpoints_by_state_and_sign_of_life", "endpoints", ["state", "last_seen_at"])


def _endpoint_pools() -> None:
    op.create_table(
        "endpoint_pools",
        sa.Column("endpoint_id", NAME, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pool_id", NAME, nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name="endpoint_pools_endpoint_id_exists"
        ),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name="endpoint_pools_pool_id_exists"),
        sa.PrimaryKeyConstraint("endpoint_id", "position", name="endpoint_pools_pk"),
        sa.UniqueConstraint("pool_id", "endpoint_id", name="an_endpoint_is_in_a_pool_once"),
    )

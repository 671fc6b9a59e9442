"""The tables. How they come to be in a database is the business of migrations/."""

from __future__ import annotations

import sqlalchemy as sa

from broker.domain.lifecycle import SESSION_HOLDS_DESKTOP, SESSION_HOLDS_PLACE
from broker.domain.model import (
    Architecture,
    CampaignState,
    EndpointKind,
    JobState,
    JobVerb,
    LogOff,
    PoolKind,
    Role,
    SessionState,
)
from broker.store.sql.schema import (
    INSTANT,
    METADATA,
    NAME,
    SIZE,
    WORD,
    among,
    lifecycle_columns,
    link,
    listed,
    moves_table,
    one_of,
    partial_index,
    resource_columns,
)
from broker.store.sql.trail_tables import audit_entries  # noqa: F401 - so that METADATA is whole

desktop_moves = moves_table("desktop")
session_moves = moves_table("session")
endpoint_moves = moves_table("endpoint")
job_moves = moves_table("job")
host_moves = moves_table("host")
snapshot_moves = moves_table("snapshot")

# ---------------------------------------------------------------------------------- people

users = sa.Table(
    "users",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("username", NAME, nullable=False),
    sa.Column("display_name", WORD, nullable=False),
    sa.Column("search", WORD, nullable=False),
    sa.Column("role", WORD, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("password_hash", WORD),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.UniqueConstraint("username", name="a_username_belongs_to_one_user"),
    one_of("role", Role, "a_user_has_a_known_role"),
)

groups = sa.Table(
    "groups",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("title", WORD, nullable=False),
    sa.Column("search", WORD, nullable=False),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.UniqueConstraint("name", name="a_group_has_its_own_name"),
)

# position keeps the order in which the groups were given
memberships = sa.Table(
    "memberships",
    METADATA,
    link("user_id", "users", primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    link("group_id", "groups"),
    sa.UniqueConstraint("group_id", "user_id", name="a_user_is_in_a_group_once"),
)

tokens = sa.Table(
    "tokens",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("secret_hash", sa.LargeBinary, nullable=False),
    link("user_id", "users"),
    sa.Column("kind", WORD, nullable=False),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.Column("expires_at", INSTANT, nullable=False),
    sa.UniqueConstraint("secret_hash", name="a_secret_opens_one_token"),
    sa.Index("tokens_by_user", "user_id"),
    sa.Index("tokens_by_expiry", "expires_at"),
)

one_use_secrets = sa.Table(
    "one_use_secrets",
    METADATA,
    sa.Column("secret_hash", sa.LargeBinary, primary_key=True),
    sa.Column("kind", WORD, nullable=False),
    sa.Column("payload", WORD, nullable=False),
    sa.Column("expires_at", INSTANT, nullable=False),
    sa.Column("used_at", INSTANT),
    sa.Index("one_use_secrets_by_expiry", "expires_at"),
)

installation_secrets = sa.Table(
    "installation_secrets",
    METADATA,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)

# ---------------------------------------------------------------------- pools and machines

images = sa.Table(
    "images",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("size_bytes", SIZE, nullable=False),
    sa.Column("boot_bytes", SIZE, nullable=False),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.Column("removed_at", INSTANT),
    sa.UniqueConstraint("name", "version", name="an_image_has_a_version_once"),
)

pools = sa.Table(
    "pools",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("title", WORD, nullable=False),
    sa.Column("architecture", WORD, nullable=False),
    sa.Column("kind", WORD, nullable=False),
    link("image_id", "images"),
    *resource_columns(),
    sa.Column("spares_min", sa.Integer, nullable=False),
    sa.Column("size_max", sa.Integer, nullable=False),
    sa.Column("log_off", WORD, nullable=False),
    sa.Column("disconnect_grace_s", sa.Integer, nullable=False),
    sa.Column("lease_s", sa.Integer, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.Column("settings", WORD, nullable=False),
    sa.Column("image_since", INSTANT),
    sa.UniqueConstraint("name", name="a_pool_has_its_own_name"),
    one_of("architecture", Architecture, "a_pool_has_a_known_architecture"),
    one_of("kind", PoolKind, "a_pool_is_of_a_known_kind"),
    one_of("log_off", LogOff, "a_pool_has_a_known_log_off"),
)

entitlements = sa.Table(
    "entitlements",
    METADATA,
    link("pool_id", "pools", primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    link("group_id", "groups"),
    sa.UniqueConstraint("group_id", "pool_id", name="a_group_is_entitled_to_a_pool_once"),
)

hosts = sa.Table(
    "hosts",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("engine", WORD, nullable=False),
    sa.Column("profile", WORD, nullable=False),
    *lifecycle_columns("host"),
    *resource_columns(),
    sa.Column("overcommit_cpu", sa.Double, nullable=False),
    sa.Column("start_limit", sa.Integer, nullable=False),
    sa.Column("settings", WORD, nullable=False),
    sa.Column("deadline_at", INSTANT),
    sa.Column("changed_at", INSTANT, nullable=False),
    sa.Column("note", WORD, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.UniqueConstraint("name", name="a_host_has_its_own_name"),
)

endpoints = sa.Table(
    "endpoints",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("search", WORD, nullable=False),
    sa.Column("kind", WORD, nullable=False),
    sa.Column("location", NAME, nullable=False),
    *lifecycle_columns("endpoint"),
    sa.Column("public_key", sa.LargeBinary),
    sa.Column("agent_version", WORD, nullable=False),
    sa.Column("last_seen_at", INSTANT),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.UniqueConstraint("name", name="an_endpoint_has_its_own_name"),
    one_of("kind", EndpointKind, "an_endpoint_is_of_a_known_kind"),
    sa.Index("endpoints_by_state_and_sign_of_life", "state", "last_seen_at"),
    sa.Index("endpoints_by_kind", "kind", "state"),
)

endpoint_pools = sa.Table(
    "endpoint_pools",
    METADATA,
    link("endpoint_id", "endpoints", primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    link("pool_id", "pools"),
    sa.UniqueConstraint("pool_id", "endpoint_id", name="an_endpoint_is_in_a_pool_once"),
)

ON_HOSTS = sa.text("host_id IS NOT NULL AND state <> 'deleted' AND state <> 'failed'")
"""desktops that take something from a host"""
MOVING = sa.text("moving_to IS NOT NULL AND state <> 'deleted' AND state <> 'failed'")
"""desktops that migrate and take something where they go, too"""
WAITS_FOR_RESET = sa.text("state = 'resetting' AND deadline_at IS NULL AND host_id IS NOT NULL")
"""machines that are to be made fresh and whose host's turn for it has not come"""
NOT_DELETED = sa.text("state <> 'deleted'")
SPARES = sa.text("state IN ('ready', 'suspended') AND owner_id IS NULL AND host_id IS NOT NULL")
"""machines that are there for anybody"""

_LOAD = ("state", "pool_id", "cpus", "memory_mib", "disk_mib", "disk_iops", "network_mbit")
"""what a load is counted from, in the index, so that no row is read for it"""

desktops = sa.Table(
    "desktops",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("search", WORD, nullable=False),
    link("pool_id", "pools"),
    sa.Column("architecture", WORD, nullable=False),
    link("host_id", "hosts", null=True),
    link("endpoint_id", "endpoints", null=True),
    link("owner_id", "users", null=True),
    *lifecycle_columns("desktop"),
    sa.Column("target", WORD),
    sa.Column("deadline_at", INSTANT),
    sa.Column("generation", sa.Integer, nullable=False),
    *resource_columns(),
    sa.Column("note", WORD, nullable=False),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.Column("changed_at", INSTANT, nullable=False),
    link("moving_to", "hosts", null=True),
    link("image_id", "images", null=True),
    one_of("architecture", Architecture, "a_desktop_has_a_known_architecture"),
    sa.CheckConstraint(
        "host_id IS NULL OR endpoint_id IS NULL", name="a_desktop_is_on_a_host_or_an_endpoint"
    ),
    partial_index("a_desktop_has_its_own_name", "name", unique=True, where=NOT_DELETED),
    partial_index(
        "an_endpoint_has_one_place_in_a_pool",
        "endpoint_id",
        "pool_id",
        unique=True,
        where=sa.text("endpoint_id IS NOT NULL AND state <> 'deleted'"),
    ),
    # In the order in which desktops are given, id and all: so no planner can think of walking
    # the index of names instead, at whose beginning the desktops are all taken.
    sa.Index("desktops_to_give", "pool_id", "state", "name", "id", "owner_id"),
    partial_index(
        "desktops_by_owner",
        "owner_id",
        "pool_id",
        where=sa.text("owner_id IS NOT NULL"),
    ),
    partial_index(
        "desktops_on_hosts",
        "host_id",
        *_LOAD,
        "moving_to",
        where=sa.text("host_id IS NOT NULL AND state <> 'deleted'"),
    ),
    partial_index(
        "desktops_moving",
        "moving_to",
        *_LOAD,
        where=sa.text("moving_to IS NOT NULL AND state <> 'deleted'"),
    ),
    sa.Index("desktops_by_state", "state", "changed_at", "id"),
    partial_index("spares_by_image", "pool_id", "image_id", where=SPARES),
    partial_index("desktops_by_deadline", "deadline_at", where=sa.text("deadline_at IS NOT NULL")),
)

jobs = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("verb", WORD, nullable=False),
    link("desktop_id", "desktops", null=True),
    link("host_id", "hosts"),
    sa.Column("generation", sa.Integer, nullable=False),
    *lifecycle_columns("job"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("deadline_at", INSTANT),
    sa.Column("not_before_at", INSTANT, nullable=False),
    sa.Column("error", WORD, nullable=False),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.Column("finished_at", INSTANT),
    sa.Column("arguments", WORD, nullable=False),
    one_of("verb", JobVerb, "a_job_has_a_known_verb"),
    partial_index("jobs_to_do", "created_at", "id", where=among("state", [JobState.QUEUED])),
    partial_index("jobs_by_deadline", "deadline_at", where=sa.text("deadline_at IS NOT NULL")),
    sa.Index("jobs_by_desktop", "desktop_id", "id"),
)

snapshots = sa.Table(
    "snapshots",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    link("desktop_id", "desktops"),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("note", WORD, nullable=False),
    *lifecycle_columns("snapshot"),
    sa.Column("why", WORD, nullable=False),
    sa.Column("size_bytes", SIZE),
    *resource_columns(),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.Column("changed_at", INSTANT, nullable=False),
    sa.UniqueConstraint(
        "desktop_id", "generation", "name", name="a_snapshot_has_its_own_name_on_its_disk"
    ),
)

# -------------------------------------------------------------------------------- sessions

HOLDS_PLACE = among("state", SESSION_HOLDS_PLACE)
HOLDS_DESKTOP = among("state", SESSION_HOLDS_DESKTOP)
LIVE = among("state", SESSION_HOLDS_PLACE | SESSION_HOLDS_DESKTOP)
QUEUED = among("state", [SessionState.QUEUED])

sessions = sa.Table(
    "sessions",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    link("user_id", "users"),
    link("pool_id", "pools"),
    sa.Column("architecture", WORD, nullable=False),
    link("desktop_id", "desktops", null=True),
    link("endpoint_id", "endpoints", null=True),
    link("group_id", "groups", null=True),
    *lifecycle_columns("session"),
    sa.Column("deadline_at", INSTANT),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("why", WORD, nullable=False),
    sa.Column("requested_at", INSTANT, nullable=False),
    sa.Column("assigned_at", INSTANT),
    sa.Column("live_at", INSTANT),
    sa.Column("ended_at", INSTANT),
    sa.Column("lease_until", INSTANT),
    sa.Column("phases", WORD, nullable=False),
    sa.Column("control_bytes", SIZE, nullable=False),
    sa.Column("display_bytes", SIZE, nullable=False),
    sa.Column("image_bytes", SIZE, nullable=False),
    sa.Column("active_at", INSTANT),
    sa.Column("ends_at", INSTANT),
    sa.Column("wish", WORD),
    sa.Column("notice", WORD),
    sa.Column("browser", NAME),
    sa.Column("display", NAME),
    sa.Column("source", WORD),
    one_of("architecture", Architecture, "a_session_has_a_known_architecture"),
    sa.CheckConstraint(
        f"desktop_id IS NOT NULL OR state NOT IN {listed(SESSION_HOLDS_DESKTOP)}",
        name="a_session_past_the_queue_has_a_desktop",
    ),
    partial_index("a_desktop_has_one_live_session", "desktop_id", unique=True, where=HOLDS_DESKTOP),
    partial_index(
        "a_user_has_one_live_session_of_a_pool",
        "user_id",
        "pool_id",
        unique=True,
        where=HOLDS_PLACE,
    ),
    partial_index("sessions_in_queues", "pool_id", where=QUEUED),
    partial_index("sessions_by_silence", "active_at", "id", where=QUEUED),
    partial_index("sessions_of_groups", "group_id", "pool_id", where=HOLDS_PLACE),
    partial_index("sessions_by_deadline", "deadline_at", where=sa.text("deadline_at IS NOT NULL")),
    sa.Index("sessions_by_user", "user_id", "id"),
    sa.Index("sessions_by_desktop", "desktop_id", "id"),
    sa.Index("sessions_by_endpoint", "endpoint_id", "state"),
    sa.Index("sessions_by_state", "state", "id"),
    partial_index("sessions_live", "id", "architecture", "state", where=LIVE),
    partial_index(
        "sessions_ended",
        "ended_at",
        "architecture",
        "state",
        where=sa.text("ended_at IS NOT NULL"),
    ),
)

tickets = sa.Table(
    "tickets",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("secret_hash", sa.LargeBinary, nullable=False),
    link("session_id", "sessions"),
    link("user_id", "users"),
    sa.Column("expires_at", INSTANT, nullable=False),
    sa.Column("used_at", INSTANT),
    sa.UniqueConstraint("secret_hash", name="a_secret_opens_one_ticket"),
    sa.Index("tickets_by_expiry", "expires_at"),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    METADATA,
    # of the user's id and the key, so that a batch is looked up by one column
    sa.Column("digest", NAME, primary_key=True),
    sa.Column("request_hash", sa.LargeBinary, nullable=False),
    link("session_id", "sessions"),
    sa.Column("seen_at", INSTANT, nullable=False),
    sa.Index("idempotency_keys_by_age", "seen_at"),
)

# ------------------------------------------------------------------------------- campaigns

campaigns = sa.Table(
    "campaigns",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("search", WORD, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("plan_sha256", WORD, nullable=False),
    sa.Column("state", WORD, nullable=False),
    sa.Column("verdict", WORD, nullable=False),
    sa.Column("report_path", WORD, nullable=False),
    sa.Column("summary", WORD, nullable=False),
    sa.Column("started_at", INSTANT, nullable=False),
    sa.Column("finished_at", INSTANT),
    one_of("state", CampaignState, "a_campaign_is_in_a_known_state"),
)

"""How many live sessions a quota counts. Live: those that hold a place, queued ones too."""

from __future__ import annotations

from collections.abc import Iterable

from broker.domain.policy.rules import Quota, QuotaScope
from broker.ports import ClaimRequest


def counts(quota: Quota, group_id: str | None, pool_id: str) -> bool:
    """Whether the quota counts a session of this pool whose person this group entitles.

    `pool_ids` narrows every scope; without them all pools count. Whose sessions a quota of the
    scope USER counts is the caller's business.
    """
    if quota.pool_ids and pool_id not in quota.pool_ids:
        return False
    return quota.scope is not QuotaScope.GROUP or group_id == quota.group_id


def shared(requests: Iterable[ClaimRequest]) -> dict[str, Quota]:
    """The quotas that count more than one person's sessions and may bind these requests, by id."""
    return {
        quota.id: quota
        for request in requests
        for quota in request.quotas
        if quota.scope is not QuotaScope.USER
        and quota.enabled
        and counts(quota, request.group_id, request.pool.id)
    }

"""May this person have a desktop of this pool, here? Deny by default, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.errors import (
    NotEntitledError,
    PoolClosedError,
    TriviumError,
    WrongEndpointError,
)
from broker.domain.model import Endpoint, EndpointState, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """`refusal` is None when admitted; `why` is a sentence for a person."""

    why: str
    refusal: TriviumError | None = None
    group_id: str | None = None


def admit(
    *,
    group_ids: tuple[str, ...],
    pool: Pool,
    endpoint: Endpoint | None,
    runs_on_endpoint: bool,
) -> Admission:
    """Decide from the caller's groups, the pool, and the endpoint named (if one was).

    `runs_on_endpoint` is the architecture's: the desktop is the endpoint itself (IDV, VOI), so
    an endpoint named must be one of the pool's. `group_id` of the answer is the group that
    entitles, which the queue is fair between.
    """
    shared = [group_id for group_id in group_ids if group_id in pool.group_ids]
    if not shared:
        text = f"none of your groups is entitled to {pool.name}"
        return Admission(why=text, refusal=NotEntitledError(text))
    if not pool.enabled:
        text = f"{pool.name} is closed by an administrator"
        return Admission(why=text, refusal=PoolClosedError(text))
    if endpoint is not None and endpoint.state is EndpointState.RETIRED:
        text = f"{endpoint.name} is retired"
        return Admission(why=text, refusal=WrongEndpointError(text))
    if endpoint is not None and runs_on_endpoint and pool.id not in endpoint.pool_ids:
        text = f"{endpoint.name} does not belong to {pool.name}"
        return Admission(why=text, refusal=WrongEndpointError(text))
    return Admission(why=f"entitled to {pool.name}", group_id=shared[0])

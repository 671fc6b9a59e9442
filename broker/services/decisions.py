"""How a decision of the broker or of an administrator gets into the audit trail.

Where the store takes an entry together with the change, `decision` makes it. Where it does not,
`asked` writes it before the change and settles it after: a crash in between leaves an entry whose
outcome is unknown, never a change of which nothing is written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import TriviumError
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin

BROKER: Final = "broker"
"""the actor of what no person asked for"""


def decision(
    kit: Kit,
    action: str,
    why: str,
    *,
    about: Mapping[str, str],
    actor: str = BROKER,
    reasons: Sequence[str] = (),
    details: Mapping[str, object] | None = None,
    origin: Origin = NOWHERE,
) -> AuditEntry:
    """An entry, done now. `about`: ids by field (pool_id, host_id, …). `reasons`: one by one."""
    kept: dict[str, object] = dict(details or {})
    if reasons:
        kept["reasons"] = list(reasons)
    return AuditEntry(
        id=kit.ids.new("aud"),
        at=kit.clock.now(),
        actor=actor,
        action=action,
        outcome=Outcome.DONE,
        why=why,
        details=kept,
        source=origin.source,
        request_id=origin.request_id,
        **about,
    )


@asynccontextmanager
async def asked(kit: Kit, entry: AuditEntry) -> AsyncIterator[None]:
    """Write the entry as asked for, and its outcome once the block is over."""
    await kit.store.audit.append([replace(entry, outcome=Outcome.ASKED)])
    try:
        yield
    except TriviumError as error:
        with suppress(TriviumError):  # a store that is away: sealed as unknown in time
            details = {**entry.details, "error": error.code}
            await kit.store.audit.settle(entry.id, Outcome.REFUSED, error.detail, details)
        raise
    await kit.store.audit.settle(entry.id, entry.outcome, entry.why, entry.details)

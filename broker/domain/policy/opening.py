"""Whether a pool takes new people now: its own state, its schedule, and the site's state."""

from __future__ import annotations

from broker.domain.errors import PoolClosedError, SiteClosedError, TriviumError
from broker.domain.model import Instant, Pool
from broker.domain.planning.effective import entries_now
from broker.domain.settings import ServiceState, SiteSettings

_WORDS = {
    ServiceState.DRAINING: "takes nobody new: it is being drained",
    ServiceState.MAINTENANCE: "is under maintenance",
}


def closed_because(pool: Pool, site: SiteSettings, now: Instant) -> TriviumError | None:
    """Why nobody new gets a desktop of this pool now; None while it is open.

    An administrator's word (closed, draining, maintenance) goes before the schedule, of which
    the last entry that holds and says something about being open counts. This is so exactly
    while `planning.effective` does not say `open`.
    """
    if site.state is not ServiceState.OPEN:
        text = f"the site {_WORDS[site.state]}"
        return SiteClosedError(f"{text}: {site.message}" if site.message else text)
    if not pool.enabled:
        return PoolClosedError(f"{pool.name} is closed by an administrator")
    if pool.settings.state is not ServiceState.OPEN:
        return PoolClosedError(f"{pool.name} {_WORDS[pool.settings.state]}")
    for entry in reversed(entries_now(pool, site, now)):
        if entry.open is False:
            return PoolClosedError(f"{pool.name} is closed now by its schedule ({entry.name})")
        if entry.open:
            return None
    return None

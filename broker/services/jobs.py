"""Jobs as they are written down: one piece of engine work for one desktop."""

from __future__ import annotations

from broker.domain.model import Desktop, Job, JobState, JobVerb
from broker.services.kit import Kit


def new_job(kit: Kit, desktop: Desktop, verb: JobVerb, *, fresh: bool = False) -> Job:
    """A job for this desktop as it is, due at once. `fresh`: for the generation that the desktop
    is about to get."""
    now = kit.clock.now()
    return Job(
        id=kit.ids.new("job"),
        verb=verb,
        desktop_id=desktop.id,
        host_id=desktop.host_id or "",
        generation=desktop.generation + fresh,
        state=JobState.QUEUED,
        attempts=0,
        deadline_at=None,
        not_before_at=now,
        error="",
        created_at=now,
        finished_at=None,
    )


def desktop_job(kit: Kit, desktop: Desktop, verb: JobVerb, *, fresh: bool = False) -> Job | None:
    """As `new_job`; None where no engine is concerned: the desktop is an endpoint's own."""
    if desktop.host_id is None:
        return None
    return new_job(kit, desktop, verb, fresh=fresh)

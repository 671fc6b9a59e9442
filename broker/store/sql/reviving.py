"""What becomes of restored rows: the changes of broker.store.restoring, made to rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from broker.domain.lifecycle import (
    DESKTOP,
    ENDPOINT,
    JOB,
    SESSION,
    SNAPSHOT,
    Event,
    Lifecycle,
    State,
)
from broker.domain.model import DesktopState, EndpointState, Instant, JobState, SessionState
from broker.domain.snapshots import SnapshotState
from broker.store import restoring
from broker.store.desktop_snapshots import restored_state
from broker.store.sql import tables as t
from broker.store.sql import trail_tables as trail
from broker.store.sql.rows import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviving:
    """`now`: when what was under way ended. `step`: by how much generations and fences go up."""

    now: Instant
    step: int

    def rows(self, table: sa.Table) -> Callable[[Values], Values] | None:
        """What changes the rows of this table; None: nothing."""
        changes: Mapping[sa.Table, Callable[[Values], Values]] = {
            t.sessions: self._session,
            t.desktops: self._desktop,
            t.jobs: self._job,
            t.snapshots: self._snapshot,
            t.endpoints: self._endpoint,
            t.installation_secrets: self._secret,
            trail.work_leases: self._lease,
        }
        return changes.get(table)

    def _session(self, row: Values) -> Values:
        state = SessionState(row["state"])
        target = restoring.session_state(state)
        if target is state:
            return row
        ended = {
            "why": restoring.RESTORED,
            "deadline_at": None,
            "lease_until": None,
            "ended_at": self.now,
            "revision": row["revision"] + 1,
            "wish": None,
            "browser": None,
            "display": None,
        }
        return row | _moved(SESSION, state, target) | ended

    def _desktop(self, row: Values) -> Values:
        state = DesktopState(row["state"])
        row = row | {"generation": row["generation"] + self.step, "moving_to": None}
        target = restoring.desktop_state(state, on_endpoint=row["endpoint_id"] is not None)
        if target is state:
            return row | {"deadline_at": self.now if state in DESKTOP.transient else None}
        stopped = {
            "target": DESKTOP.transient.get(target),
            "deadline_at": None,
            "note": restoring.RESTORED,
            "changed_at": self.now,
        }
        return row | _moved(DESKTOP, state, target) | stopped

    def _job(self, row: Values) -> Values:
        state = JobState(row["state"])
        target = restoring.job_state(state)
        if target is state:
            return row
        over = {"error": restoring.RESTORED, "deadline_at": None, "finished_at": self.now}
        return row | _moved(JOB, state, target) | over

    def _snapshot(self, row: Values) -> Values:
        state = SnapshotState(row["state"])
        row = row | {"generation": row["generation"] + self.step}
        target = restored_state(state)
        if target is state:
            return row
        over = {"why": restoring.RESTORED, "changed_at": self.now}
        return row | _moved(SNAPSHOT, state, target) | over

    def _endpoint(self, row: Values) -> Values:
        state = EndpointState(row["state"])
        target = restoring.endpoint_state(state)
        return row if target is state else row | _moved(ENDPOINT, state, target)

    def _secret(self, row: Values) -> Values:
        value = restoring.installation_secret(row["name"], row["value"], self.now)
        return row | {"value": value}

    def _lease(self, row: Values) -> Values:
        return row | {"holder": "", "until": 0, "fence": row["fence"] + self.step}


def _moved(lifecycle: Lifecycle[State, Event], state: State, target: State) -> dict[str, Any]:
    return {"prior_state": restoring.state_before(lifecycle, state, target), "state": target}

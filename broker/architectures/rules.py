"""The questions to which each architecture gives its own answer."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.keeping import keeps_work
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import (
    Architecture,
    DesktopState,
    EndpointKind,
    Instant,
    LogOff,
    Pool,
    Session,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRule:
    """A step of the endpoint's delivery. `simulated`: its length comes from a model here."""

    name: str
    says: str
    simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one architecture does its own way.

    runs_on_endpoint: the desktop is the endpoint, so no machine is made for it on a host.
    needs_endpoint: a session cannot do without one (VDI also works from a browser).
    moves: the person may come back from another endpoint.
    leased: the endpoint may go on without the broker until its lease ends.
    phases: the endpoint's steps between the order and the live desktop, in order.
    """

    architecture: Architecture
    title: str
    endpoint_kind: EndpointKind
    runs_on_endpoint: bool
    needs_endpoint: bool
    moves: bool
    leased: bool
    first_state: DesktopState
    phases: tuple[PhaseRule, ...]

    def release_event(self, pool: Pool, owner_id: str | None) -> DesktopEvent:
        """What happens to the desktop at log-off. It is kept for its owner only: what one person
        left in a desktop that is nobody's never comes to the next, whatever the pool says. A fat
        endpoint is reset, never deleted."""
        if keeps_work(pool, owner_id):
            return DesktopEvent.RELEASED_KEEP
        if pool.log_off is LogOff.DELETE and not self.runs_on_endpoint:
            return DesktopEvent.RELEASED_DELETE
        return DesktopEvent.RELEASED_RESET

    def lease_until(self, pool: Pool, now: Instant) -> Instant | None:
        """Until when the endpoint may run the desktop without hearing from the broker."""
        return now + pool.lease_s * 1000 if self.leased else None

    def away_until(self, session: Session, pool: Pool, now: Instant) -> Instant:
        """How long a session whose endpoint is gone is kept: its lease, else the pool's grace."""
        grace = now + pool.disconnect_grace_s * 1000
        if self.leased and session.lease_until is not None:
            return max(grace, session.lease_until)
        return grace

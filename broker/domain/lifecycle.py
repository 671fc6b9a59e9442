"""The lifecycles: one table for each noun, and the one function that moves a state.

(state, event) -> (next state, why). What is not in the table is refused. Each transient state
names the state it is heading for, so that a restarted broker knows what to finish. The
diagrams in docs/lifecycles.md are made from these tables (`trivium db diagram`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from broker.domain.errors import IllegalTransitionError
from broker.domain.model import DesktopState as D
from broker.domain.model import EndpointState as E
from broker.domain.model import HostState as H
from broker.domain.model import JobState as J
from broker.domain.model import SessionState as S
from broker.domain.snapshots import SnapshotState as N

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class DesktopEvent(StrEnum):
    CREATE_BEGUN = "create_begun"
    CREATED = "created"
    REPORTED_READY = "reported_ready"
    CLAIMED = "claimed"
    RELEASED_RESET = "released_reset"
    RELEASED_KEEP = "released_keep"
    RELEASED_RESTART = "released_restart"
    RELEASED_DELETE = "released_delete"
    FAILED = "failed"
    DEADLINE_PASSED = "deadline_passed"
    ENDPOINT_LOST = "endpoint_lost"
    ENDPOINT_BACK = "endpoint_back"
    ENDPOINT_BACK_KEPT = "endpoint_back_kept"
    SUSPEND_ASKED = "suspend_asked"
    SUSPENDED = "suspended"
    RESUME_ASKED = "resume_asked"
    RESTART_ASKED = "restart_asked"
    RESET_ASKED = "reset_asked"
    DELETE_ASKED = "delete_asked"
    DELETE_ASKED_AGAIN = "delete_asked_again"
    DELETED = "deleted"


class SessionEvent(StrEnum):
    CLAIMED = "claimed"
    REPORTED_LIVE = "reported_live"
    DISCONNECTED = "disconnected"
    RECONNECTED = "reconnected"
    TAKEN_OVER = "taken_over"
    LEASE_RENEWED = "lease_renewed"
    NOTED = "noted"
    LOG_OFF = "log_off"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEADLINE_PASSED = "deadline_passed"


class HostEvent(StrEnum):
    DRAIN_ASKED = "drain_asked"
    MAINTENANCE_ASKED = "maintenance_asked"
    OPENED = "opened"
    LOST = "lost"
    BACK = "back"
    POWER_OFF_ASKED = "power_off_asked"
    POWERED_OFF = "powered_off"
    POWER_ON_ASKED = "power_on_asked"
    POWERED_ON = "powered_on"
    RETIRED = "retired"
    DEADLINE_PASSED = "deadline_passed"


class EndpointEvent(StrEnum):
    CONNECTED = "connected"
    LOST = "lost"
    RETIRED = "retired"


class JobEvent(StrEnum):
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED_RETRY = "failed_retry"
    FAILED_FOR_GOOD = "failed_for_good"
    DEADLINE_PASSED = "deadline_passed"
    HANDED_BACK = "handed_back"
    CANCELLED = "cancelled"


class SnapshotEvent(StrEnum):
    MADE = "made"
    FAILED = "failed"
    DROP_ASKED = "drop_asked"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Rule(Generic[State]):
    """Where an event leads, and why it may."""

    to: State
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle(Generic[State, Event]):
    """One noun's table. `transient` maps each passing state to the state it is heading for."""

    noun: str
    table: Mapping[tuple[State, Event], Rule[State]]
    first: tuple[State, ...]
    stable: frozenset[State]
    transient: Mapping[State, State]
    terminal: frozenset[State]

    def advance(self, state: State, event: Event) -> State:
        """The next state.

        Raises:
            IllegalTransitionError: the table does not allow `event` in `state`.
        """
        rule = self.table.get((state, event))
        if rule is None:
            told = f"a {self.noun} that is {state} does not take {event}"
            known = ", ".join(self.sources(event))
            raise IllegalTransitionError(f"{told}, only one that is: {known}")
        return rule.to

    def allows(self, state: State, event: Event) -> bool:
        return (state, event) in self.table

    def sources(self, event: Event) -> tuple[State, ...]:
        """The states in which `event` may happen, in the table's order."""
        return tuple(state for state, found in self.table if found == event)

    def edges(self) -> Iterator[tuple[State, State]]:
        """Every (prior, next) pair, once: the store's foreign keys refuse any other."""
        seen: dict[tuple[State, State], None] = {}
        for (state, _), rule in self.table.items():
            seen.setdefault((state, rule.to))
        yield from seen

    def mermaid(self) -> str:
        """The diagram, as Mermaid text."""
        lines = ["stateDiagram-v2"]
        lines += [f"    [*] --> {state}" for state in self.first]
        lines += [
            f"    {state} --> {rule.to}: {event}" for (state, event), rule in self.table.items()
        ]
        lines += [f"    {state} --> [*]" for state in sorted(self.terminal)]
        return "\n".join(lines) + "\n"


DESKTOP: Lifecycle[D, DesktopEvent] = Lifecycle(
    noun="desktop",
    first=(D.PLANNED, D.UNAVAILABLE),
    stable=frozenset({D.READY, D.ASSIGNED, D.SUSPENDED, D.PARKED, D.UNAVAILABLE, D.FAILED}),
    transient={
        D.PLANNED: D.READY,
        D.CREATING: D.READY,
        D.STARTING: D.READY,
        D.RESETTING: D.READY,
        D.SUSPENDING: D.SUSPENDED,
        D.RESUMING: D.READY,
        D.PARKING: D.PARKED,
        D.UNPARKING: D.ASSIGNED,
        D.DELETING: D.DELETED,
    },
    terminal=frozenset({D.DELETED}),
    table={
        (D.PLANNED, DesktopEvent.CREATE_BEGUN): Rule(D.CREATING, "the engine was asked for it"),
        (D.PLANNED, DesktopEvent.DELETE_ASKED): Rule(D.DELETING, "it is not wanted any more"),
        (D.PLANNED, DesktopEvent.DEADLINE_PASSED): Rule(D.FAILED, "nobody began to make it"),
        (D.CREATING, DesktopEvent.CREATED): Rule(D.STARTING, "the machine exists and boots"),
        (D.CREATING, DesktopEvent.FAILED): Rule(D.FAILED, "the engine could not make it"),
        (D.CREATING, DesktopEvent.DEADLINE_PASSED): Rule(D.FAILED, "making it took too long"),
        (D.STARTING, DesktopEvent.REPORTED_READY): Rule(D.READY, "its agent reports ready"),
        (D.STARTING, DesktopEvent.FAILED): Rule(D.FAILED, "it did not boot"),
        (D.STARTING, DesktopEvent.DEADLINE_PASSED): Rule(D.FAILED, "booting took too long"),
        (D.READY, DesktopEvent.CLAIMED): Rule(D.ASSIGNED, "a session has it"),
        (D.READY, DesktopEvent.ENDPOINT_LOST): Rule(D.UNAVAILABLE, "its endpoint went away"),
        (D.READY, DesktopEvent.DELETE_ASKED): Rule(D.DELETING, "it is not wanted any more"),
        (D.READY, DesktopEvent.FAILED): Rule(D.FAILED, "the engine lost it"),
        (D.ASSIGNED, DesktopEvent.RELEASED_RESET): Rule(D.RESETTING, "made fresh for the next"),
        (D.ASSIGNED, DesktopEvent.RELEASED_KEEP): Rule(D.READY, "kept as its owner left it"),
        (D.ASSIGNED, DesktopEvent.RELEASED_RESTART): Rule(
            D.RESUMING, "kept, and started anew: its guest did not log the person off"
        ),
        (D.ASSIGNED, DesktopEvent.RELEASED_DELETE): Rule(D.DELETING, "used once, then removed"),
        (D.ASSIGNED, DesktopEvent.FAILED): Rule(D.FAILED, "lost under its session"),
        (D.READY, DesktopEvent.SUSPEND_ASKED): Rule(D.SUSPENDING, "kept as a suspended spare"),
        (D.SUSPENDING, DesktopEvent.SUSPENDED): Rule(D.SUSPENDED, "the engine suspended it"),
        (D.SUSPENDING, DesktopEvent.FAILED): Rule(D.FAILED, "it could not be suspended"),
        (D.SUSPENDING, DesktopEvent.DEADLINE_PASSED): Rule(D.FAILED, "suspending took too long"),
        (D.SUSPENDED, DesktopEvent.RESUME_ASKED): Rule(D.RESUMING, "it is needed again"),
        (D.SUSPENDED, DesktopEvent.DELETE_ASKED): Rule(D.DELETING, "it is not wanted any more"),
        (D.SUSPENDED, DesktopEvent.FAILED): Rule(D.FAILED, "the engine lost it"),
        (D.RESUMING, DesktopEvent.REPORTED_READY): Rule(D.READY, "its agent reports ready"),
        (D.RESUMING, DesktopEvent.FAILED): Rule(D.FAILED, "it could not be resumed"),
        (D.RESUMING, DesktopEvent.DEADLINE_PASSED): Rule(D.FAILED, "resuming took too long"),
        (D.ASSIGNED, DesktopEvent.SUSPEND_ASKED): Rule(D.PARKING, "its person is away"),
        (D.PARKING, DesktopEvent.SUSPENDED): Rule(D.PARKED, "the engine suspended it"),
        (D.PARKING, DesktopEvent.RELEASED_RESET): Rule(D.RESETTING, "made fresh for the next"),
        (D.PARKING, DesktopEvent.RELEASED_KEEP): Rule(D.SUSPENDING, "kept as its owner left it"),
        (D.PARKING, DesktopEvent.RELEASED_RESTART): Rule(D.SUSPENDING, "kept as its owner left it"),
        (D.PARKING, DesktopEvent.RELEASED_DELETE): Rule(D.DELETING, "used once, then removed"),
        (D.PARKING, DesktopEvent.FAILED): Rule(D.FAILED, "it could not be suspended"),
        (D.PARKING, DesktopEvent.DEADLINE_PASSED): Rule(D.FAILED, "suspending took too long"),
        (D.PARKED, DesktopEvent.RESUME_ASKED): Rule(D.UNPARKING, "its person is back"),
        (D.PARKED, DesktopEvent.RELEASED_RESET): Rule(D.RESETTING, "made fresh for the next"),
        (D.PARKED, DesktopEvent.RELEASED_KEEP): Rule(D.SUSPENDED, "kept as its owner left it"),
        (D.PARKED, DesktopEvent.RELEASED_RESTART): Rule(D.SUSPENDED, "kept as its owner left it"),
        (D.PARKED, DesktopEvent.RELEASED_DELETE): Rule(D.DELETING, "used once, then removed"),
        (D.PARKED, DesktopEvent.FAILED): Rule(D.FAILED, "the engine lost it"),
        (D.UNPARKING, DesktopEvent.REPORTED_READY): Rule(D.ASSIGNED, "its agent reports ready"),
        (D.UNPARKING, DesktopEvent.RELEASED_RESET): Rule(D.RESETTING, "made fresh for the next"),
        (D.UNPARKING, DesktopEvent.RELEASED_KEEP): Rule(D.RESUMING, "kept as its owner left it"),
        (D.UNPARKING, DesktopEvent.RELEASED_RESTART): Rule(D.RESUMING, "kept, and started anew"),
        (D.UNPARKING, DesktopEvent.RELEASED_DELETE): Rule(D.DELETING, "used once, then removed"),
        (D.UNPARKING, DesktopEvent.FAILED): Rule(D.FAILED, "it could not be resumed"),
        (D.UNPARKING, DesktopEvent.DEADLINE_PASSED): Rule(D.FAILED, "resuming took too long"),
        (D.RESETTING, DesktopEvent.REPORTED_READY): Rule(D.READY, "fresh again"),
        (D.RESETTING, DesktopEvent.ENDPOINT_LOST): Rule(D.UNAVAILABLE, "its endpoint went away"),
        (D.RESETTING, DesktopEvent.FAILED): Rule(D.FAILED, "it could not be made fresh"),
        (D.RESETTING, DesktopEvent.DEADLINE_PASSED): Rule(D.FAILED, "the reset took too long"),
        (D.UNAVAILABLE, DesktopEvent.ENDPOINT_BACK): Rule(D.RESETTING, "made sure it is fresh"),
        (D.UNAVAILABLE, DesktopEvent.ENDPOINT_BACK_KEPT): Rule(
            D.READY, "kept as its owner left it"
        ),
        (D.UNAVAILABLE, DesktopEvent.DELETE_ASKED): Rule(D.DELETING, "it is not wanted any more"),
        (D.READY, DesktopEvent.RESTART_ASKED): Rule(D.RESUMING, "off and on again, as it is"),
        (D.ASSIGNED, DesktopEvent.RESTART_ASKED): Rule(
            D.UNPARKING, "off and on again under its session"
        ),
        (D.READY, DesktopEvent.RESET_ASKED): Rule(D.RESETTING, "an administrator asked for it"),
        (D.SUSPENDED, DesktopEvent.RESET_ASKED): Rule(D.RESETTING, "an administrator asked for it"),
        (D.RESUMING, DesktopEvent.RESET_ASKED): Rule(D.RESETTING, "an administrator asked for it"),
        (D.RESUMING, DesktopEvent.DELETE_ASKED): Rule(D.DELETING, "an administrator asked for it"),
        (D.FAILED, DesktopEvent.RESET_ASKED): Rule(D.RESETTING, "an administrator asked for it"),
        (D.UNAVAILABLE, DesktopEvent.RESET_ASKED): Rule(
            D.UNAVAILABLE, "made fresh once its endpoint is back"
        ),
        (D.FAILED, DesktopEvent.ENDPOINT_BACK): Rule(D.RESETTING, "made sure it is fresh"),
        (D.FAILED, DesktopEvent.ENDPOINT_BACK_KEPT): Rule(D.READY, "kept as its owner left it"),
        (D.FAILED, DesktopEvent.RESUME_ASKED): Rule(D.RESUMING, "its owner's work lies in it"),
        (D.FAILED, DesktopEvent.ENDPOINT_LOST): Rule(D.UNAVAILABLE, "its endpoint went away"),
        (D.FAILED, DesktopEvent.DELETE_ASKED): Rule(D.DELETING, "cleared away"),
        # an event of its own: a deadline of the state before may be heard of late
        (D.DELETING, DesktopEvent.DELETE_ASKED_AGAIN): Rule(D.DELETING, "not forgotten"),
        (D.DELETING, DesktopEvent.DELETED): Rule(D.DELETED, "the machine is gone"),
    },
)

SESSION: Lifecycle[S, SessionEvent] = Lifecycle(
    noun="session",
    first=(S.QUEUED, S.DELIVERING),
    stable=frozenset({S.ACTIVE, S.DISCONNECTED}),
    transient={S.QUEUED: S.ACTIVE, S.DELIVERING: S.ACTIVE, S.ENDING: S.ENDED},
    terminal=frozenset({S.ENDED, S.FAILED, S.CANCELLED}),
    table={
        (S.QUEUED, SessionEvent.CLAIMED): Rule(S.DELIVERING, "a desktop was found"),
        (S.QUEUED, SessionEvent.NOTED): Rule(S.QUEUED, "something about it was written down"),
        (S.QUEUED, SessionEvent.CANCELLED): Rule(S.CANCELLED, "the person left the queue"),
        (S.QUEUED, SessionEvent.DEADLINE_PASSED): Rule(S.CANCELLED, "waited past the limit"),
        (S.DELIVERING, SessionEvent.REPORTED_LIVE): Rule(S.ACTIVE, "the person has the desktop"),
        (S.DELIVERING, SessionEvent.TAKEN_OVER): Rule(S.DELIVERING, "moved to another place"),
        (S.DELIVERING, SessionEvent.NOTED): Rule(S.DELIVERING, "something was written down"),
        (S.DELIVERING, SessionEvent.DISCONNECTED): Rule(S.DISCONNECTED, "its endpoint went away"),
        (S.DELIVERING, SessionEvent.LOG_OFF): Rule(S.ENDING, "asked to end before it was live"),
        (S.DELIVERING, SessionEvent.FAILED): Rule(S.FAILED, "the endpoint could not start it"),
        (S.DELIVERING, SessionEvent.DEADLINE_PASSED): Rule(S.FAILED, "delivery took too long"),
        (S.ACTIVE, SessionEvent.DISCONNECTED): Rule(S.DISCONNECTED, "the endpoint went away"),
        (S.ACTIVE, SessionEvent.TAKEN_OVER): Rule(S.DELIVERING, "moved to another place"),
        (S.ACTIVE, SessionEvent.NOTED): Rule(S.ACTIVE, "something about it was written down"),
        (S.ACTIVE, SessionEvent.LEASE_RENEWED): Rule(S.ACTIVE, "its endpoint has a new lease"),
        (S.ACTIVE, SessionEvent.RECONNECTED): Rule(S.DELIVERING, "its endpoint is back"),
        (S.ACTIVE, SessionEvent.LOG_OFF): Rule(S.ENDING, "the person logged off"),
        (S.ACTIVE, SessionEvent.FAILED): Rule(S.FAILED, "its desktop was lost"),
        (S.DISCONNECTED, SessionEvent.NOTED): Rule(S.DISCONNECTED, "something was written down"),
        (S.DISCONNECTED, SessionEvent.RECONNECTED): Rule(S.DELIVERING, "the person is back"),
        (S.DISCONNECTED, SessionEvent.REPORTED_LIVE): Rule(S.ACTIVE, "its endpoint is back"),
        (S.DISCONNECTED, SessionEvent.LOG_OFF): Rule(S.ENDING, "asked to end"),
        (S.DISCONNECTED, SessionEvent.FAILED): Rule(S.FAILED, "its desktop was lost"),
        (S.DISCONNECTED, SessionEvent.DEADLINE_PASSED): Rule(S.ENDING, "away past the grace"),
        (S.ENDING, SessionEvent.FINISHED): Rule(S.ENDED, "the desktop is released"),
        (S.ENDING, SessionEvent.DEADLINE_PASSED): Rule(S.ENDED, "released without an answer"),
        (S.ENDING, SessionEvent.FAILED): Rule(S.FAILED, "its desktop was lost"),
    },
)

HOST: Lifecycle[H, HostEvent] = Lifecycle(
    noun="host",
    first=(H.UP, H.OFF, H.DRAINING, H.MAINTENANCE, H.DOWN),
    stable=frozenset({H.UP, H.DRAINING, H.MAINTENANCE, H.DOWN, H.OFF, H.RETIRED}),
    transient={H.POWERING_ON: H.UP, H.POWERING_OFF: H.OFF},
    terminal=frozenset(),
    table={
        (H.UP, HostEvent.DRAIN_ASKED): Rule(H.DRAINING, "an administrator drains it"),
        (H.UP, HostEvent.MAINTENANCE_ASKED): Rule(H.MAINTENANCE, "an administrator works on it"),
        (H.UP, HostEvent.POWER_OFF_ASKED): Rule(H.POWERING_OFF, "it is not needed now"),
        (H.UP, HostEvent.LOST): Rule(H.DOWN, "it does not answer"),
        (H.DRAINING, HostEvent.OPENED): Rule(H.UP, "an administrator opened it"),
        (H.DRAINING, HostEvent.MAINTENANCE_ASKED): Rule(H.MAINTENANCE, "now it is worked on"),
        (H.DRAINING, HostEvent.LOST): Rule(H.DOWN, "it does not answer"),
        (H.MAINTENANCE, HostEvent.OPENED): Rule(H.UP, "an administrator opened it"),
        (H.MAINTENANCE, HostEvent.DRAIN_ASKED): Rule(H.DRAINING, "an administrator drains it"),
        (H.MAINTENANCE, HostEvent.POWER_OFF_ASKED): Rule(H.POWERING_OFF, "switched off"),
        (H.DOWN, HostEvent.BACK): Rule(H.UP, "it answers again"),
        (H.DOWN, HostEvent.OPENED): Rule(H.UP, "an administrator opened it"),
        (H.DOWN, HostEvent.MAINTENANCE_ASKED): Rule(H.MAINTENANCE, "an administrator works on it"),
        (H.DOWN, HostEvent.RETIRED): Rule(H.RETIRED, "an administrator gave it up"),
        (H.OFF, HostEvent.RETIRED): Rule(H.RETIRED, "an administrator gave it up"),
        (H.MAINTENANCE, HostEvent.RETIRED): Rule(H.RETIRED, "an administrator took it out"),
        (H.RETIRED, HostEvent.OPENED): Rule(H.UP, "an administrator put it back"),
        (H.POWERING_OFF, HostEvent.POWERED_OFF): Rule(H.OFF, "it is off"),
        (H.POWERING_OFF, HostEvent.BACK): Rule(H.UP, "it could not go off; it answers"),
        (H.POWERING_OFF, HostEvent.DEADLINE_PASSED): Rule(H.DOWN, "it did not go off in time"),
        (H.OFF, HostEvent.POWER_ON_ASKED): Rule(H.POWERING_ON, "it is needed"),
        (H.OFF, HostEvent.OPENED): Rule(H.UP, "an administrator says that it is on"),
        (H.OFF, HostEvent.MAINTENANCE_ASKED): Rule(H.MAINTENANCE, "an administrator works on it"),
        (H.POWERING_ON, HostEvent.POWERED_ON): Rule(H.UP, "it answers"),
        (H.POWERING_ON, HostEvent.DEADLINE_PASSED): Rule(H.DOWN, "it did not come up in time"),
    },
)

ENDPOINT: Lifecycle[E, EndpointEvent] = Lifecycle(
    noun="endpoint",
    first=(E.ENROLLED,),
    stable=frozenset({E.ENROLLED, E.ONLINE, E.OFFLINE}),
    transient={},
    terminal=frozenset({E.RETIRED}),
    table={
        (E.ENROLLED, EndpointEvent.CONNECTED): Rule(E.ONLINE, "its agent proved its key"),
        (E.OFFLINE, EndpointEvent.CONNECTED): Rule(E.ONLINE, "its agent is back"),
        (E.ONLINE, EndpointEvent.CONNECTED): Rule(E.ONLINE, "its agent connected anew"),
        (E.ONLINE, EndpointEvent.LOST): Rule(E.OFFLINE, "its agent is silent or gone"),
        (E.ENROLLED, EndpointEvent.RETIRED): Rule(E.RETIRED, "taken out by an administrator"),
        (E.ONLINE, EndpointEvent.RETIRED): Rule(E.RETIRED, "taken out by an administrator"),
        (E.OFFLINE, EndpointEvent.RETIRED): Rule(E.RETIRED, "taken out by an administrator"),
    },
)

JOB: Lifecycle[J, JobEvent] = Lifecycle(
    noun="job",
    first=(J.QUEUED,),
    stable=frozenset({J.QUEUED}),
    transient={J.RUNNING: J.SUCCEEDED},
    terminal=frozenset({J.SUCCEEDED, J.FAILED, J.CANCELLED}),
    table={
        (J.QUEUED, JobEvent.STARTED): Rule(J.RUNNING, "a broker took it"),
        (J.QUEUED, JobEvent.CANCELLED): Rule(J.CANCELLED, "its desktop is not wanted any more"),
        (J.RUNNING, JobEvent.SUCCEEDED): Rule(J.SUCCEEDED, "the engine did it"),
        (J.RUNNING, JobEvent.FAILED_RETRY): Rule(J.QUEUED, "failed; tried again after a pause"),
        (J.RUNNING, JobEvent.FAILED_FOR_GOOD): Rule(J.FAILED, "failed as often as is allowed"),
        (J.RUNNING, JobEvent.DEADLINE_PASSED): Rule(J.QUEUED, "no answer in time; asked again"),
        (J.RUNNING, JobEvent.HANDED_BACK): Rule(J.QUEUED, "another process may be able to do it"),
    },
)

SNAPSHOT: Lifecycle[N, SnapshotEvent] = Lifecycle(
    noun="snapshot",
    first=(N.MAKING,),
    stable=frozenset({N.READY, N.FAILED}),
    transient={N.MAKING: N.READY, N.DROPPING: N.DROPPED},
    terminal=frozenset({N.DROPPED}),
    table={
        (N.MAKING, SnapshotEvent.MADE): Rule(N.READY, "the engine made it"),
        (N.MAKING, SnapshotEvent.FAILED): Rule(N.FAILED, "the engine could not make it"),
        (N.READY, SnapshotEvent.DROP_ASKED): Rule(N.DROPPING, "an administrator asked for it"),
        (N.FAILED, SnapshotEvent.DROP_ASKED): Rule(N.DROPPING, "what is left of it goes"),
        (N.DROPPING, SnapshotEvent.FAILED): Rule(N.FAILED, "the engine could not drop it"),
        (N.DROPPING, SnapshotEvent.DROPPED): Rule(N.DROPPED, "it is gone"),
    },
)
"""A passing state ends with its job."""

SESSION_HOLDS_PLACE: frozenset[S] = frozenset({S.QUEUED, S.DELIVERING, S.ACTIVE, S.DISCONNECTED})
"""States in which a session is the user's one session of its pool."""

SESSION_HOLDS_DESKTOP: frozenset[S] = frozenset({S.DELIVERING, S.ACTIVE, S.DISCONNECTED, S.ENDING})
"""States in which a session is its desktop's one session."""

HOST_RUNS: frozenset[H] = frozenset({H.UP, H.DRAINING, H.MAINTENANCE})
"""States of a host in which its machines may run."""

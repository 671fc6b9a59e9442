"""What has to be done now: a pure plan from a snapshot, in words that can be kept.

`rows_needed` says which desktops the planner must see beside the counts; `plan` answers the
commands, each with its reasons, and what it remembers until the next look.
"""

from broker.domain.planning.breaker import Breaker, BreakerState
from broker.domain.planning.commands import (
    ClearDesktop,
    Command,
    DiscardMachine,
    ExpireDesktop,
    ExpireHost,
    ExpireJob,
    ExpireSession,
    FailDesktop,
    FreshenDesktop,
    MakeDesktop,
    MigrateDesktop,
    NoRoom,
    Plan,
    PowerHost,
    RenewDesktop,
    ResetDesktop,
    ResizeDesktop,
    ResumeDesktop,
    SeenMachine,
    ServeQueue,
    StrayCommand,
    Suspects,
    SuspendDesktop,
)
from broker.domain.planning.effective import Effective, effective
from broker.domain.planning.needs import Need, assess
from broker.domain.planning.plan import plan, rows_needed
from broker.domain.planning.resets import full_hosts
from broker.domain.planning.strays import Comparison, compare
from broker.domain.planning.view import ON_HOST_STATES, Memory, Rows, RowsNeeded, Surplus, View

__all__ = [
    "ON_HOST_STATES",
    "Breaker",
    "BreakerState",
    "ClearDesktop",
    "Command",
    "Comparison",
    "DiscardMachine",
    "Effective",
    "ExpireDesktop",
    "ExpireHost",
    "ExpireJob",
    "ExpireSession",
    "FailDesktop",
    "FreshenDesktop",
    "MakeDesktop",
    "Memory",
    "MigrateDesktop",
    "Need",
    "NoRoom",
    "Plan",
    "PowerHost",
    "RenewDesktop",
    "ResetDesktop",
    "ResizeDesktop",
    "ResumeDesktop",
    "Rows",
    "RowsNeeded",
    "SeenMachine",
    "ServeQueue",
    "StrayCommand",
    "Surplus",
    "Suspects",
    "SuspendDesktop",
    "View",
    "assess",
    "compare",
    "effective",
    "full_hosts",
    "plan",
    "rows_needed",
]

"""Whether a desktop's machine may be switched off and on again now; in words, why not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from broker.domain.lifecycle import DESKTOP, HOST_RUNS, DesktopEvent
from broker.domain.model import Desktop, DesktopState, Host
from broker.domain.snapshots import Snapshot, under_way

_ASLEEP: Final = frozenset({DesktopState.SUSPENDED, DesktopState.PARKED})
_OVER: Final = frozenset({DesktopState.DELETING, DesktopState.DELETED})


def refusal(
    desktop: Desktop, host: Host | None, snapshots: Iterable[Snapshot] = (), *, silent: bool = False
) -> str:
    """Why this machine is not restarted now; empty: it is. `host`: the desktop's, where it is
    known; `silent`: it does not answer. Whose desktop it is, and who works in it, says nothing."""
    name = desktop.name
    if not DESKTOP.allows(desktop.state, DesktopEvent.RESTART_ASKED):
        return f"{name} {_state(desktop.state)}"
    if desktop.moving_to is not None:
        return f"{name} is on its way to another host: wait until it is there"
    if host is None or host.state not in HOST_RUNS:
        return f"the host of {name} does not run"
    if silent:
        return f"{host.name} does not answer"
    busy = under_way(snapshots, desktop)
    if busy is not None:
        return f"the snapshot {busy.name!r} of {name} is {busy.state}: wait until that is over"
    return ""


def _state(state: DesktopState) -> str:
    if state in _ASLEEP:
        return f"is {state}: its machine does not run"
    if state in _OVER:
        return f"is {state}"
    if state is DesktopState.FAILED:
        return "has failed: it starts again by itself if it keeps a person's work, else reset it"
    if state is DesktopState.UNAVAILABLE:
        return "is unavailable"
    return f"is {state} just now: wait until that is over"

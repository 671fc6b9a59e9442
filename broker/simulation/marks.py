"""Whose work is on which machine: nobody meets somebody else's, and everybody finds his own."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from broker.domain.model import Desktop, DesktopState, Session, SessionState
from broker.simulation.engine import Hypervisor
from broker.simulation.history import History
from broker.simulation.watched import WatchedState

_ASLEEP: Final = DesktopState.PARKED
_RESTARTS: Final = (DesktopState.ASSIGNED, DesktopState.UNPARKING)


class Marks:
    """A machine of a host is marked by the engine with each session whose display it showed, until
    it is made fresh; the disk of a fat endpoint is marked here."""

    def __init__(self, history: History, state: WatchedState, hypervisor: Hypervisor) -> None:
        self._history = history
        self._state = state
        self._hypervisor = hypervisor
        self._disks: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._parked: dict[str, tuple[str | None, int, tuple[str, ...]]] = {}
        """desktop -> (its session, its generation, whose marks it bore) when it was suspended, or
        was to start anew"""

    def made_fresh(self, desktop_id: str) -> None:
        """An endpoint says so of its own disk."""
        self._disks[desktop_id].clear()

    def shown(self, desktop_id: str, session_id: str) -> None:
        """A machine showed its display to this session."""
        session = self._state.sessions.get(session_id)
        if session is not None:
            self._meets(desktop_id, session, self._users(desktop_id))

    def session_changed(self, old: Session | None, new: Session) -> None:
        live = new.state is SessionState.ACTIVE and (old is None or old.state is not new.state)
        if not live or new.desktop_id is None:
            return
        desktop = self._state.desktops[new.desktop_id]
        if desktop.endpoint_id is None:
            self._meets(desktop.id, new, self._users(desktop.id))
            return
        disk = self._disks[desktop.id]
        self._meets(desktop.id, new, tuple(disk))
        disk[new.user_id] = None

    def _users(self, desktop_id: str) -> tuple[str, ...]:
        machine = self._hypervisor.machines.get(desktop_id)
        seen = machine.users if machine is not None else ()
        sessions = (self._state.sessions.get(one) for one in seen)
        return tuple(dict.fromkeys(one.user_id for one in sessions if one is not None))

    def _meets(self, desktop_id: str, session: Session, users: tuple[str, ...]) -> None:
        foreign = [one for one in users if one != session.user_id]
        if foreign:
            text = f"{session.id} of {session.user_id} is on {desktop_id} after {foreign}"
            self._history.violated("I17", text)

    # --------------------------------------------------------------------- suspended

    def desktop_changed(self, old: Desktop | None, new: Desktop) -> None:
        restarts = old is not None and (old.state, new.state) == _RESTARTS
        if new.state is _ASLEEP or restarts:
            holder = self._state.held_desktops.get(new.id)
            self._parked[new.id] = (holder, new.generation, self._users(new.id))
        elif new.state not in {DesktopState.UNPARKING, DesktopState.ASSIGNED}:
            self._parked.pop(new.id, None)
        if (
            old is not None
            and old.state is DesktopState.UNPARKING
            and new.state is DesktopState.ASSIGNED
        ):
            self._woke(new)

    def _woke(self, new: Desktop) -> None:
        holder, generation, users = self._parked.pop(new.id, (None, new.generation, ()))
        now = self._state.held_desktops.get(new.id)
        if (now, new.generation) != (holder, generation):
            text = f"{new.id} was suspended under {holder} at {generation}"
            self._history.violated("I17", f"{text}, and woke under {now} at {new.generation}")
        missing = [one for one in users if one not in self._users(new.id)]
        if missing and new.id in self._hypervisor.machines:
            self._history.violated("I17", f"{new.id} woke without the work of {missing}")

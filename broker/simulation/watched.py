"""The memory store's rows with somebody watching: every change of one is told as it happens."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, Protocol

from broker.domain.model import Desktop, Job, Session
from broker.store.memory.state import State

CAUSE: Final[ContextVar[str | None]] = ContextVar("cause", default=None)
"""the endpoint whose message is being handled"""


class Watcher(Protocol):
    def session_changed(self, old: Session | None, new: Session) -> None: ...

    def desktop_changed(self, old: Desktop | None, new: Desktop) -> None: ...

    def job_changed(self, old: Job | None, new: Job) -> None: ...


class WatchedState(State):
    """`watcher` is set once the one who watches exists."""

    __slots__ = ("watcher",)

    watcher: Watcher

    def put_session(self, session: Session) -> None:
        old = self.sessions.get(session.id)
        State.put_session(self, session)
        self.watcher.session_changed(old, session)

    def put_desktop(self, desktop: Desktop) -> None:
        old = self.desktops.get(desktop.id)
        State.put_desktop(self, desktop)
        self.watcher.desktop_changed(old, desktop)

    def put_job(self, job: Job) -> None:
        old = self.jobs.get(job.id)
        State.put_job(self, job)
        self.watcher.job_changed(old, job)

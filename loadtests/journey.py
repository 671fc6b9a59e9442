"""One arrival's journey: sign in → connect → until live → work → log off. Runs under gevent.

The arrival is open (it comes when the plan says, whatever the broker does), what happens within
the session is closed (each call waits for the one before, with think times between).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent
import msgspec

from loadtests.client import LIVE, OVER, CallError, Client
from loadtests.display import Display, DisplayError
from loadtests.records import INTERRUPTED, NOT_ENDED, STUCK, Trouble
from loadtests.sight import Place, SessionView, Sight


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """live_s: from due to live. end_s: from log-off to the ended session."""

    live_s: float
    end_s: float


class _GoneWrongError(Exception):
    """The arrival ends here: the step, and the class of the error."""

    def __init__(self, step: str, error: str) -> None:
        super().__init__(error)
        self.step = step
        self.error = error


@contextmanager
def _step(name: str) -> Iterator[None]:
    """A failed call within ends the journey at this step."""
    try:
        yield
    except CallError as error:
        raise _GoneWrongError(name, error.error) from error
    except DisplayError as error:
        raise _GoneWrongError(name, error.error) from error


class Journey:
    """Walks one arrival through; `sight` keeps what was seen, `moved` hears of each new place."""

    def __init__(
        self,
        sight: Sight,
        client: Client,
        *,
        url: str,
        password: str,
        key: str,
        deadlines: Deadlines,
        moved: Callable[[Place], None],
    ) -> None:
        self._sight = sight
        self._arrival = sight.arrival
        self._client = client
        self._url = url
        self._password = password
        self._key = key
        self._deadlines = deadlines
        self._moved = moved
        self._ticket: str | None = None
        self._asking: str | None = None
        """the key of the connect whose answer is not there yet"""
        self._display: Display | None = None

    def walk(self) -> None:
        """From the due instant to the end of the session. Raises only when it is killed."""
        try:
            self._to_live()
            self._work()
        except _GoneWrongError as wrong:
            self._sight.trouble = Trouble(step=wrong.step, error=wrong.error)
        except gevent.GreenletExit:
            self._sight.trouble = Trouble(step="any", error=INTERRUPTED)
            self._abandon()
            raise
        finally:
            if self._display is not None:
                self._sight.own_phases = self._display.phases
                self._display.close()
            self._count()
        self._leave()
        self._count()

    def _abandon(self) -> None:
        """Ask once for the end of whatever session there is: also of the one whose answer was not
        waited for, which under its key is the same when it is asked for again."""
        if self._asking is not None:
            arrival = self._arrival
            answer = self._client.connect_once(arrival.pool, arrival.endpoint, self._asking)
            if answer is not None:
                self._sight.session = answer.session
        if self._sight.session is not None and self._view.state not in OVER:
            self._client.log_off_once(self._view.id)

    def _to_live(self) -> None:
        sight = self._sight
        self._client.try_until = sight.due + self._deadlines.live_s
        self._moved(Place.SIGNING_IN)
        with _step("sign_in"):
            self._client.sign_in(self._arrival.username, self._password)
        sight.lap("sign_in")
        with _step("assign"):
            self._connect(self._key)
        sight.lap("assign")
        self._moved(Place.WAITING)
        if self._view.state == "queued":
            sight.queued = True
            self._follow("queue", lambda view: view.state != "queued")
            sight.lap("queue")
        sight.hold()
        with _step("deliver"):
            if self._arrival.endpoint is None:
                self._open_display()
        self._follow("deliver", lambda view: view.state in LIVE)
        sight.lap("deliver")
        sight.lap_total()
        self._moved(Place.LIVE)

    def _connect(self, key: str) -> None:
        self._asking = key
        answer = self._client.connect(self._arrival.pool, self._arrival.endpoint, key)
        self._asking = None
        self._sight.session = answer.session
        self._ticket = answer.ticket

    def _open_display(self) -> None:
        if self._ticket is None:
            self._connect(f"{self._key}-ticket")
        if self._ticket is None:
            raise _GoneWrongError("deliver", "answer:no_ticket")
        display = Display(self._url, self._view.id, self._client.token, self._ticket)
        display.open()
        self._display = display

    def _follow(self, step: str, arrived: Callable[[SessionView], bool]) -> None:
        """Waits by long polls until the session is as wanted."""
        until = self._sight.due + self._deadlines.live_s
        while not arrived(self._view):
            if self._view.state in OVER or self._view.state == "ending":
                raise _GoneWrongError(step, f"session.{self._view.state}")
            if time.monotonic() > until:
                raise _GoneWrongError(step, STUCK)
            with _step(step):
                self._sight.session = self._client.later(self._view)

    def _work(self) -> None:
        until = self._sight.mark + self._arrival.work_s
        self._client.try_until = until + self._deadlines.end_s
        for each in self._arrival.steps:
            gevent.sleep(each.think_s)
            with _step("work"):
                seen = self._client.look(each.call, self._view.id)
            if seen is not None:
                self._sight.session = seen
                if seen.state not in LIVE:
                    raise _GoneWrongError("work", "session.lost_in_use")
        gevent.sleep(max(until - time.monotonic(), 0.0))
        self._sight.lap("work")

    def _leave(self) -> None:
        """Logs off whatever session there is, also after trouble, and sees it end."""
        sight = self._sight
        if sight.session is None or self._view.state in OVER:
            return
        self._moved(Place.LEAVING)
        sight.mark = sight.left_at = time.monotonic()
        try:
            with _step("log_off"):
                self._log_off()
        except _GoneWrongError as wrong:
            sight.trouble = sight.trouble or Trouble(step=wrong.step, error=wrong.error)
        else:
            sight.lap("log_off")

    def _log_off(self) -> None:
        until = self._client.try_until = self._sight.mark + self._deadlines.end_s
        try:
            self._sight.session = self._client.log_off(self._view.id)
            self._sight.log_off_acknowledged = True
        except CallError:
            self._sight.session = self._client.session(self._view.id)
            if self._view.state not in OVER and self._view.state != "ending":
                raise
        while self._view.state not in OVER:
            if time.monotonic() > until:
                raise _GoneWrongError("log_off", NOT_ENDED)
            self._sight.session = self._client.later(self._view)

    def _count(self) -> None:
        self._sight.requests = self._client.tally.requests
        self._sight.retries = self._client.tally.retries

    @property
    def _view(self) -> SessionView:
        if self._sight.session is None:
            raise AssertionError
        return self._sight.session

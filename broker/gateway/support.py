"""What support staff may ask, and how the answers look as text.

A line goes in, text comes out: nothing here knows SSH. The services answer through `Support`,
which the application implements. Whatever people typed into names and notes is shown without
control characters, so that nobody writes to the terminal of whoever looks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from broker.domain.errors import ForbiddenError, TriviumError
from broker.domain.model import Identity
from broker.domain.roles import Permission, allows
from broker.gateway.tables import LONG_CELL_CHARS_MAX, plain, table
from broker.gateway.views import (
    DecisionView,
    DesktopView,
    EndpointView,
    HostView,
    PreviewView,
    SessionView,
)
from broker.limits import EXTEND_S_MAX, SSH_COMMAND_S, SSH_LINE_CHARS_MAX, SSH_ROWS_MAX
from broker.ports import Overview

__all__ = ["Answer", "Subject", "Support", "SupportConsole", "plain"]

_log = logging.getLogger(__name__)

_WIDTH_MIN, _WIDTH_MAX = 60, 240
_MINUTE_S: Final = 60
_EXTEND_MIN_MAX: Final = EXTEND_S_MAX // _MINUTE_S


class Subject(StrEnum):
    """What `why` is asked of."""

    SESSION = "session"
    DESKTOP = "desktop"
    POOL = "pool"
    HOST = "host"


class Support(Protocol):
    """What the gateway asks of the services. Each may raise TriviumError."""

    async def refresh(self, identity: Identity) -> Identity | None:
        """The same person as of now: None once disabled, signed out or gone."""

    async def overview(self) -> Overview: ...

    async def sessions(self, text: str, limit: int) -> Sequence[SessionView]:
        """Live sessions, newest first; with `text`, those in which it occurs."""

    async def session(self, session_id: str) -> SessionView:
        """Raises NotFoundError."""

    async def end(self, identity: Identity, session_id: str) -> SessionView:
        """Log the session off on the word of `identity`. Raises NotFoundError."""

    async def message(self, identity: Identity, session_id: str, text: str) -> SessionView:
        """Tell the session's person something.

        Raises NotFoundError; BadRequestError for a text over NOTICE_CHARS_MAX; ConflictError when
        the session is over.
        """

    async def lock(self, identity: Identity, session_id: str) -> SessionView:
        """Lock the screen of the session's desktop.

        Raises NotFoundError; ConflictError when it has none; EngineError, BusyError.
        """

    async def extend(self, identity: Identity, session_id: str, seconds: int) -> SessionView:
        """Let the session last longer than its pool's maximum time.

        Raises NotFoundError; BadRequestError; ConflictError where it has no end to be moved.
        """

    async def why(
        self, identity: Identity, subject: Subject, ref: str, limit: int
    ) -> Sequence[DecisionView]:
        """The decisions about one thing, newest first; sessions by id, others by name, too.
        Raises NotFoundError."""

    async def preview(self, user: str) -> PreviewView:
        """What this person, by user name or id, can do now in each pool. Raises NotFoundError."""

    async def desktops(self, text: str, limit: int) -> Sequence[DesktopView]: ...

    async def endpoints(self, text: str, limit: int) -> Sequence[EndpointView]: ...

    async def hosts(self, text: str, limit: int) -> Sequence[HostView]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`status` is an exit status: 0 done, 1 refused or failed, 2 not understood. `bye`: the
    conversation is over."""

    text: str
    status: int = 0
    bye: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One command under way. `rest` is the text after its name."""

    identity: Identity
    rest: str
    width: int


_Handler = Callable[[_Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    usage: str
    says: str
    permission: Permission
    run: _Handler
    words: range = range(SSH_LINE_CHARS_MAX)
    """how many it takes"""


_ONE: Final = range(1, 2)
_AT_LEAST_ONE: Final = range(1, SSH_LINE_CHARS_MAX)
_AT_LEAST_TWO: Final = range(2, SSH_LINE_CHARS_MAX)
_WHY: Final = "why [desktop|pool|host] ID"


class SupportConsole:
    """Runs one line at a time for one person. Refused unless the role has the permission."""

    def __init__(self, support: Support) -> None:
        self._support = support
        read, manage = Permission.READ, Permission.MANAGE_SESSIONS
        self._commands: dict[str, _Command] = {
            "help": _Command(usage="help", says="this list", permission=read, run=self._help),
            "overview": _Command(usage="overview", says="counts by state",
                                 permission=read, run=self._overview),
            "sessions": _Command(usage="sessions [TEXT]", says="live sessions, newest first",
                                 permission=read, run=self._sessions),
            "session": _Command(usage="session ID", says="one session, in full",
                                permission=read, run=self._session, words=_ONE),
            "why": _Command(usage=_WHY, says="what was decided about it, newest first",
                            permission=read, run=self._why, words=_AT_LEAST_ONE),
            "message": _Command(usage="message ID TEXT", says="tell a session's person something",
                                permission=manage, run=self._message, words=_AT_LEAST_TWO),
            "lock": _Command(usage="lock ID", says="lock the screen of a session's desktop",
                             permission=manage, run=self._lock, words=_ONE),
            "extend": _Command(usage="extend ID MINUTES", says="let a session last longer",
                               permission=manage, run=self._extend, words=range(2, 3)),
            "end": _Command(usage="end ID", says="log a session off",
                            permission=manage, run=self._end, words=_ONE),
            "preview": _Command(usage="preview USER", says="what a person can do now, and why",
                                permission=read, run=self._preview, words=_ONE),
            "desktops": _Command(usage="desktops [TEXT]", says="desktops by name",
                                 permission=read, run=self._desktops),
            "endpoints": _Command(usage="endpoints [TEXT]", says="endpoints by name",
                                  permission=read, run=self._endpoints),
            "hosts": _Command(usage="hosts [TEXT]", says="hosts by name, and what is given out",
                              permission=read, run=self._hosts),
            "whoami": _Command(usage="whoami", says="who you are here",
                               permission=read, run=self._whoami),
            "exit": _Command(usage="exit", says="hang up", permission=read, run=self._exit),
        }  # fmt: skip

    async def run(self, identity: Identity, line: str, *, width: int = 120) -> Answer:
        """Answer one line. Never raises for what the line or the services did."""
        if len(line) > SSH_LINE_CHARS_MAX:
            return Answer(text="That line is too long.\n", status=2)
        name, _, rest = plain(line, SSH_LINE_CHARS_MAX).strip().partition(" ")
        if not name:
            return Answer(text="")
        command = self._commands.get(name.lower())
        if command is None:
            return Answer(text=f"There is no command {name}; try help.\n", status=2)
        if len(rest.split()) not in command.words:
            return _usage(command.usage)
        return await self._answer(name, self._allowed(identity, command, rest.strip(), width))

    async def _answer(self, name: str, work: Awaitable[Answer]) -> Answer:
        """Await it within SSH_COMMAND_S; what goes wrong becomes text."""
        try:
            async with asyncio.timeout(SSH_COMMAND_S):
                return await work
        except TimeoutError:
            return Answer(text="No answer in time; try again.\n", status=1)
        except TriviumError as error:
            shown = f"{plain(error.detail)}. {plain(error.advice)}"
            return Answer(text=f"{shown} ({error.code})\n", status=1)
        except Exception:  # noqa: BLE001 - nobody is shown a traceback
            _log.exception("support command %s", name)
            return Answer(text="Something went wrong inside the broker.\n", status=1)

    async def _allowed(
        self, identity: Identity, command: _Command, rest: str, width: int
    ) -> Answer:
        """Check the person as of now, then run."""
        current = await self._support.refresh(identity)
        if current is None or not allows(current.role, Permission.READ):
            return Answer(text="You are signed out.\n", status=1, bye=True)
        if not allows(current.role, command.permission):
            raise ForbiddenError(f"{command.usage.split()[0]} needs {command.permission}")
        width = min(max(width, _WIDTH_MIN), _WIDTH_MAX)
        return await command.run(_Call(identity=current, rest=rest, width=width))

    async def _help(self, call: _Call) -> Answer:
        rows = [
            (one.usage, one.says)
            for one in self._commands.values()
            if allows(call.identity.role, one.permission)
        ]
        return _table(call, ("command", "what it does"), rows)

    async def _whoami(self, call: _Call) -> Answer:
        return Answer(text=f"{plain(call.identity.username)}, {call.identity.role}\n")

    async def _exit(self, call: _Call) -> Answer:  # noqa: ARG002 - one shape for all commands
        return Answer(text="", bye=True)

    async def _overview(self, call: _Call) -> Answer:
        seen = await self._support.overview()
        parts = (("desktops", seen.desktops), ("sessions", seen.sessions),
                 ("endpoints", seen.endpoints))  # fmt: skip
        rows = [
            (what, kind, state, str(count))
            for what, counts in parts
            for (kind, state), count in sorted(counts.items())
            if count
        ]
        return _table(call, ("what", "kind", "state", "count"), rows)

    async def _sessions(self, call: _Call) -> Answer:
        found = await self._support.sessions(call.rest, SSH_ROWS_MAX)
        rows = [
            (one.id, one.username, one.pool, one.architecture, one.state, one.desktop, one.age)
            for one in found
        ]
        head = ("id", "user", "pool", "arch", "state", "desktop", "age")
        return _table(call, head, rows)

    async def _session(self, call: _Call) -> Answer:
        return _one_session(call, await self._support.session(call.rest))

    async def _end(self, call: _Call) -> Answer:
        ended = await self._support.end(call.identity, call.rest)
        _log.info("%s ended session %s", plain(call.identity.username), plain(call.rest))
        return _one_session(call, ended)

    async def _message(self, call: _Call) -> Answer:
        session_id, _, text = call.rest.partition(" ")
        told = await self._support.message(call.identity, session_id, text.strip())
        _log.info("%s wrote to session %s", plain(call.identity.username), plain(session_id))
        return _one_session(call, told)

    async def _lock(self, call: _Call) -> Answer:
        locked = await self._support.lock(call.identity, call.rest)
        _log.info("%s locked session %s", plain(call.identity.username), plain(call.rest))
        return _one_session(call, locked)

    async def _extend(self, call: _Call) -> Answer:
        session_id, minutes = call.rest.split()
        if not (minutes.isascii() and minutes.isdigit() and 1 <= int(minutes) <= _EXTEND_MIN_MAX):
            return _usage(f"extend ID MINUTES, from 1 to {_EXTEND_MIN_MAX}")
        seconds = int(minutes) * _MINUTE_S
        longer = await self._support.extend(call.identity, session_id, seconds)
        shown = plain(call.identity.username), plain(session_id), seconds
        _log.info("%s extended session %s by %d s", *shown)
        return _one_session(call, longer)

    async def _why(self, call: _Call) -> Answer:
        first, _, rest = call.rest.partition(" ")
        subject, ref = Subject.SESSION, call.rest
        if rest and first in {*Subject}:
            subject, ref = Subject(first), rest.strip()
        elif rest:
            return _usage(_WHY)
        found = await self._support.why(call.identity, subject, ref, SSH_ROWS_MAX)
        rows = [
            row
            for one in found
            for row in (
                (one.age, one.text, one.by),
                *(("", f"· {reason}", "") for reason in one.reasons),
            )
        ]
        head, cut = ("age", "what and why", "by"), "the console has the older ones"
        return Answer(text=table(call.width, head, rows, chars_max=LONG_CELL_CHARS_MAX, cut=cut))

    async def _preview(self, call: _Call) -> Answer:
        seen = await self._support.preview(call.rest)
        rows = [
            (one.pool, "yes" if one.may else "no", one.now, one.quotas, one.why)
            for one in seen.pools
        ]
        barred = "" if seen.enabled else "The account is disabled: nobody signs in with it.\n"
        head, cut = ("pool", "may", "now", "quotas", "why"), "the console has the others"
        text = table(call.width, head, rows, cut=cut)
        return Answer(text=f"{plain(seen.username)}\n{barred}{text}")

    async def _hosts(self, call: _Call) -> Answer:
        found = await self._support.hosts(call.rest, SSH_ROWS_MAX)
        rows = [
            (one.name, one.state, one.engine, one.cpus, one.memory, one.starting, one.note)
            for one in found
        ]
        head = ("host", "state", "engine", "CPUs", "memory", "starting", "note")
        return _table(call, head, rows)

    async def _desktops(self, call: _Call) -> Answer:
        found = await self._support.desktops(call.rest, SSH_ROWS_MAX)
        rows = [
            (one.name, one.pool, one.state, one.place, str(one.generation), one.note)
            for one in found
        ]
        return _table(call, ("desktop", "pool", "state", "on", "generation", "note"), rows)

    async def _endpoints(self, call: _Call) -> Answer:
        found = await self._support.endpoints(call.rest, SSH_ROWS_MAX)
        rows = [(one.name, one.kind, one.state, one.location, one.seen) for one in found]
        return _table(call, ("endpoint", "kind", "state", "location", "seen"), rows)


def _one_session(call: _Call, one: SessionView) -> Answer:
    rows = [
        ("id", one.id), ("user", one.username), ("pool", one.pool),
        ("architecture", one.architecture), ("state", one.state), ("why", one.why),
        ("desktop", one.desktop), ("endpoint", one.endpoint), ("age", one.age),
        ("ends", one.ends), ("last message", one.notice),
    ]  # fmt: skip
    shown = [row for row in rows if row[1]]
    return Answer(text=table(call.width, ("session", ""), shown, chars_max=LONG_CELL_CHARS_MAX))


def _usage(usage: str) -> Answer:
    return Answer(text=f"Usage: {usage}\n", status=2)


def _table(call: _Call, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Answer:
    return Answer(text=table(call.width, head, rows))

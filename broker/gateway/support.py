"""What support staff may ask, and how the answers look as text.

A line goes in, text comes out: nothing here knows SSH. The services answer through `Support`,
which the application implements. Whatever people typed into names and notes is shown without
control characters, so that nobody writes to the terminal of whoever looks.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.domain.errors import ForbiddenError, TriviumError
from broker.domain.model import Identity
from broker.domain.roles import Permission, allows
from broker.limits import SSH_COMMAND_S, SSH_LINE_CHARS_MAX, SSH_ROWS_MAX
from broker.ports import Overview

_log = logging.getLogger(__name__)

_WIDTH_MIN, _WIDTH_MAX = 60, 240
_CELL_CHARS_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """One session with names for ids. `desktop` and `endpoint` are "" where there is none;
    `age` says how long ago it was asked for, in words."""

    id: str
    username: str
    pool: str
    architecture: str
    state: str
    desktop: str
    endpoint: str
    age: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DesktopView:
    name: str
    pool: str
    state: str
    place: str
    """its host or endpoint"""
    generation: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointView:
    name: str
    kind: str
    state: str
    location: str
    seen: str
    """how long ago it gave a sign of life, in words"""


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

    async def desktops(self, text: str, limit: int) -> Sequence[DesktopView]: ...

    async def endpoints(self, text: str, limit: int) -> Sequence[EndpointView]: ...


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
    needs_word: bool = False


def plain(text: str, limit: int = _CELL_CHARS_MAX) -> str:
    """Printable characters only, cut to `limit`: no controls, no escapes, no direction marks."""
    shown = (" " if one.isspace() else one for one in text[: 2 * limit])
    return "".join(one for one in shown if one.isprintable())[:limit]


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
                                permission=read, run=self._session, needs_word=True),
            "end": _Command(usage="end ID", says="log a session off",
                            permission=manage, run=self._end, needs_word=True),
            "desktops": _Command(usage="desktops [TEXT]", says="desktops by name",
                                 permission=read, run=self._desktops),
            "endpoints": _Command(usage="endpoints [TEXT]", says="endpoints by name",
                                  permission=read, run=self._endpoints),
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
        if command.needs_word and len(rest.split()) != 1:
            return Answer(text=f"Usage: {command.usage}\n", status=2)
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
    ]  # fmt: skip
    return _table(call, ("session", ""), rows)


def _table(call: _Call, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Answer:
    """Columns as wide as their text, ids never broken; no colours, no control codes."""
    if not rows:
        return Answer(text="None.\n")
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in head:
        table.add_column(name, no_wrap=name in {"id", "session"}, overflow="ellipsis")
    for row in rows[:SSH_ROWS_MAX]:
        table.add_row(*(Text(plain(cell)) for cell in row))
    out = io.StringIO()
    Console(file=out, width=call.width, color_system=None, force_terminal=False).print(table)
    text = "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
    if len(rows) >= SSH_ROWS_MAX:
        text += f"Only the first {SSH_ROWS_MAX}; narrow it down.\n"
    return Answer(text=text)

"""A support staff's world for the SSH gateway: people, sessions, and what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from broker.domain.errors import NotFoundError, TooManyAttemptsError
from broker.domain.model import Identity, Role
from broker.gateway.support import DesktopView, EndpointView, SessionView
from broker.ports import Overview

PHRASE = "seven wet otters"

SESSION = SessionView(
    id="ses_1", username="wang.fang", pool="library", architecture="vdi", state="active",
    desktop="library-001", endpoint="", age="5 min", why="a ready desktop was free",
)  # fmt: skip


def identity(username: str, role: Role) -> Identity:
    return Identity(user_id=f"usr_{username}", username=username, role=role, token_id="tok_1")


class FakeStaff:
    """The Support port and an authenticator: ada administers, olga operates, adam audits, uwe
    is a plain user; all with one password. `gone` are signed out."""

    def __init__(self) -> None:
        self.people = {
            "ada": Role.ADMINISTRATOR, "olga": Role.OPERATOR, "adam": Role.AUDITOR,
            "uwe": Role.USER,
        }  # fmt: skip
        self.tries: list[tuple[str, str, str]] = []
        self.gone: set[str] = set()
        self.ended: list[tuple[str, str]] = []
        self.listed = [SESSION]
        self.error: Exception | None = None
        self.hold = asyncio.Event()
        self.hold.set()

    async def authenticate(self, username: str, password: str, source: str) -> Identity | None:
        self.tries.append((username, password, source))
        await self.hold.wait()
        if username == "hasty":
            raise TooManyAttemptsError(retry_after_s=10)
        if username == "broken":
            raise RuntimeError("the directory fell over")
        if username == "nobody" or password != PHRASE or username not in self.people:
            return None
        return identity(username, self.people[username])

    async def refresh(self, identity: Identity) -> Identity | None:
        if identity.username in self.gone:
            return None
        return replace(identity, role=self.people[identity.username])

    async def overview(self) -> Overview:
        return Overview(
            desktops={("vdi", "ready"): 12, ("vdi", "failed"): 0}, sessions={("vdi", "active"): 3},
            endpoints={("thin", "online"): 40}, ended_total={},
        )  # fmt: skip

    async def sessions(self, text: str, limit: int) -> Sequence[SessionView]:
        if self.error is not None:
            raise self.error
        return [one for one in self.listed if text in one.username or text in one.pool][:limit]

    async def session(self, session_id: str) -> SessionView:
        for one in self.listed:
            if one.id == session_id:
                return one
        raise NotFoundError(f"there is no session {session_id}")

    async def end(self, identity: Identity, session_id: str) -> SessionView:
        found = await self.session(session_id)
        self.ended.append((identity.username, session_id))
        return replace(found, state="ending")

    async def desktops(self, text: str, limit: int) -> Sequence[DesktopView]:
        return [
            DesktopView(name="library-001", pool="library", state="assigned", place="server-1",
                        generation=4, note=""),
        ]  # fmt: skip

    async def endpoints(self, text: str, limit: int) -> Sequence[EndpointView]:
        return [
            EndpointView(name="LAB-01", kind="fat", state="online", location="Room 101",
                         seen="3 s"),
        ]  # fmt: skip

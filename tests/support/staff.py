"""A support staff's world for the SSH gateway: people, sessions, and what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from broker.domain.errors import NotFoundError, TooManyAttemptsError
from broker.domain.model import Identity, Role
from broker.gateway.support import Subject
from broker.gateway.views import (
    DecisionView,
    DesktopView,
    EndpointView,
    HostView,
    PoolPreviewView,
    PreviewView,
    SessionView,
)
from broker.ports import Overview

PHRASE = "seven wet otters"

SESSION = SessionView(
    id="ses_1", username="wang.fang", pool="library", architecture="vdi", state="active",
    desktop="library-001", endpoint="", age="5 min", why="a ready desktop was free",
)  # fmt: skip

DECISION = DecisionView(
    age="5 min", text="A desktop was given: it was free.", reasons=("server-1 has room",),
    by="broker",
)  # fmt: skip
LIBRARY = PoolPreviewView(
    pool="library", may=True, now="place 3 in the queue", quotas="each 1/2", why="for teachers",
)  # fmt: skip
DESIGN = PoolPreviewView(pool="design", may=False, now="", quotas="", why="for nobody")


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
        self.told: list[tuple[str, str, str]] = []
        self.extended: list[tuple[str, str, int]] = []
        self.locked: list[tuple[str, str]] = []
        self.explained: list[tuple[Subject, str, int]] = []
        self.decisions = [DECISION]
        self.enabled = True
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

    async def message(self, identity: Identity, session_id: str, text: str) -> SessionView:
        found = await self.session(session_id)
        self.told.append((identity.username, session_id, text))
        return replace(found, notice=f"{text} ({identity.username}, 0 s ago)")

    async def lock(self, identity: Identity, session_id: str) -> SessionView:
        found = await self.session(session_id)
        self.locked.append((identity.username, session_id))
        return found

    async def extend(self, identity: Identity, session_id: str, seconds: int) -> SessionView:
        found = await self.session(session_id)
        self.extended.append((identity.username, session_id, seconds))
        return replace(found, ends="in 2 h")

    async def why(
        self, identity: Identity, subject: Subject, ref: str, limit: int
    ) -> Sequence[DecisionView]:
        self.explained.append((subject, ref, limit))
        if "404" in ref:
            raise NotFoundError(f"there is no {subject} {ref}")
        return self.decisions[:limit]

    async def preview(self, user: str) -> PreviewView:
        if user not in self.people:
            raise NotFoundError(f"there is no user {user}")
        return PreviewView(username=user, enabled=self.enabled, pools=(LIBRARY, DESIGN))

    async def hosts(self, text: str, limit: int) -> Sequence[HostView]:
        found = HostView(
            name="server-1", state="draining", engine="simulated bare-metal", cpus="8 of 128",
            memory="16,384 of 131,072 MiB", starting="1 of 8", note="a fan is loud",
        )  # fmt: skip
        return [found][:limit] if text in found.name else []

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

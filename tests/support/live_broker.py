"""A whole broker in a thread of its own: memory store, simulated engine, real sockets.

Tests that drive a browser stay plain functions: `ask` runs a coroutine on the broker's loop and
waits for its answer.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from broker.app import Running, Seams, serve, system_seams
from broker.config import Config, load
from broker.domain.model import Identity, Role, User
from broker.ports import Store
from broker.services.bundle import Services
from broker.services.roster.importing import import_roster

Answer = TypeVar("Answer")

DEADLINE_S = 30.0
"""for anything that a test waits for"""


class PlainHasher:
    """The PasswordHasher port without the work: a browser test signs in a hundred times."""

    async def hash(self, password: str) -> str:
        return f"plain:{password}"

    async def verify(self, password: str, encoded: str | None) -> bool:
        return encoded == f"plain:{password}"

    def needs_rehash(self, encoded: str) -> bool:
        return False


@dataclass
class LiveBroker:
    """`url`: where browsers reach it. `setup_url`: with the one-time secret."""

    running: Running
    loop: asyncio.AbstractEventLoop
    users: dict[str, User] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def services(self) -> Services:
        return self.running.broker.services

    @property
    def store(self) -> Store:
        return self.running.broker.store

    def ask(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Run it on the broker's loop. Raises what it raises, or TimeoutError."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(2 * DEADLINE_S)

    def until_true(self, look: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Look until the answer is true. Raises TimeoutError after DEADLINE_S."""

        async def wait() -> None:
            async with asyncio.timeout(DEADLINE_S):
                while not await look():
                    await asyncio.sleep(0.02)

        self.ask(wait())

    def log_off(self, user: User, session_id: str) -> None:
        """This person ends that session."""
        self.ask(self.services.sessions.log_off(identity_of(user), session_id))

    def roster(self, **texts: str) -> None:
        """Import a roster: users="username,…" for users.csv, and so on."""
        kit = self.services.kit
        files = {f"{name}.csv": text for name, text in texts.items()}
        self.ask(import_roster(kit.store, kit.clock, kit.ids, files))
        self.services.pools.forget()

    def person(
        self,
        username: str,
        *,
        role: Role = Role.USER,
        password: str = "open sesame 1",
        display_name: str = "",
        groups: tuple[str, ...] = (),
    ) -> User:
        """Somebody who can sign in."""
        user = self.ask(
            self.services.directory.add_user(
                username=username,
                display_name=display_name,
                role=role,
                groups=groups,
                password=password,
            )
        )
        self.users[username] = user
        return user


def identity_of(user: User) -> Identity:
    """As if this person had signed in."""
    return Identity(
        user_id=user.id,
        username=user.username,
        role=user.role,
        token_id="tok_none",
        group_ids=user.group_ids,
    )


@contextlib.contextmanager
def live_broker(data: Path, settings: Mapping[str, str] | None = None) -> Iterator[LiveBroker]:
    """A running broker; stopped, and its thread ended, afterwards."""
    config = load(
        {},
        {
            "listen": "127.0.0.1:0",
            "data": str(data),
            "database_url": "memory:",
            "speed": "1000",
            "bytes_scale": "1000",
            "drain_s": "0",
            **(settings or {}),
        },
    )
    started: concurrent.futures.Future[LiveBroker] = concurrent.futures.Future()
    stop = asyncio.Event()

    async def run(config: Config) -> None:
        loop = asyncio.get_running_loop()
        plain = system_seams(config)
        seams = Seams(clock=plain.clock, ids=plain.ids, chance=plain.chance, hasher=PlainHasher())
        await serve(
            config,
            stop,
            ready=lambda running: started.set_result(LiveBroker(running=running, loop=loop)),
            seams=seams,
        )

    def body() -> None:
        try:
            asyncio.run(run(config))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=body, name="broker")
    thread.start()
    broker = started.result(DEADLINE_S)
    try:
        yield broker
    finally:
        broker.loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the broker did not stop"

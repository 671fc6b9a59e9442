"""Plays an endpoint's core as a script: an event in, the commands it makes out. No I/O, no time
but the one given."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agents.chance import Chance, key_of
from agents.core import commands, events
from agents.core.endpoint import Endpoint
from agents.core.identity import Identity
from agents.core.link import State
from agents.model import Model
from agents.registry import ARCHITECTURES
from broker import wire

INSTALLATION = "ins_test"
SERVER_MS = 1_700_000_000_000
PRIVATE_KEY = bytes(range(32))
PUBLIC_KEY = Ed25519PrivateKey.from_private_bytes(PRIVATE_KEY).public_key()
SEGMENT_BYTES = 1000

Command = TypeVar("Command")
Message = TypeVar("Message")


def identity(kind: str = "fat", *, enrolled: bool = True) -> Identity:
    return Identity(
        name="desk-1",
        kind=kind,
        location="room 1",
        private_key=PRIVATE_KEY,
        endpoint_id="ept_1" if enrolled else None,
        installation_id=INSTALLATION if enrolled else None,
    )


def endpoint(
    kind: str = "fat", *, enrolled: bool = True, seed: int = 0, model: Model | None = None
) -> Endpoint:
    return Endpoint(
        identity(kind, enrolled=enrolled),
        boot_id="boot_1",
        chance=Chance(key_of("test", seed)),
        model=model or Model(),
        key=key_of(seed, "desk-1"),
        architectures=ARCHITECTURES,
    )


def segment(image_id: str, index: int) -> bytes:
    return blake2b(f"{image_id} {index}".encode(), digest_size=16).digest() * 4


def digest(image_id: str, index: int) -> bytes:
    return blake2b(segment(image_id, index), digest_size=16).digest()


def image(*, version: int = 1, segments: int = 8, boot_segments: int = 3) -> wire.ImageRef:
    return wire.ImageRef(
        image_id=f"img_{version}",
        name="win",
        version=version,
        segments=segments,
        boot_segments=boot_segments,
        segment_bytes=SEGMENT_BYTES,
    )


def start(
    architecture: str,
    *,
    session_id: str = "ses_1",
    desktop_id: str = "dsk_1",
    generation: int = 1,
    ticket: str = "ticket-1",
) -> wire.Start:
    return wire.Start(
        session_id=session_id,
        desktop_id=desktop_id,
        desktop_name="lab-1",
        generation=generation,
        architecture=architecture,
        pool="lab",
        username="li.na",
        ticket=ticket,
        image=image(),
    )


def stop(session_id: str = "ses_1", generation: int = 1) -> wire.Stop:
    return wire.Stop(session_id=session_id, generation=generation, reason="logged off")


def grant(
    architecture: str,
    *,
    session_id: str = "ses_1",
    token: str = "token-1",
    lease_until_ms: int | None = SERVER_MS + 3_600_000,
    of: wire.ImageRef | None = None,
) -> wire.Grant:
    ref = of or image()
    count = ref.segments if architecture == "idv" else ref.boot_segments
    return wire.Grant(
        session_id=session_id,
        image=ref,
        image_token=token,
        digests=tuple(digest(ref.image_id, index).hex() for index in range(count)),
        lease_until_ms=lease_until_ms if architecture == "idv" else None,
    )


class Script:
    """One endpoint and the time. Every call returns the commands that it led to."""

    def __init__(self, core: Endpoint | None = None, *, kind: str = "fat", seed: int = 0) -> None:
        self.core = core or endpoint(kind, seed=seed)
        self.now = 100.0
        self.link_no = 0
        self.answers_pings = True
        self.last: list[commands.Command] = []
        self.log: list[commands.Command] = []

    # ------------------------------------------------------------------ events

    def give(self, event: events.Event) -> list[commands.Command]:
        self.last = self.core.handle(event, self.now)
        self.log += self.last
        for command in self.last:
            if isinstance(command, commands.Connect):
                self.link_no = command.link_no
            elif isinstance(command, commands.Ping) and self.answers_pings:
                self.core.handle(events.LinkPong(link_no=self.link_no), self.now)
        return self.last

    def wait(self, seconds: float) -> list[commands.Command]:
        """Let time pass, stopping at every deadline on the way."""
        until = self.now + seconds
        made: list[commands.Command] = []
        while self.core.due <= until:
            self.now = max(self.now, self.core.due)
            made += self.give(events.TimePassed())
        self.now = until
        self.last = made
        return made

    def wait_for(self, kind: type[Command], limit_s: float = 10_000.0) -> Command:
        """Go from deadline to deadline until a command of this kind is made."""
        until = self.now + limit_s
        while self.core.due <= until:
            self.now = max(self.now, self.core.due)
            self.give(events.TimePassed())
            if found := self.made(kind):
                return found[0]
        raise AssertionError(f"no {kind.__name__} within {limit_s} s")

    def hear(self, message: wire.FromBroker) -> list[commands.Command]:
        return self.give(events.LinkText(link_no=self.link_no, data=wire.encode(message)))

    def lose(self, why: str = "cut") -> list[commands.Command]:
        return self.give(events.LinkLost(link_no=self.link_no, why=why))

    def connect(self) -> None:
        """From wherever it is on its way to the broker to Welcome."""
        self.give(events.Begin())
        if self.core.link.state is not State.CONNECTING:
            self.wait_for(commands.Connect)
        self.welcome()

    def welcome(self, heartbeat_s: float = 600.0) -> None:
        """The handshake, once Connect was asked."""
        self.give(events.LinkOpened(link_no=self.link_no))
        self.hear(wire.Challenge(nonce="nonce", installation_id=INSTALLATION))
        self.hear(wire.Welcome(heartbeat_s=heartbeat_s, time_ms=self.server_ms))

    @property
    def server_ms(self) -> int:
        """The broker's clock, which runs with ours."""
        return SERVER_MS + round((self.now - 100.0) * 1000)

    # ---------------------------------------------------------------- segments

    def serve(self, asked: Sequence[commands.Fetch]) -> list[commands.Command]:
        """Answer these fetches with the right bytes."""
        made: list[commands.Command] = []
        for one in asked:
            made += self.give(self.fetched(one))
        self.last = made
        return made

    def fetched(self, asked: commands.Fetch, *, wrong: bool = False) -> events.SegmentFetched:
        data = b"other" if wrong else segment(asked.image_id, asked.index)
        return events.SegmentFetched(
            session_id=asked.session_id,
            ref=asked.ref,
            index=asked.index,
            digest=blake2b(data, digest_size=16).digest(),
            size=len(data),
        )

    def serve_all(self) -> list[int]:
        """Answer what was asked last and whatever that leads to; returns the indexes in order."""
        order: list[int] = []
        asked = self.made(commands.Fetch)
        while asked:
            order += [one.index for one in asked]
            self.serve(asked)
            asked = self.made(commands.Fetch)
        return order

    # --------------------------------------------------------------- commands

    def made(self, kind: type[Command]) -> list[Command]:
        """Commands of this kind that the last event led to."""
        return [command for command in self.last if isinstance(command, kind)]

    def said(self, kind: type[Message]) -> list[Message]:
        """Messages of this kind that the last event made it send."""
        return [one for one in self.messages(self.last) if isinstance(one, kind)]

    def told(self, kind: type[Message]) -> list[Message]:
        """Messages of this kind that it ever sent."""
        return [one for one in self.messages(self.log) if isinstance(one, kind)]

    @staticmethod
    def messages(made: Sequence[commands.Command]) -> list[wire.FromAgent]:
        return [
            wire.decode_from_agent(command.data)
            for command in made
            if isinstance(command, commands.Send)
        ]

    def phases(self) -> list[str]:
        """Names of all phases ever reported."""
        return [report.phase for report in self.told(wire.Report)]


def ready(kind: str = "fat", *, seed: int = 0) -> Script:
    """A script whose endpoint is connected."""
    script = Script(kind=kind, seed=seed)
    script.connect()
    return script

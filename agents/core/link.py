"""The way to the broker: enrol once, connect, prove, beat; and when it ends, begin again.

It never gives up. Only a person's decision ends it: a refusal marked final, or being asked to.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol, TypeAlias

import msgspec

from agents import __version__, limits
from agents.chance import Chance
from agents.core import commands, events
from agents.core.backoff import Backoff
from agents.core.identity import Identity
from agents.core.timers import Timers
from agents.core.turn import Turn
from broker import wire

Order: TypeAlias = (
    wire.Start | wire.Grant | wire.Stop | wire.MakeFresh | wire.Notice | wire.AskConsent
)

_CLOSE_NORMAL = 1000
_CLOSE_PROTOCOL = 1002
_CLOSE_POLICY = 1008
_CLOSE_AWAY = 1001


class State(Enum):
    OFF = auto()
    WAITING = auto()
    ENROLLING = auto()
    CONNECTING = auto()
    HELLO = auto()
    PROVING = auto()
    UP = auto()
    STOPPED = auto()


_OPEN = frozenset({State.HELLO, State.PROVING, State.UP})
_TRYING = _OPEN | {State.CONNECTING}


class Host(Protocol):
    """The endpoint that the link belongs to."""

    def link_up(self, turn: Turn) -> None: ...

    def link_down(self, turn: Turn) -> None: ...

    def order(self, turn: Turn, order: Order, size: int) -> None: ...

    def beat(self, seq: int, now: float) -> bytes:
        """The next heartbeat, encoded."""


class Link:
    """One endpoint's control link, over all its connections."""

    __slots__ = (
        "_backoff",
        "_boot_id",
        "_chance",
        "_heard_at",
        "_host",
        "_no",
        "_pace_s",
        "_seq",
        "_server_ms",
        "_timers",
        "_up_at",
        "identity",
        "state",
    )

    def __init__(
        self, host: Host, timers: Timers, identity: Identity, *, boot_id: str, chance: Chance
    ) -> None:
        self._host = host
        self._timers = timers
        self._boot_id = boot_id
        self._chance = chance
        self._backoff = Backoff(chance)
        self._no = 0
        self._seq = 0
        self._pace_s = limits.HEARTBEAT_S_MAX
        self._heard_at = 0.0
        self._up_at = 0.0
        self._server_ms = 0
        self.identity = identity
        self.state = State.OFF

    @property
    def is_up(self) -> bool:
        return self.state is State.UP

    def deadline(self, server_ms: int) -> float:
        """The monotonic instant of a server's time. The endpoint's own wall clock has no say."""
        return self._up_at + (server_ms - self._server_ms) / 1000

    # ------------------------------------------------------------------ events

    def begin(self, turn: Turn, after_s: float) -> None:
        if self.state is State.OFF:
            self.state = State.WAITING
            self._timers.set("", "retry", turn.now + max(after_s, 0.0))

    def on(self, turn: Turn, event: events.LinkEvent) -> None:
        if event.link_no != self._no or self.state not in _TRYING:
            return
        match event:
            case events.LinkOpened():
                self._opened(turn)
            case events.LinkText(data=data):
                self._text(turn, data)
            case events.LinkPong():
                self._heard_at = turn.now
            case events.LinkGarbage(why=why):
                self._bad(turn, why)
            case events.LinkLost(why=why, retry_after_s=retry_after_s):
                turn.do(commands.Log(level="info", text=f"the link ended: {why}"))
                self._down(turn, retry_after_s)

    def on_enrol(self, turn: Turn, event: events.Enrolled | events.EnrolRefused) -> None:
        if self.state is not State.ENROLLING:
            return
        if isinstance(event, events.EnrolRefused):
            if event.final:
                self._finish(turn, event.code, event.detail)
                return
            turn.do(
                commands.Log(
                    level="warning", text=f"not enrolled yet: {event.code} {event.detail}".rstrip()
                )
            )
            self._wait(turn, event.retry_after_s)
            return
        self.identity = self.identity.enrolled(event.answer)
        turn.do(commands.SaveIdentity(identity=self.identity))
        self._try(turn)

    def on_timer(self, turn: Turn, name: str) -> None:
        if name == "retry" and self.state is State.WAITING:
            self._try(turn)
        elif name == "handshake" and self.state in _TRYING:
            self._close(turn, _CLOSE_POLICY, "the broker did not finish the handshake")
            self._down(turn, None)
        elif name == "heartbeat" and self.state is State.UP:
            self._beat(turn)

    def renew(self, turn: Turn, why: str) -> None:
        """Leave and come back: the broker orders anew what this endpoint should be carrying."""
        if self.state is State.UP:
            turn.do(commands.Log(level="info", text=f"connecting anew: {why}"))
            self._close(turn, _CLOSE_NORMAL, why)
            self._down(turn, None)

    def stop(self, turn: Turn) -> None:
        """The process ends: say so, and do not come back."""
        if self.state is State.STOPPED:
            return
        if self.state is State.UP:
            turn.do(commands.Send(data=wire.encode(wire.Bye(reason="stopped"))))
        if self.state in _TRYING:
            self._close(turn, _CLOSE_AWAY, "stopped")
        self._finish(turn, "", "")

    # --------------------------------------------------------------- handshake

    def _try(self, turn: Turn) -> None:
        if self.identity.endpoint_id is None:
            self.state = State.ENROLLING
            turn.do(commands.Enrol(request=self.identity.enrolment()))
            return
        self.state = State.CONNECTING
        self._no += 1
        turn.do(commands.Connect(link_no=self._no))

    def _opened(self, turn: Turn) -> None:
        self.state = State.HELLO
        self._timers.set("", "handshake", turn.now + limits.HANDSHAKE_S)
        hello = wire.Hello(
            endpoint_id=self.identity.endpoint_id or "",
            boot_id=self._boot_id,
            agent_version=__version__,
        )
        turn.do(commands.Send(data=wire.encode(hello)))

    def _text(self, turn: Turn, data: bytes) -> None:
        try:
            message = wire.decode_from_broker(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            self._bad(turn, f"a message outside the protocol ({type(error).__name__})")
            return
        self._heard_at = turn.now
        match message:
            case wire.Refused():
                self._refused(turn, message)
            case wire.Challenge() if self.state is State.HELLO:
                self._challenge(turn, message)
            case wire.Welcome() if self.state is State.PROVING:
                self._welcome(turn, message)
            case wire.Pace() if self.state is State.UP:
                self._pace(turn, message.heartbeat_s)
            case (
                wire.Start()
                | wire.Grant()
                | wire.Stop()
                | wire.MakeFresh()
                | wire.Notice()
                | wire.AskConsent()
            ) if self.is_up:
                self._host.order(turn, message, len(data))
            case _:
                name = type(message).__name__
                self._bad(turn, f"{name} is out of place in state {self.state.name}")

    def _challenge(self, turn: Turn, challenge: wire.Challenge) -> None:
        if challenge.installation_id != self.identity.installation_id:
            self._bad(
                turn,
                f"this is installation {challenge.installation_id[:80]!r}, the endpoint belongs "
                f"to {self.identity.installation_id!r}; enrol it anew to move it",
            )
            return
        self.state = State.PROVING
        proof = wire.Proof(signature=self.identity.sign(challenge.nonce))
        turn.do(commands.Send(data=wire.encode(proof)))

    def _welcome(self, turn: Turn, welcome: wire.Welcome) -> None:
        self.state = State.UP
        self._timers.cancel("", "handshake")
        self._up_at = turn.now
        self._server_ms = welcome.time_ms
        turn.do(commands.Admitted())
        turn.do(commands.Note(what="up"))
        self._pace(turn, welcome.heartbeat_s)
        self._host.link_up(turn)

    def _refused(self, turn: Turn, refused: wire.Refused) -> None:
        self._close(turn, _CLOSE_NORMAL, f"refused: {refused.code}")
        if refused.final:
            self._finish(turn, refused.code, refused.detail)
            return
        turn.do(
            commands.Log(level="info", text=f"refused: {refused.code} {refused.detail}".rstrip())
        )
        self._down(turn, refused.retry_after_s)

    # --------------------------------------------------------------- heartbeat

    def _pace(self, turn: Turn, heartbeat_s: float) -> None:
        """Everybody may hear of a new pace at once, so the next beat comes after a random part."""
        self._pace_s = min(max(heartbeat_s, limits.HEARTBEAT_S_MIN), limits.HEARTBEAT_S_MAX)
        self._timers.set("", "heartbeat", turn.now + self._chance.uniform(0.0, self._pace_s))

    def _beat(self, turn: Turn) -> None:
        silence = max(limits.SILENCE_S_MIN, limits.SILENCE_BEATS * self._pace_s)
        if turn.now - self._heard_at > silence:
            self._close(turn, _CLOSE_POLICY, "the broker is silent")
            self._down(turn, None)
            return
        self._seq += 1
        turn.do(commands.Send(data=self._host.beat(self._seq, turn.now)))
        turn.do(commands.Ping())
        self._timers.set("", "heartbeat", turn.now + self._pace_s)

    # --------------------------------------------------------------------- end

    def _bad(self, turn: Turn, why: str) -> None:
        turn.do(commands.Log(level="warning", text=f"protocol error: {why}"))
        self._close(turn, _CLOSE_PROTOCOL, "protocol error")
        self._down(turn, None)

    def _close(self, turn: Turn, code: int, why: str) -> None:
        turn.do(commands.CloseLink(code=code, why=why))

    def _down(self, turn: Turn, retry_after_s: float | None) -> None:
        was_up = self.state is State.UP
        if was_up:
            self._backoff.held(turn.now - self._up_at)
        self._wait(turn, retry_after_s)
        if was_up:
            turn.do(commands.Note(what="down"))
            self._host.link_down(turn)

    def _wait(self, turn: Turn, retry_after_s: float | None) -> None:
        self.state = State.WAITING
        self._timers.cancel_all("")
        pause = (
            self._backoff.pause_s(turn.now)
            if retry_after_s is None
            else self._backoff.asked_s(retry_after_s)
        )
        self._timers.set("", "retry", turn.now + pause)
        turn.do(commands.Note(what="retry"))

    def _finish(self, turn: Turn, code: str, detail: str) -> None:
        was_up = self.state is State.UP
        self.state = State.STOPPED
        self._timers.cancel_all("")
        if was_up:
            turn.do(commands.Note(what="down"))
            self._host.link_down(turn)
        turn.do(commands.Finish(code=code, detail=detail))

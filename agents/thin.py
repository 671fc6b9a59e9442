"""VDI at a thin endpoint: open the display with the ticket, show frames, send input.

The endpoint holds nothing. When only its display is lost, the desktop runs on at the server, and a
new order with a new ticket opens it again, without a second log-on. If none comes by itself, the
endpoint connects anew, for then it is ordered what it should be carrying; if none comes then
either, the person has gone elsewhere.
"""

from __future__ import annotations

import msgspec

from agents import limits
from agents.core import commands, display_input, events
from agents.core.session import Host, Session
from agents.core.turn import Turn
from broker import wire

RESUMING = "desktop.resuming"
"""the desktop was suspended and is being resumed; another order comes when it runs"""


class ThinSession(Session):
    """Phases: display_open, first_frame, logon (simulated)."""

    architecture = "vdi"
    kind = "thin"

    __slots__ = (
        "_asked",
        "_frames",
        "_logged_on",
        "_ready",
        "_ref",
        "_seen",
        "_sent",
        "_size",
        "_typed_at",
        "_used",
    )

    def __init__(self, host: Host, order: wire.Start, now: float) -> None:
        super().__init__(host, order, now)
        self._ref = 0
        self._used = ""
        self._asked = False
        self._ready = False
        self._seen = False
        self._logged_on = False
        self._frames = 0
        self._sent = 0
        self._size = (1, 1)
        self._typed_at = now

    def idle_s(self, now: float) -> float | None:
        return now - self._typed_at if self.is_live else None

    @property
    def carried(self) -> bool:
        return self._ref != 0

    def begin(self, turn: Turn) -> None:
        self._open(turn)

    def again(self, turn: Turn, order: wire.Start) -> None:
        self.ticket = order.ticket
        if self.is_live:
            self.say_live(turn)
        elif not self.carried:
            self._open(turn)

    def _open(self, turn: Turn) -> None:
        if self.ticket == self._used:
            self._hope(turn)
            return
        self._used = self.ticket
        self._ref = self._host.next_ref()
        self._asked = self._ready = self._seen = False
        self._frames = self._sent = 0
        self._phase_at = turn.now
        self.cancel_timer("reorder")
        self.set_timer(turn, "display", limits.DISPLAY_OPEN_S)
        turn.do(commands.OpenDisplay(session_id=self.id, ref=self._ref, ticket=self.ticket))

    def on(self, turn: Turn, event: events.SessionEvent) -> None:
        if event.ref != self._ref:
            return
        match event:
            case events.DisplayText(data=data):
                self._text(turn, data)
            case events.DisplayFrame(size=size):
                self._frame(turn, size)
            case events.DisplayLost(why=why):
                turn.do(commands.Log(level="info", text=f"the display ended: {why}"))
                self._lost(turn)
            case _:
                pass

    def _text(self, turn: Turn, data: bytes) -> None:
        try:
            message = wire.decode_from_display(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            self._broken(turn, "a message outside the protocol on the display")
            return
        self.display += len(data)
        if isinstance(message, wire.DisplayRefused):
            self._refused(turn, message)
        elif self._ready or message.session_id != self.id:
            self._broken(turn, "DisplayReady is out of place")
        else:
            self._ready = True
            self._size = (max(message.width, 1), max(message.height, 1))
            self.phase(turn, "display_open", down=len(data))
            self.set_timer(turn, "display", limits.FIRST_FRAME_S)

    def _frame(self, turn: Turn, size: int) -> None:
        self.display += size
        if not self._ready:
            self._broken(turn, "a frame before DisplayReady")
            return
        self._frames += size
        if self._seen:
            return
        self._seen = True
        self.cancel_timer("display")
        self.phase(turn, "first_frame", down=self._frames)
        if self._logged_on:
            self._go_live(turn)
        else:
            self.set_timer(turn, "logon", self._host.length_s("logon"))

    def timer(self, turn: Turn, name: str) -> None:
        match name:
            case "display":
                self.fail(turn, "display.timeout", "the display did not open, or showed nothing")
            case "logon":
                self._logged_on = True
                self.phase(turn, "logon", down=self._frames, up=self._sent)
                self._go_live(turn)
            case "input":
                self._type(turn)
            case "reorder" if self._host.link_is_up:
                self._no_ticket(turn)
            case _:
                pass

    def _go_live(self, turn: Turn) -> None:
        self._typed_at = turn.now
        self.live(turn)
        self.set_timer(turn, "input", self._host.pause_s())

    def _type(self, turn: Turn) -> None:
        """The person does something, and will again."""
        data = display_input.input_message(self._host.chance, *self._size)
        self.display += len(data)
        self._sent += len(data)
        self._typed_at = turn.now
        turn.do(commands.SendDisplay(session_id=self.id, data=data))
        self.set_timer(turn, "input", self._host.pause_s())

    # --------------------------------------------------------------------- loss

    def _refused(self, turn: Turn, refused: wire.DisplayRefused) -> None:
        if refused.code == RESUMING:
            self._lost(turn)
            self.set_timer(turn, "reorder", limits.RESUME_S)
        elif self._logged_on:
            self._lost(turn)
        else:
            self.fail(turn, refused.code, refused.detail)

    def _broken(self, turn: Turn, why: str) -> None:
        turn.do(commands.Log(level="warning", text=f"protocol error: {why}"))
        self._lost(turn)

    def _lost(self, turn: Turn) -> None:
        """Only another ticket opens it again. If the link is gone too, that comes with the next
        link."""
        self._ref = 0
        turn.do(commands.CloseDisplay(session_id=self.id))
        for name in ("display", "logon", "input"):
            self.cancel_timer(name)
        if self.is_live:
            self.is_live = False
            turn.do(commands.Note(what="away", architecture=self.architecture))
        if self.ticket != self._used:
            self._open(turn)
        else:
            self._hope(turn)

    def _hope(self, turn: Turn) -> None:
        self.set_timer(turn, "reorder", limits.REORDER_S)

    def _no_ticket(self, turn: Turn) -> None:
        """None came in time."""
        if not self._logged_on:
            self.fail(turn, "display.lost", "the display was lost before it was in use")
        elif not self._asked:
            self._asked = True
            self._host.renew_link(turn, "a display was lost")
        else:
            self._host.forget(turn, self)

    def link_up(self, turn: Turn) -> None:
        super().link_up(turn)
        if not self.carried:
            self._asked = True
            self._hope(turn)

    def teardown(self, turn: Turn) -> None:
        if self.carried:
            self._ref = 0
            turn.do(commands.CloseDisplay(session_id=self.id))

"""What IDV and VOI share: redeem the ticket for a grant, then fetch segments and verify them."""

from __future__ import annotations

from agents import limits
from agents.core import commands, events
from agents.core.fetching import Fetching
from agents.core.session import Host, Session
from agents.core.turn import Turn
from broker import wire

_DIGEST_BYTES = 16


def _packed(digests: tuple[str, ...]) -> bytes | None:
    """16 bytes for each digest, or None if one is not 32 hexadecimal characters."""
    try:
        packed = [bytes.fromhex(digest) for digest in digests]
    except ValueError:
        return None
    if any(len(digest) != _DIGEST_BYTES for digest in packed):
        return None
    return b"".join(packed)


class ImageSession(Session):
    """A session whose desktop runs here, from an image that comes over the network."""

    kind = "fat"
    keeps_segments = False

    __slots__ = ("_fetching", "_ref", "_ticket_used", "_waiting", "digests", "grant")

    def __init__(self, host: Host, order: wire.Start, now: float) -> None:
        super().__init__(host, order, now)
        self._ticket_used = False
        self._waiting = True
        self._ref = 0
        self._fetching: Fetching | None = None
        self.grant: wire.Grant | None = None
        self.digests = b""

    # ---------------------------------------------------- answered by subclasses

    def first_grant(self, turn: Turn, grant: wire.Grant) -> None:
        """The way is open: begin with the image."""
        raise NotImplementedError

    def segments_needed(self, image: wire.ImageRef) -> int:
        """How many digests a grant must name."""
        raise NotImplementedError

    def right(self, turn: Turn, index: int, digest: bytes) -> None:
        """A segment is here and is the right one."""

    def fetched(self, turn: Turn, size: int) -> None:
        """All of them are. `size`: bytes that crossed the wire for it."""
        raise NotImplementedError

    def idle_s(self, now: float) -> float | None:
        """As long as a pause of the simulated person, whose every operation is not played here:
        at any instant the time since the last one is distributed as the pauses are."""
        del now
        return self._host.pause_s() if self.is_live else None

    # -------------------------------------------------------------------- grant

    def begin(self, turn: Turn) -> None:
        self._redeem(turn)

    def again(self, turn: Turn, order: wire.Start) -> None:
        if order.ticket != self.ticket:
            self.ticket = order.ticket
            self._ticket_used = False
        if self.is_live:
            self.say_live(turn)
        elif self._waiting:
            self._redeem(turn)

    def _redeem(self, turn: Turn) -> None:
        """Show the ticket, or wait for one that can be shown."""
        shown = self.show_ticket(turn)
        self.set_timer(turn, "grant", limits.GRANT_S if shown else limits.REORDER_S)

    def show_ticket(self, turn: Turn) -> bool:
        """Redeem the ticket if it was not shown before: it works once."""
        if self._ticket_used or not self._host.link_is_up:
            return False
        self._ticket_used = True
        self.tell(turn, wire.Redeem(session_id=self.id, ticket=self.ticket), keep=False)
        return True

    def granted(self, turn: Turn, grant: wire.Grant) -> None:
        problem = self._problem(grant)
        if problem and self.is_live:
            turn.do(commands.Log(level="warning", text=f"a grant was ignored: {problem}"))
            return
        if problem:
            self.fail(turn, "image.manifest", problem)
            return
        first = self.grant is None
        if first:
            self.digests = _packed(grant.digests) or b""
        self.grant = wire.Grant(
            session_id=grant.session_id,
            image=grant.image,
            image_token=grant.image_token,
            digests=(),
            lease_until_ms=grant.lease_until_ms,
        )
        self._waiting = False
        self.cancel_timer("grant")
        if first:
            self.first_grant(turn, self.grant)
        else:
            self._resume(turn)

    def _problem(self, grant: wire.Grant) -> str:
        """Why the grant cannot be used, or nothing. A later one must be for the same image."""
        image = grant.image
        if not 0 <= image.boot_segments <= image.segments <= limits.SEGMENTS_MAX:
            return "the image has an impossible number of segments"
        if not 0 < image.segment_bytes <= limits.SEGMENT_BYTES_MAX:
            return "the image has segments of an impossible size"
        needed = self.segments_needed(image)
        if len(grant.digests) != needed:
            return f"{len(grant.digests)} digests for {needed} segments"
        digests = _packed(grant.digests)
        if digests is None:
            return "a digest is not 32 hexadecimal characters"
        if self._fetching is not None and digests != self.digests:
            return "the image changed while it was fetched"
        return ""

    def link_up(self, turn: Turn) -> None:
        super().link_up(turn)
        if self._waiting:
            self.set_timer(turn, "grant", limits.REORDER_S)
        else:
            self._resume(turn)

    def timer(self, turn: Turn, name: str) -> None:
        if name == "grant" and not self._host.link_is_up:
            return  # link_up waits anew
        if name == "grant" and self.grant is None:
            self.fail(turn, "grant.timeout", "the broker did not answer the ticket")
        elif name == "grant":
            self.fail(turn, "image.refused", "the image's token was refused, and no other came")
        elif name == "fetch":
            self._resume(turn)

    # -------------------------------------------------------------------- fetch

    def fetch(self, turn: Turn, todo: range | tuple[int, ...]) -> None:
        """Begin to fetch these segments, in this order."""
        self._fetching = Fetching(todo)
        self._ref = self._host.next_ref()
        self._go_on(turn, self._fetching)

    def on(self, turn: Turn, event: events.SessionEvent) -> None:
        fetching = self._fetching
        if fetching is None or event.ref != self._ref:
            return
        if isinstance(event, events.SegmentFetched):
            self._arrived(turn, fetching, event)
        elif isinstance(event, events.SegmentFailed):
            self._not_arrived(turn, fetching, event)

    def _arrived(self, turn: Turn, fetching: Fetching, event: events.SegmentFetched) -> None:
        self.image += event.size
        start = event.index * _DIGEST_BYTES
        if event.digest == self.digests[start : start + _DIGEST_BYTES]:
            fetching.right(event.index, event.size)
            self.right(turn, event.index, event.digest)
            self._go_on(turn, fetching)
        elif fetching.wrong(event.index, event.size):
            text = f"segment {event.index} has the wrong digest, fetching it again"
            turn.do(commands.Log(level="warning", text=text))
            self._ask(turn, event.index)
        else:
            self.fail(turn, "image.digest", f"segment {event.index} has the wrong digest")

    def _not_arrived(self, turn: Turn, fetching: Fetching, event: events.SegmentFailed) -> None:
        if event.refused:
            fetching.put_off(event.index)
            if not self._waiting:
                self._waiting = True
                self._redeem(turn)
        elif not self._host.link_is_up:
            fetching.put_off(event.index)
        else:
            tries = fetching.failed(event.index)
            if tries >= limits.FETCH_TRIES_MAX:
                self.fail(turn, "image.unreachable", f"segment {event.index}: {event.why}")
                return
            width = limits.FETCH_PAUSE_S * 2 ** (tries - 1)
            self.set_timer(turn, "fetch", self._host.chance.uniform(0.0, width))

    def _resume(self, turn: Turn) -> None:
        if self._fetching is None or self._waiting:
            return
        for index in self._fetching.ask_again():
            self._ask(turn, index)

    def _go_on(self, turn: Turn, fetching: Fetching) -> None:
        if fetching.is_over:
            self._fetching = None
            self.cancel_timer("fetch")
            self.fetched(turn, fetching.size)
            self.digests = b""
            return
        for index in fetching.ask():
            self._ask(turn, index)

    def _ask(self, turn: Turn, index: int) -> None:
        if self.grant is None:
            return
        turn.do(
            commands.Fetch(
                session_id=self.id,
                ref=self._ref,
                image_id=self.grant.image.image_id,
                index=index,
                token=self.grant.image_token,
                bytes_max=self.grant.image.segment_bytes,
                keep=self.keeps_segments,
            )
        )

    def teardown(self, turn: Turn) -> None:
        if self._fetching is not None:
            self._fetching = None
            turn.do(commands.StopFetches(session_id=self.id))

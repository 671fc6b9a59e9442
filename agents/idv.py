"""IDV at a fat endpoint: lease, image cache, local boot; works on without the broker."""

from __future__ import annotations

from agents import limits
from agents.core import commands, events
from agents.core.image_session import ImageSession
from agents.core.session import Host
from agents.core.turn import Turn
from broker import wire


class IdvSession(ImageSession):
    """Phases: lease, image_check, image_fetch, local_boot (simulated).

    With the broker gone the desktop runs until the lease ends, then it is suspended on the
    endpoint's own account, and that is told at the next link as `lease.expired`. While the link
    is up the broker decides; a grant that comes then renews the lease.
    """

    architecture = "idv"
    keeps_segments = True

    __slots__ = ("_check", "_granted_at")

    def __init__(self, host: Host, order: wire.Start, now: float) -> None:
        super().__init__(host, order, now)
        self._check = 0
        self._granted_at = now

    def segments_needed(self, image: wire.ImageRef) -> int:
        return image.segments

    def again(self, turn: Turn, order: wire.Start) -> None:
        """Past half of the lease, the ticket that comes with a repeated order renews it."""
        super().again(turn, order)
        if self.is_live and self.grant is not None and self.grant.lease_until_ms is not None:
            ends_at = self._host.deadline(self.grant.lease_until_ms)
            if turn.now - self._granted_at > ends_at - turn.now:
                self.show_ticket(turn)

    def granted(self, turn: Turn, grant: wire.Grant) -> None:
        if grant.lease_until_ms is None:
            self.fail(turn, "lease.missing", "the grant names no lease")
            return
        self._granted_at = turn.now
        super().granted(turn, grant)

    def first_grant(self, turn: Turn, grant: wire.Grant) -> None:
        self.phase(turn, "lease")
        self._check = self._host.next_ref()
        turn.do(
            commands.CheckImage(
                session_id=self.id, ref=self._check, image=grant.image, digests=self.digests
            )
        )

    def on(self, turn: Turn, event: events.SessionEvent) -> None:
        if isinstance(event, events.ImageChecked):
            if event.ref == self._check:
                self._check = 0
                self.phase(turn, "image_check")
                self.fetch(turn, event.missing)
        else:
            super().on(turn, event)

    def right(self, turn: Turn, index: int, digest: bytes) -> None:
        if self.grant is not None:
            turn.do(
                commands.KeepSegment(
                    session_id=self.id, image=self.grant.image, index=index, digest=digest
                )
            )

    def fetched(self, turn: Turn, size: int) -> None:
        if self.grant is not None:
            turn.do(commands.KeepImage(image=self.grant.image, digests=self.digests))
        self.phase(turn, "image_fetch", down=size)
        self.set_timer(turn, "boot", self._host.length_s("local_boot"))

    def timer(self, turn: Turn, name: str) -> None:
        match name:
            case "boot":
                self.phase(turn, "local_boot")
                self.live(turn)
            case "lease":
                self.fail(turn, "lease.expired", "the lease ended while the broker was away")
            case _:
                super().timer(turn, name)

    def link_down(self, turn: Turn) -> None:
        if self.grant is None or self.grant.lease_until_ms is None:
            return
        left = self._host.deadline(self.grant.lease_until_ms) - turn.now
        self.set_timer(turn, "lease", left if left > 0 else limits.LEASE_GRACE_S)

    def link_up(self, turn: Turn) -> None:
        self.cancel_timer("lease")
        super().link_up(turn)

"""VOI at a fat endpoint: boot the bare metal from segments streamed in order."""

from __future__ import annotations

from agents import limits
from agents.core.image_session import ImageSession
from agents.core.turn import Turn
from broker import wire


class VoiSession(ImageSession):
    """Phases: boot_order, boot_stream, os_start (simulated).

    A streamed desktop hangs while its server is gone, and is lost when that takes too long.
    """

    architecture = "voi"

    __slots__ = ()

    def segments_needed(self, image: wire.ImageRef) -> int:
        return image.boot_segments

    def first_grant(self, turn: Turn, grant: wire.Grant) -> None:
        self.phase(turn, "boot_order")
        self.fetch(turn, range(grant.image.boot_segments))

    def fetched(self, turn: Turn, size: int) -> None:
        self.phase(turn, "boot_stream", down=size)
        self.set_timer(turn, "os_start", self._host.length_s("os_start"))

    def timer(self, turn: Turn, name: str) -> None:
        match name:
            case "os_start":
                self.phase(turn, "os_start")
                self.live(turn)
            case "stall":
                self.fail(turn, "stream.lost", "the server was away for too long")
            case _:
                super().timer(turn, name)

    def link_down(self, turn: Turn) -> None:
        self.set_timer(turn, "stall", limits.STREAM_STALL_S)

    def link_up(self, turn: Turn) -> None:
        self.cancel_timer("stall")
        super().link_up(turn)

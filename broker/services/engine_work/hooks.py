"""Whom engine work tells what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable


async def _nobody_counts(_pool_id: str, _host_id: str, _ok: bool, _detail: str, /) -> None:  # noqa: FBT001 - the callback's shape
    return


class Hooks:
    """Set by whoever is interested; each does nothing until then."""

    def __init__(self) -> None:
        self.on_ready: Callable[[], None] = lambda: None
        """a desktop became ready, or failed: the queue is served, or another made, at once"""
        self.on_outcome: Callable[[str, str, bool, str], Awaitable[None]] = _nobody_counts
        """(pool id, host id, whether it worked, detail): a machine of that pool came up on that
        host, or one attempt to make it failed; for circuit breakers. May raise TriviumError."""
        self.on_bug: Callable[[BaseException], None] = lambda _: None
        """something raised that no port may raise; it is logged already"""

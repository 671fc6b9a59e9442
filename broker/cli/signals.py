"""Ctrl-C and SIGTERM for commands that have something to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_until_interrupted(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Run it; at the first SIGINT or SIGTERM cancel it, let it clean up, and answer None.

    At a second one this process ends at once; its children are on a leash and end too.
    """
    interrupted = False

    async def run() -> Result:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def interrupt(number: signal.Signals) -> None:
            nonlocal interrupted
            if interrupted:
                os._exit(128 + number)
            interrupted = True
            if task is not None:
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt, number)
        return await work

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        if not interrupted:
            raise
        return None

"""Child processes of a command: started with a log, told to stop, waited for, never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from broker.cli.errors import CommandError
from broker.cli.private import make_folder

STOP_S: Final = 20.0
"""for a child to end after it was told; then it is killed"""
LOG_TAIL_LINES: Final = 3
LOG_TAIL_BYTES: Final = 4096
LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""one line of a child's output"""

_LEASH = Path(__file__).with_name("leash.py")


class Child:
    """One child process. Its stdout is read line by line, its stderr goes to `log`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.returncode

    async def lines(self) -> AsyncIterator[bytes]:
        """Its output, until it closes it. A line past LINE_BYTES_MAX is left out."""
        stdout = self._process.stdout
        while stdout is not None:
            try:
                line = await stdout.readline()
            except ValueError:
                continue
            if not line:
                return
            yield line

    async def wait(self) -> int:
        return await self._process.wait()

    async def stop(self) -> None:
        """Tell it to stop and wait; after STOP_S it is killed with all that it started."""
        if self.code is not None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        # Output that nobody reads must not keep it from ending.
        drain = asyncio.gather(self._drain(), self._process.wait())
        try:
            await asyncio.wait_for(drain, STOP_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self._process.wait()

    async def _drain(self) -> None:
        async for _ in self.lines():
            pass

    def failure(self, what: str) -> CommandError:
        """The error for a child that ended by itself: its last words, and where the rest is."""
        return CommandError(
            f"{what} (exit code {self.code})",
            detail=_tail(self.log),
            advice=f"Its log: {self.log}",
            code="cli.child_failed",
        )


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-LOG_TAIL_LINES:])


def _fresh(log: Path) -> BinaryIO:
    """The log, empty; the last run's is kept beside it."""
    make_folder(log.parent)
    with suppress(FileNotFoundError):
        log.replace(log.with_suffix(".old"))
    return log.open("wb")


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of this installation."""
    return (sys.executable, "-m", module, *arguments)


@asynccontextmanager
async def child(
    name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """A child in a session of its own, so that Ctrl-C reaches it only through us.

    It is stopped at the end of the block, and by the kernel if this process is killed.
    """
    with _fresh(log) as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(_LEASH), str(os.getpid()), *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            limit=LINE_BYTES_MAX,
        )
    started = Child(name, process, log)
    try:
        yield started
    finally:
        await asyncio.shield(started.stop())

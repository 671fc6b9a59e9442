"""What stands at a host's door for the broker: the program of docs/hypervisors.md, run as sshd runs
it, with stand-ins for what it would call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/hypervisors.md"


def documented() -> str:
    """The program, as an administrator copies it from the page."""
    program = r"```sh\n(#!/bin/sh\n# /usr/local/bin/trivium-host.*?)```"
    found = re.search(program, PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def door(
    folder: Path, stand_ins: Mapping[str, str] | None = None
) -> Callable[[str], Awaitable[tuple[int, bytes]]]:
    """`stand_ins`: programs by name, as lines of sh, found before the machine's own."""
    program, bins = folder / "trivium-host", folder / "bin"
    program.write_text(documented())
    bins.mkdir(exist_ok=True)
    for name, lines in (stand_ins or {}).items():
        (bins / name).write_text(f"#!/bin/sh\n{lines}\n")
        (bins / name).chmod(0o755)

    async def run(command: str) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", str(program), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": f"{bins}:/usr/bin:/bin", "SSH_ORIGINAL_COMMAND": command},
        )  # fmt: skip
        said, _ = await process.communicate()
        return process.returncode or 0, said

    return run

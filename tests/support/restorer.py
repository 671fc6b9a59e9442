"""A process that restores a backup slowly; a test kills it on the way.

`python -m tests.support.restorer URL PATH`: a line `part` is written after each part that was
handed to the database, and then it waits for a line on its input.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from broker.services.backup import Backups, Progress
from broker.store import open_store
from broker.system import SystemClock, SystemIds


def told(progress: Progress) -> None:
    os.write(1, f"{progress.table}\n".encode())
    os.read(0, 1)


async def main(url: str, path: Path) -> None:
    store = open_store(url)
    await store.open()
    os.write(1, b"ready\n")
    backups = Backups(store.backup, clock=SystemClock(), ids=SystemIds(), version="1.2.3")
    await backups.restore(path, told)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))

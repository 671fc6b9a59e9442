"""What an idle endpoint of a fleet costs: `python -m tests.support.fleet_memory [FEW] [MANY]`.

Runs two fleets against the fake broker, each in a process of its own, and takes the difference
of their resident sizes (Linux). Prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SETTLE_S = 5.0
"""longer than the heartbeats' first spread matters, short enough to wait for"""


@contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _first_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell resident sizes")


def fleet_bytes(endpoints: int) -> int:
    """Resident size of a fleet of so many connected and idle endpoints."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _process("tests.support.fake_broker", str(endpoints)) as broker,
    ):
        given = _first_line(broker)
        tokens = Path(folder) / "tokens"
        tokens.write_text("\n".join(given["tokens"]))
        with _process(
            *("agents", "fleet", "--url", given["url"], "--tokens", str(tokens)),
            *("--state", f"{folder}/state.json", "--endpoints", str(endpoints)),
            *("--json", "--every", "1", "--ramp", "2"),
        ) as fleet:
            while _first_line(fleet)["connected"] < endpoints:
                pass
            time.sleep(SETTLE_S)
            return resident_bytes(fleet.pid)


def measure(few: int, many: int) -> dict[str, float]:
    """KiB of each idle endpoint, and of the process around them."""
    small, large = fleet_bytes(few), fleet_bytes(many)
    each = (large - small) / (many - few)
    return {
        "few": few,
        "many": many,
        "few_mib": round(small / 2**20, 1),
        "many_mib": round(large / 2**20, 1),
        "endpoint_kib": round(each / 1024, 2),
        "process_mib": round((small - each * few) / 2**20, 1),
    }


if __name__ == "__main__":
    sizes = [int(text) for text in sys.argv[1:]] or [500, 2000]
    print(json.dumps(measure(*sizes)))  # noqa: T201

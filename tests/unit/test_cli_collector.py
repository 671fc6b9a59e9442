"""The collector of a serving process looks seldom, and not at what the start left behind."""

from __future__ import annotations

import json
import subprocess
import sys

from broker.cli import collector

PROGRAM = """
import gc, json
from broker.cli import collector
collector.calm()
found = {"frozen": gc.get_freeze_count(), "every": gc.get_threshold(), "on": gc.isenabled()}
print(json.dumps(found))
"""


def test_what_is_there_is_set_aside_and_looks_come_seldom() -> None:
    # in a process of its own: it changes the collector for good
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    found = json.loads(ran.stdout)
    assert found["frozen"] > 10_000
    assert found["every"] == [
        collector.YOUNG_MAX,
        collector.MIDDLE_EVERY,
        collector.OLD_EVERY,
    ]
    assert found["on"]

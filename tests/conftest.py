"""What every test gets: hypothesis profiles, and no two heavy tests at once.

HYPOTHESIS_PROFILE=nightly searches longer. A failing example is printed with what replays it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# no deadline: the machine is shared, and a slow example is not a wrong one
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile(
    "nightly",
    deadline=None,
    print_blob=True,
    max_examples=2_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

HEAVY = (
    "api/test_backup_and_restore.py",
    "bench",
    "console",
    "contract/test_claim_storm.py",
    "load",
    "real",
)
"""folders and files whose tests start browsers, servers or load of their own"""

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep heavy tests on one worker (`-n 2 --dist loadgroup`), so that they never overlap."""
    for item in items:
        if item.path.relative_to(_HERE).as_posix().startswith(HEAVY):
            item.add_marker(pytest.mark.xdist_group("heavy"))

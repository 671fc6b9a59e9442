"""What every test gets: hypothesis profiles, and no two heavy tests at once.

HYPOTHESIS_PROFILE=nightly searches longer. A failing example is printed with what replays it.
"""

from __future__ import annotations

import os
import signal
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

# whoever starts the tests in the background has them ignore it, and with them all that they start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

HEAVY = (
    "api/test_backup_and_restore.py",
    "bench",
    "console",
    "contract/test_claim_storm.py",
    "load",
)
"""folders and files whose tests start browsers, servers or load of their own"""

REAL = ("real", "contract/test_libvirt_")
"""folders and files that need what `make libvirt` installs; run with --real only"""

OPENSTACK = "contract/test_openstack_"
"""files that need the cloud of `make test-openstack`; run with --engine openstack only"""
PRETENDED = tuple(f"{OPENSTACK}{name}.py" for name in ("computes", "mishaps", "profiles", "watch"))
"""of them, those whose cloud the test plays itself: they need openstacksdk, which `make test`
installs; run with --real, too"""

_HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--real", action="store_true", help="tests over real hypervisors, too")
    parser.addoption(
        "--engine",
        action="append",
        default=[],
        metavar="NAME",
        help="hold this engine, which may be another distribution's, to the contract; no other",
    )


def pytest_configure(config: pytest.Config) -> None:
    """openstacksdk warns of what it itself calls."""
    if "openstack" in config.getoption("--engine") or config.getoption("--real"):
        config.addinivalue_line("filterwarnings", "ignore::PendingDeprecationWarning")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Those that need a hypervisor are asked for; `make test` does."""
    if not collection_path.is_relative_to(_HERE):
        return None
    path = collection_path.relative_to(_HERE).as_posix()
    if path.startswith(OPENSTACK) and not (path in PRETENDED and config.getoption("--real")):
        return "openstack" not in config.getoption("--engine") or None
    return (path.startswith(REAL) and not config.getoption("--real")) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep heavy tests on one worker (`-n 2 --dist loadgroup`), so that they never overlap, and
    those that start machines on one."""
    for item in items:
        path = item.path.relative_to(_HERE).as_posix()
        if path.startswith("real"):
            item.add_marker(pytest.mark.xdist_group("libvirt"))
        elif path.startswith(HEAVY):
            item.add_marker(pytest.mark.xdist_group("heavy"))

"""A real broker, a real Chromium, and eyes for what must not happen on any page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from broker.domain.model import Role
from tests.support.browsing import DEADLINE_MS, Visitor, Visitors, launched
from tests.support.live_broker import LiveBroker, live_broker

expect.set_options(timeout=DEADLINE_MS)
SCHOOL = {
    "groups": "name,title\npupils,Pupils 学生\n",
    "images": "name,version,size_gib,boot_mib\nstudy,1,1,50\n",
    "hosts": (
        "name,engine,profile,cpus,memory_mib,overcommit_cpu,start_limit\n"
        "srv-1,simulated,bare-metal,32,131072,4,20\n"
    ),
    "pools": (
        "name,title,architecture,kind,image,cpus,memory_mib,spares,max,log_off,"
        "disconnect_grace_s,lease_s\n"
        "library,Library 图书馆,vdi,floating,study@1,2,4096,1,1,reset,900,\n"
        "lab,Laboratory 机房,voi,floating,study@1,2,4096,,,reset,900,\n"
    ),
    "endpoints": "name,kind,location,pools\nlab-01,fat,Room 1,lab\nlab-02,fat,Room 1,lab\n",
    "entitlements": "pool,group\nlibrary,pupils\nlab,pupils\n",
}
"""one VDI pool of one desktop, so that the second person waits, and one VOI pool"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for one file of tests.

    Not longer: until Playwright is closed this thread has a running event loop, and no other test
    could start one.
    """
    with sync_playwright() as playwright:
        chromium = launched(playwright.chromium)
        yield chromium
        chromium.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LiveBroker]:
    """A broker where nobody is yet."""
    with live_broker(tmp_path) as running:
        yield running


@pytest.fixture
def school(broker: LiveBroker) -> LiveBroker:
    """A broker with a small school: admin, operator, auditor, and the pupils li and wang."""
    broker.roster(**SCHOOL)
    broker.person("admin", role=Role.ADMINISTRATOR)
    broker.person("operator", role=Role.OPERATOR)
    broker.person("auditor", role=Role.AUDITOR)
    broker.person("li", display_name="李雷 Li Lei", groups=("pupils",))
    broker.person("wang", display_name="王芳 Wang Fang", groups=("pupils",))
    return broker


@pytest.fixture
def visitor(broker: LiveBroker, browser: Browser) -> Iterator[Visitors]:
    """Makes visitors, each with cookies of his own; at the end none may have seen trouble."""
    made: list[Visitor] = []

    def come(username: str = "", **options: Any) -> Visitor:
        made.append(Visitor(browser, broker.url, username, **options))
        return made[-1]

    yield come
    for one in made:
        one.leave()

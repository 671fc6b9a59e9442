"""The libvirt engine hears its hosts all the time, and says since when it has not."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from broker.domain.errors import EngineError
from broker.ports import HostListener
from tests.support.builders import make_host
from tests.support.engines import listening
from tests.support.eventually import eventually
from tests.support.libvirt_cases import libvirt_engine, libvirt_test_case

NOWHERE = quote("qemu+unix:///system?socket=/nowhere/sock", safe="")


async def test_a_host_that_is_reached_is_heard_until_it_hangs_up() -> None:
    case = libvirt_test_case()
    async with listening(engine := libvirt_engine()):
        assert isinstance(engine, HostListener)
        before = engine.silence(case.host)
        assert before is not None
        assert before.why == "it was not reached yet"
        await eventually(lambda: engine.silence(case.host) is None)
        link = engine._hosts.know(case.host)
        link.connection._drop(link.connection._hearing)
        lost = engine.silence(case.host)
        assert lost is not None
        assert (lost.why, lost.since >= before.since) == ("it hung up", True)
        await eventually(lambda: engine.silence(case.host) is None)


async def test_a_host_that_is_never_reached_is_silent_since_it_was_known() -> None:
    host = make_host(engine="libvirt", profile=f"qemu?uri={NOWHERE}")
    async with listening(engine := libvirt_engine()):
        first = engine.silence(host)
        assert first is not None
        await eventually(lambda: "could not" in told(engine.silence(host)))
        later = engine.silence(host)
        assert later is not None
        assert later.since == first.since
        with pytest.raises(EngineError):
            engine.silence(make_host(id="hst_9", engine="libvirt", profile="no such"))


def told(silence: object) -> str:
    return str(getattr(silence, "why", ""))

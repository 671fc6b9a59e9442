"""How a libvirt host is: pressure as the kernel writes it, and what libvirt tells."""

from __future__ import annotations

import libvirt
import pytest

from broker.domain.inspection import PageSharing, Pressure
from broker.engines.libvirt.condition import Seen, condition, pressure_of, seen_there
from broker.engines.libvirt.knobs import parse_profile

LINE = "{} avg10={} avg60={} avg300={} total=1\n"
SAID = """\
/proc/pressure/cpu:some avg10=5.00 avg60=0.00 avg300=0.00 total=1
/proc/pressure/memory:some avg10=0.00 avg60=50.00 avg300=0.00 total=1
/proc/pressure/memory:full avg10=0.00 avg60=1.00 avg300=0.00 total=1
/proc/pressure/io:some avg10=0.00 avg60=0.00 avg300=0.00 total=1
/etc/motd:Welcome
nonsense
/sys/kernel/mm/ksm/run:1
/sys/kernel/mm/ksm/pages_shared:3
/sys/kernel/mm/ksm/pages_sharing:20
"""


def test_pressure_is_read_as_parts_of_the_time() -> None:
    both = LINE.format("some", "98.87", "50.00", "0.10") + LINE.format("full", "1.00", "0.00", "0")
    texts = {
        "cpu": LINE.format("some", "5.00", "0.00", "0.00"),
        "memory": both,
        "io": "some avg10=? avg60=1000\n\nnonsense\n",
    }
    assert pressure_of(texts) == {
        # kernels before 5.13 have no second line for the CPU
        "cpu": Pressure(some=(0.05, 0.0, 0.0), full=(0.0, 0.0, 0.0)),
        "memory": Pressure(some=(0.9887, 0.5, 0.001), full=(0.01, 0.0, 0.0)),
        "io": Pressure(some=(0.0, 1.0, 0.0), full=(0.0, 0.0, 0.0)),
    }


@pytest.mark.parametrize("missing", ["cpu", "memory", "io"])
def test_a_kernel_without_pressure_tells_none(missing: str) -> None:
    texts = dict.fromkeys({"cpu", "memory", "io"} - {missing}, LINE.format("some", "0", "0", "0"))
    assert pressure_of(texts) is None


def test_what_a_host_says_over_ssh_is_its_pressure_and_its_page_sharing() -> None:
    seen = seen_there(SAID)
    assert seen.pressure is not None
    assert seen.pressure["cpu"].some == (0.05, 0.0, 0.0)
    assert seen.pressure["memory"] == Pressure(some=(0.0, 0.5, 0.0), full=(0.0, 0.01, 0.0))
    assert seen.shares_pages is True
    assert seen.page_sharing == {"shm_pages_shared": 3, "shm_pages_sharing": 20}
    nothing = seen_there("no such file\n")
    assert (nothing.pressure, nothing.shares_pages, nothing.page_sharing) == (None, None, {})


def test_what_the_kernel_says_and_what_libvirt_does_not_come_together() -> None:
    """The test driver tells of no page sharing."""
    connection = libvirt.open("test:///default")
    try:
        place = parse_profile("test")
        told = condition(connection, "server-1", place, seen_there(SAID), ())
        untold = condition(connection, "server-1", place, Seen(why_not="far away"), ())
    finally:
        connection.close()
    assert told.page_sharing == PageSharing(on=True, kept=3 * 4096, saved=20 * 4096)
    assert not told.unknown.keys() & {"pressure", "page_sharing"}
    assert (untold.pressure, untold.unknown["pressure"]) == (None, "far away")

"""How a machine is told from what it should be."""

from __future__ import annotations

import pytest

from broker.domain.drift import Difference, differences


def test_what_differs_is_named_with_what_is_and_what_should_be() -> None:
    found = {"CPUs": "4", "memory": "2 GiB", "disk vdb": "x" * 500}
    wanted = {"CPUs": "2", "memory": "2 GiB", "network": "lan"}
    cpus, disk, network = differences(found, wanted)
    assert cpus == Difference(what="CPUs", found="4", wanted="2")
    assert (disk.found, disk.wanted) == ("x" * 200, "")
    assert str(cpus) == "CPUs: 4 instead of 2"
    assert str(network) == "network: none instead of lan"
    assert differences(wanted, wanted) == ()


def test_what_a_guest_has_a_say_in_is_cut() -> None:
    (one,) = differences({"name": "x" * 300}, {"name": "y" * 300})
    assert (one.found, one.wanted) == ("x" * 200, "y" * 200)
    (short,) = differences({"name": "long"}, {"name": "longer"}, chars_max=2)
    assert (short.found, short.wanted) == ("lo", "lo"), "they differ behind that"


@pytest.mark.parametrize(
    ("found", "wanted", "text"),
    [
        ("4", "2", "CPUs: 4 instead of 2"),
        ("", "2", "CPUs: none instead of 2"),
        ("4", "", "CPUs: 4 instead of none"),
    ],
)
def test_it_reads_as_a_sentence(found: str, wanted: str, text: str) -> None:
    assert str(Difference(what="CPUs", found=found, wanted=wanted)) == text


def test_what_is_empty_is_as_what_is_not_there() -> None:
    assert differences({"disk vdb": ""}, {}) == ()
    assert differences({}, {"disk vdb": ""}) == ()

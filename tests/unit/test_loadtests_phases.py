"""The harness's list of phases is the broker's, though the one does not import the other."""

from __future__ import annotations

import pytest

from broker.architectures import rules_of
from broker.domain.model import Architecture
from loadtests.limits import ARCHITECTURES
from loadtests.phases import ARCHITECTURE_TITLES, ENDPOINT, phases_of, stack_of


def test_the_architectures_are_the_brokers() -> None:
    assert set(ARCHITECTURES) == {each.value for each in Architecture}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_endpoints_phases_are_the_brokers_in_order(name: str) -> None:
    rules = rules_of(Architecture(name))
    assert ARCHITECTURE_TITLES[name] == rules.title
    assert [(phase.name, not phase.measured) for phase in ENDPOINT[name]] == [
        (phase.name, phase.simulated) for phase in rules.phases
    ]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_phase_is_listed_twice(name: str) -> None:
    for phases in (phases_of(name), stack_of(name)):
        names = [phase.name for phase in phases]
        assert len(set(names)) == len(names)

"""What people who do not run the site are told of hosts: that there are some."""

from __future__ import annotations

import pytest

from broker.domain.discretion import without_hosts

HOSTS = ("server-1", "server-10", "机房 一", "(odd)")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""),
        ("away past the grace", "away past the grace"),
        ("server-1 is down", "a host is down"),
        ("server-1: storage class fast: it is full", "a host: storage class fast: it is full"),
        ("lost with (server-10), 机房 一 and (odd).", "lost with (a host), a host and a host."),
        ("server-12 and my-server-1 are others", "server-12 and my-server-1 are others"),
        ("server-1_b is another", "server-1_b is another"),
        ("one; one; server-1 too", "one; one; a host too"),
    ],
)
def test_hosts_are_not_named_and_the_rest_is_as_it_was(text: str, told: str) -> None:
    assert without_hosts(text, HOSTS) == told


def test_what_is_said_of_several_hosts_alike_is_said_once() -> None:
    text = "pool waits: no host fits: server-1 drains; server-10 drains; 机房 一 lacks 2 CPUs"
    told = "pool waits: no host fits: a host drains; a host lacks 2 CPUs"
    assert without_hosts(text, HOSTS) == told


def test_of_two_names_that_begin_alike_the_whole_one_is_replaced() -> None:
    for names in (("lab", "lab 2 east", "lab 2"), ("lab 2", "lab 2 east", "lab")):
        told = without_hosts("lab 2 east is down; lab 2 drains; lab is off", names)
        assert told == "a host is down; a host drains; a host is off"


def test_no_host_has_no_name() -> None:
    assert without_hosts("nobody knows", ["", "server-1"]) == "nobody knows"

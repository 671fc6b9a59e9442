"""Where a machine's RDP server is looked for: what a guest says of itself is believed little."""

from __future__ import annotations

import pytest

from broker.domain.errors import EngineError
from broker.engines.libvirt.knobs import parse_profile

OWN = ("127.0.0.1", "fe80::1", "10.9.0.1", "nonsense", "", "10.20.3.4/16", "10.20.3.5")


def test_the_first_address_in_the_desktops_network_is_taken() -> None:
    assert parse_profile("qemu?rdp=10.20.0.0/16").address_of(OWN) == "10.20.3.4"
    assert parse_profile("qemu?rdp=fd00%3A%3A%2F64").address_of((*OWN, "fd00::7")) == "fd00::7"


@pytest.mark.parametrize("told", [(), ("127.0.0.1",), ("192.168.1.5",), ("10.20.0.0.1", "::1")])
def test_no_other_address_is_gone_to(told: tuple[str, ...]) -> None:
    with pytest.raises(EngineError, match="no address"):
        parse_profile("qemu?rdp=10.20.0.0/16").address_of(told)


def test_without_a_network_no_address_is_gone_to() -> None:
    place = parse_profile("qemu")
    assert place.rdp is None
    with pytest.raises(EngineError):
        place.address_of(OWN)


@pytest.mark.parametrize(
    "value", ["10.20.3.4/16", "x", "127.0.0.0/8", "0.0.0.0/0", "224.0.0.0/4", "169.254.0.0/16"]
)
def test_what_is_no_network_of_desktops_is_refused(value: str) -> None:
    with pytest.raises(EngineError, match="knob rdp"):
        parse_profile(f"qemu?rdp={value.replace('/', '%2F')}")


def test_spice_is_there_only_where_it_is_asked_for() -> None:
    assert not parse_profile("qemu").spice
    assert parse_profile("qemu?spice=yes").spice
    with pytest.raises(EngineError, match="knob spice"):
        parse_profile("qemu?spice=1")

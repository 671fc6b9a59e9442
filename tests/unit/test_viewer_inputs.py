"""Idle time: what a viewer says by itself is told from what its person does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.session_time import Signs
from broker.gateway.inputs import AnyInput, RfbInput, input_of

BEFORE = b"RFB 003.008\n" + b"\x01" + b"\x01"
OWN = {
    "pixel format": b"\x00" + bytes(19),
    "encodings": b"\x02\x00\x00\x03" + b"\x04" * 12,
    "update request": b"\x03\x01" + b"\x04" * 8,
    "continuous updates": b"\x96" + b"\x05" * 9,
    "fence": b"\xf8" + bytes(7) + b"\x06" + b"\x04" * 6,
    "desktop size": b"\xfb" + b"\x05" * 5 + b"\x02\x00" + b"\x04" * 32,
    "xvp": b"\xfa" + bytes(3),
    "sound on": b"\xff\x01\x00\x00",
    "sound format": b"\xff\x01\x00\x02" + b"\x04" * 6,
}
PERSONS = {
    "key": b"\x04\x01\x00\x00\x00\x00\x00a",
    "pointer": b"\x05\x00\x00\x10\x00\x10",
    "clipboard": b"\x06\x00\x00\x00\x00\x00\x00\x05" + b"\x03" * 5,
    "extended clipboard": b"\x06\x00\x00\x00\xff\xff\xff\xfb" + b"\x03" * 5,
    "key with scan code": b"\xff\x00" + bytes(10),
}


def greeted() -> RfbInput:
    one = RfbInput()
    assert not one.feed(BEFORE)
    return one


@pytest.mark.parametrize("said", OWN.values(), ids=OWN.keys())
def test_what_a_viewer_says_by_itself_is_no_input(said: bytes) -> None:
    one = greeted()
    assert not one.feed(said * 3)
    assert one.feed(PERSONS["key"])
    assert not one.feed(said)


@pytest.mark.parametrize("said", PERSONS.values(), ids=PERSONS.keys())
def test_what_its_person_does_is_input(said: bytes) -> None:
    one = greeted()
    assert one.feed(said)
    assert not one.feed(OWN["update request"])


@given(st.lists(st.sampled_from([*OWN.values(), *PERSONS.values()]), max_size=8), st.data())
def test_wherever_it_is_cut_the_same_is_heard(messages: list[bytes], data: st.DataObject) -> None:
    stream = BEFORE + b"".join(messages)
    wanted = any(message in PERSONS.values() for message in messages)
    one, heard, at = RfbInput(), False, 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream)))
        heard |= one.feed(stream[at : at + size])
        at += size
    assert heard is wanted


MORE_BUTTONS = (-316).to_bytes(4, signed=True)
ASKS = b"\x02\x00\x00\x02" + bytes(4) + MORE_BUTTONS
SEVEN = b"\x05\x81\x00\x10\x00\x10\x01"
SIX = b"\x05\x81\x00\x10\x00\x10"


@pytest.mark.parametrize("cut", range(1, len(ASKS + SEVEN)))
def test_further_mouse_buttons_take_a_byte_more_of_viewers_that_said_so(cut: int) -> None:
    one, stream = greeted(), ASKS + SEVEN
    assert [one.feed(stream[:cut]), one.feed(stream[cut:])].count(True) == 1
    assert not one.feed(OWN["update request"])
    assert one.feed(PERSONS["pointer"])
    assert not one.feed(OWN["update request"])


@pytest.mark.parametrize("before", [b"", ASKS + OWN["encodings"]], ids=["never", "not any more"])
def test_of_others_a_pointer_has_six_bytes_whatever_its_mask(before: bytes) -> None:
    one = greeted()
    assert not one.feed(before)
    assert one.feed(SIX)
    assert not one.feed(OWN["update request"])


def test_what_cannot_be_followed_is_input_from_there_on() -> None:
    one = greeted()
    assert one.feed(b"\x77")
    assert one.feed(bytes(40))
    assert one.feed(OWN["update request"])


def test_other_protocols_are_not_followed() -> None:
    assert isinstance(input_of("vnc"), RfbInput)
    signs = {"simulated": Signs.INPUT, "rdp": Signs.SERVER, "spice": Signs.DEVICES}
    for protocol, said in signs.items():
        assert type(input_of(protocol)) is AnyInput
        assert input_of(protocol).signs is said
    assert input_of("vnc").signs is Signs.INPUT
    assert AnyInput().feed(b"x")

"""Who only looks on: what reaches the desktop is decided by the broker, wherever bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.shadowing import ShadowMode
from broker.gateway.harmless import NotHarmlessError, RfbGuard, guard_of

GREETING = b"RFB 003.008\n"
BEFORE = GREETING + b"\x01\x01"
PASSES = {
    "pixel format": b"\x00" + bytes(19),
    "encodings": b"\x02\x00\x00\x03" + b"\x04" * 12,
    "no encodings": b"\x02\x00\x00\x00",
    "update request": b"\x03\x01" + b"\x04" * 8,
    "continuous updates": b"\x96" + b"\x05" * 9,
    "fence": b"\xf8" + bytes(7) + b"\x06" + b"\x04" * 6,
}
STAYS = {
    "key": b"\x04\x01\x00\x00\x00\x00\x00a",
    "pointer": b"\x05\x01\x00\x10\x00\x10",
    "clipboard": b"\x06\x00\x00\x00\x00\x00\x00\x05" + b"\x03" * 5,
    "extended clipboard": b"\x06\x00\x00\x00\xff\xff\xff\xfb" + b"\x03" * 5,
    "key with scan code": b"\xff\x00" + b"\x04" * 10,
    "sound on": b"\xff\x01\x00\x00",
    "sound format": b"\xff\x01\x00\x02" + b"\x04" * 6,
    "desktop size": b"\xfb" + b"\x05" * 5 + b"\x02\x00" + b"\x04" * 32,
    "power switch": b"\xfa\x00\x01\x02",
}
ALL = PASSES | STAYS


TYPED = {"key", "pointer", "key with scan code"}


def greeted(mode: ShadowMode) -> RfbGuard:
    one = RfbGuard(mode)
    one.down(GREETING)
    return one


def looking() -> RfbGuard:
    one = greeted(ShadowMode.VIEW)
    assert one.up(BEFORE) == BEFORE
    return one


def passing(name: str, mode: ShadowMode) -> bytes:
    through = name in PASSES or (mode is ShadowMode.INTERACTIVE and name in TYPED)
    return ALL[name] if through else b""


@pytest.mark.parametrize("name", ALL)
def test_only_what_asks_for_the_picture_reaches_the_desktop(name: str) -> None:
    one = looking()
    assert one.up(ALL[name] * 3) == PASSES.get(name, b"") * 3
    assert one.up(PASSES["update request"]) == PASSES["update request"]


@pytest.mark.parametrize("name", ALL)
def test_who_takes_part_types_and_points_and_nothing_else(name: str) -> None:
    one = greeted(ShadowMode.INTERACTIVE)
    assert one.up(BEFORE) == BEFORE
    assert one.up(ALL[name] * 3) == passing(name, ShadowMode.INTERACTIVE) * 3
    assert one.up(STAYS["key"]) == STAYS["key"]


MORE_BUTTONS = (-316).to_bytes(4, signed=True)
NOBODYS = (0x7FFFFFFF).to_bytes(4)


@pytest.mark.parametrize("mode", ShadowMode)
@pytest.mark.parametrize("cut", range(1, 21))
def test_the_desktop_does_not_hear_of_further_mouse_buttons(mode: ShadowMode, cut: int) -> None:
    """noVNC would tell of them in seven bytes, of which nobody else knows when they come."""
    raw, jpeg = bytes(4), (7).to_bytes(4)
    asked = b"\x02\x00\x00\x04" + raw + MORE_BUTTONS + jpeg + MORE_BUTTONS
    one = greeted(mode)
    assert one.up(BEFORE) == BEFORE
    told = one.up(asked[:cut]) + one.up(asked[cut:])
    assert told == b"\x02\x00\x00\x04" + raw + NOBODYS + jpeg + NOBODYS
    # only the list is looked through
    text = PASSES["fence"][:9] + MORE_BUTTONS + b"\x04\x04"
    assert one.up(text) == text


def test_a_pointer_is_never_longer_than_it_says() -> None:
    """The seventh byte would begin a message of its own: what follows is read as the desktop
    reads it, which was not told of further buttons, or not at all."""
    longer = b"\x05\x81\x00\x10\x00\x20" + b"\x01"
    looks, takes = looking(), greeted(ShadowMode.INTERACTIVE)
    takes.up(BEFORE)
    assert looks.up(longer[:6]) == b""
    assert takes.up(longer[:6]) == b"\x05\x01\x00\x10\x00\x20"
    for one in (looks, takes):
        with pytest.raises(NotHarmlessError, match="unknown kind 1"):
            one.up(longer[6:])


@given(st.lists(st.sampled_from(sorted(ALL)), max_size=8), st.sampled_from(ShadowMode), st.data())
def test_wherever_it_is_cut_the_same_passes(
    names: list[str], mode: ShadowMode, data: st.DataObject
) -> None:
    stream = BEFORE + b"".join(ALL[name] for name in names)
    wanted = BEFORE + b"".join(passing(name, mode) for name in names)
    one, passed, at = greeted(mode), b"", 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream)))
        passed += one.up(stream[at : at + size])
        at += size
    assert passed == wanted


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_nothing_gets_through_that_is_no_whole_harmless_message(pieces: list[bytes]) -> None:
    """Whatever a hostile viewer sends: parsed as the desktop would, it has no input in it."""
    one, passed = looking(), b""
    try:
        for piece in pieces:
            passed += one.up(piece)
    except NotHarmlessError:
        pass
    while passed:
        kind = passed[0]
        assert kind in {0, 2, 3, 150, 248}
        length = {0: 20, 3: 10, 150: 10}.get(kind)
        if kind == 2 and len(passed) >= 4:
            length = 4 + 4 * int.from_bytes(passed[2:4])
        if kind == 248 and len(passed) >= 9:
            length = 9 + passed[8]
        if length is None:
            break
        passed = passed[length:]


@pytest.mark.parametrize(
    "said",
    [
        *(bytes([kind]) for kind in (1, 7, 100, 249, 252, 254)),
        b"\xff\x02\x00\x00",
        b"\xf8" + bytes(7) + b"\x41",
    ],
    ids=lambda said: said.hex(),
)
@pytest.mark.parametrize("mode", ShadowMode)
def test_a_message_that_is_not_known_ends_it(mode: ShadowMode, said: bytes) -> None:
    one = greeted(mode)
    one.up(BEFORE)
    with pytest.raises(NotHarmlessError):
        one.up(said)


@pytest.mark.parametrize("mode", ShadowMode)
def test_nobody_is_thrown_off_by_a_viewer_that_wants_the_desktop_for_himself(
    mode: ShadowMode,
) -> None:
    assert greeted(mode).up(GREETING + b"\x01\x00") == GREETING + b"\x01\x01"


@pytest.mark.parametrize("mode", ShadowMode)
@pytest.mark.parametrize(
    "said", [b"RFB 003.003\n", b"RFB 003.007\n", b"GET / HTTP/1", GREETING + b"\x02"]
)
def test_the_handshake_is_held_to_what_can_be_followed(mode: ShadowMode, said: bytes) -> None:
    with pytest.raises(NotHarmlessError):
        greeted(mode).up(said)


@pytest.mark.parametrize("mode", ShadowMode)
@pytest.mark.parametrize("greeting", [b"", GREETING[:-1]])
def test_nothing_goes_up_before_the_desktop_has_said_its_version(
    mode: ShadowMode, greeting: bytes
) -> None:
    one = RfbGuard(mode)
    one.down(greeting)
    with pytest.raises(NotHarmlessError):
        one.up(GREETING[:1])


@pytest.mark.parametrize("greeting", [b"RFB 003.003\n", b"RFB 003.007\n", b"HTTP/1.1 200"])
def test_a_desktop_of_another_version_is_not_shown(greeting: bytes) -> None:
    one = RfbGuard(ShadowMode.VIEW)
    with pytest.raises(NotHarmlessError):
        one.down(greeting)


def test_what_the_desktop_sends_after_its_greeting_is_not_looked_at() -> None:
    one = RfbGuard(ShadowMode.VIEW)
    for piece in (GREETING[:5], GREETING[5:] + b"\x01\x01", b"anything"):
        one.down(piece)


def test_a_simulated_desktop_hears_only_who_takes_part() -> None:
    key = b"\x04\x00\x00\x00\x00\x00\x00\x00a"
    assert guard_of("simulated", ShadowMode.VIEW).up(key) == b""
    assert guard_of("simulated", ShadowMode.INTERACTIVE).up(key) == key


@pytest.mark.parametrize("protocol", ["spice", "rdp", ""])
def test_what_cannot_be_held_back_is_not_shadowed(protocol: str) -> None:
    with pytest.raises(NotHarmlessError):
        guard_of(protocol, ShadowMode.VIEW)

"""The guest agent's WebSocket client, byte by byte: what it sends, and what it takes."""

from __future__ import annotations

import struct

import pytest

from agents.guest import limits, websocket
from agents.guest.websocket import CLOSE, PING, PONG, TEXT, BrokenError, Event, Frames

KEY = b"the sample nonce"
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""what RFC 6455 (1.3) says of this key"""
ANSWER = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: p.1"
)


def server(first: int, data: bytes = b"") -> bytes:
    """A server's frame: its first byte, and what it carries."""
    if len(data) < 126:
        return bytes((first, len(data))) + data
    return struct.pack("!BBH", first, 126, len(data)) + data


def test_the_handshake_is_the_one_of_the_standard() -> None:
    websocket.check_answer(ANSWER.encode(), KEY, "p.1")
    asked = websocket.request("desk:8080", "/at", KEY, "p.1")
    assert b"GET /at HTTP/1.1\r\nHost: desk:8080\r\n" in asked
    assert b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in asked
    assert b"Sec-WebSocket-Version: 13\r\n" in asked


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ("101 Switching", "200 Switching"),
        ("HTTP/1.1", "HTTP/1.0"),
        (ACCEPT, "t3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("keep-alive, Upgrade", "keep-alive"),
        ("p.1", "p.2"),
        ("\r\nSec-WebSocket-Protocol: p.1", ""),
        ("p.1", "p.1\r\nSec-WebSocket-Extensions: permessage-deflate"),
        ("p.1", f"p.1\r\nSec-WebSocket-Accept: {ACCEPT}"),
        ("p.1", "p.1\r\nnonsense"),
    ],
)
def test_any_other_answer_lets_nobody_in(said: str, instead: str) -> None:
    with pytest.raises(BrokenError):
        websocket.check_answer(ANSWER.replace(said, instead).encode(), KEY, "p.1")


@pytest.mark.parametrize("size", [0, 1, 5, 125, 126, 4097, limits.LINE_BYTES_MAX - 1])
def test_what_is_sent_is_masked_and_whole(size: int) -> None:
    payload, mask = b"ab\xff" * size, b"\x01\x82\x00\xfe"
    payload = payload[:size]
    made = websocket.frame(TEXT, payload, mask)
    begins = 2 if size < 126 else 4
    assert made[0] == 0x81
    assert made[1] & 0x80
    assert made[begins : begins + 4] == mask
    masked = made[begins + 4 :]
    assert bytes(one ^ mask[at % 4] for at, one in enumerate(masked)) == payload


def test_messages_are_found_wherever_the_network_cuts_them() -> None:
    text, long = b"{}", b"x" * 300
    stream = (
        server(0x81, text)
        + server(0x01, b"a")
        + server(0x89, b"now")
        + server(0x00, b"b")
        + server(0x80, b"\xc3\xa9")
        + server(0x8A)
        + server(0x81, long)
        + server(0x88, b"\x0f\xa4old")
    )
    wanted = [
        Event(TEXT, text), Event(PING, b"now"), Event(TEXT, b"ab\xc3\xa9"), Event(PONG),
        Event(TEXT, long), Event(CLOSE, b"old", 4004),
    ]  # fmt: skip
    for step in (1, 2, 3, 7, len(stream)):
        frames = Frames()
        found = [
            event
            for at in range(0, len(stream), step)
            for event in frames.feed(stream[at : at + step])
        ]
        assert found == wanted


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x01x", websocket.UNSUPPORTED),
        (b"\xc1\x01x", websocket.PROTOCOL),
        (b"\x81\x81mask" + b"x", websocket.PROTOCOL),
        (b"\x83\x01x", websocket.PROTOCOL),
        (b"\x80\x01x", websocket.PROTOCOL),
        (b"\x01\x01x\x81\x01x", websocket.PROTOCOL),
        (b"\x09\x01x", websocket.PROTOCOL),
        (b"\x89\x7e\x00\x7e" + b"x" * 126, websocket.PROTOCOL),
        (b"\x88\x01x", websocket.PROTOCOL),
        (b"\x88\x03\x03\xe8\xff", websocket.NOT_TEXT),
        (b"\x81\x01\xff", websocket.NOT_TEXT),
        (b"\x81\x7e\x00\x05hello", websocket.PROTOCOL),
        (b"\x81\x7f" + struct.pack("!Q", 5), websocket.PROTOCOL),
        (b"\x81\x7f" + struct.pack("!Q", 1 << 40), websocket.TOO_LONG),
        (b"\x81\x7e" + struct.pack("!H", limits.LINE_BYTES_MAX + 1), websocket.TOO_LONG),
    ],
)
def test_what_a_server_may_not_send_ends_it_at_once(data: bytes, code: int) -> None:
    with pytest.raises(BrokenError) as broken:
        Frames().feed(data)
    assert broken.value.code == code


def test_a_message_in_pieces_is_no_longer_than_one_in_whole() -> None:
    frames = Frames()
    half = b"x" * (limits.LINE_BYTES_MAX // 2)
    frames.feed(server(0x01, half))
    frames.feed(server(0x00, half))
    with pytest.raises(BrokenError) as broken:
        frames.feed(server(0x00, b"x"))
    assert broken.value.code == websocket.TOO_LONG


def test_a_close_without_a_word_is_one() -> None:
    assert Frames().feed(b"\x88\x00") == [Event(CLOSE, b"", websocket.NO_CODE)]

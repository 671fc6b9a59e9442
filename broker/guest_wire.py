"""The guest protocol, version 1: JSON lines between a desktop's guest agent and its engine.

They go over a virtio-serial port named PORT_NAME (over whatever connects a guest to its
hypervisor), one object a line, UTF-8, at most LINE_BYTES_MAX with its newline; or, where there is
no such port, as text messages of a WebSocket at LINK_PATH of any broker process, of which the
first is Present: the ticket that the engine gave this machine. The guest is hostile: what it says
is bounded, shown as text only, and believed about itself alone. Unknown fields are ignored, unknown
kinds are passed over; a line that is no message closes nothing.

The order of things: whoever opens the port first may write into nothing, so both repeat. The
agent says Hello when it starts and after every Identify; the engine sends Identify after it has
opened the port and after every Hello of a boot or a generation that it does not expect. A
machine is ready when a State of the present generation says so. A machine that was resumed from
saved memory still carries the identity of its golden desktop until it is given its own.

The agent (agents/guest) needs nothing but Python's standard library, so that it installs into
any guest; this module is the engine's side of the same lines.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

PROTOCOL = 1
PORT_NAME = "org.trivium.guest.0"
LINE_BYTES_MAX = 16 * 1024
LINK_PATH = "/agent/v1/guest"
LINK_SUBPROTOCOL = "trivium-guest.1"
CLOSE_REPLACED = 4000
"""WebSocket close code: another link of the same desktop came later"""
CLOSE_SILENT = 4001
"""WebSocket close code: no ticket in time"""
CLOSE_REFUSED = 4003
"""WebSocket close code: the ticket is none of this installation's"""
CLOSE_OLD = 4004
"""WebSocket close code: the ticket is of a generation that is not the desktop's present one"""
CLOSE_RESTART = 1012
"""WebSocket close code (RFC 6455's registry): the broker stops, look for another"""
CLOSE_LATER = 1013
"""WebSocket close code (likewise): not now, try again later"""
CLOSE_NOT_UNDERSTOOD = 1008
"""WebSocket close code (RFC 6455): something else than the protocol was spoken"""


class Identify(msgspec.Struct, frozen=True, kw_only=True, tag="identify"):
    """Who the desktop is. `generation`: what its reports count for from now on. `seed`: 64 hex
    digits for the kernel's entropy pool. `time_ms`: the broker's wall clock. `woken`: the machine
    goes on from saved memory, so what it believes of its clock is of before."""

    desktop_id: str
    generation: int
    name: str
    time_ms: int
    seed: str = ""
    woken: bool = False


class Time(msgspec.Struct, frozen=True, kw_only=True, tag="time"):
    """What time it is, by the broker's wall clock; said again and again, and after the machine
    stood still. Older agents pass it over."""

    time_ms: int


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="ask"):
    """Do something; Done answers with the same id. `what`: log_off, lock, message, policy.
    `text` and `sender` are a message's; `settings` are a policy's (USB, clipboard, drives …)."""

    id: str
    what: str
    text: str = ""
    sender: str = ""
    settings: dict[str, str] = {}


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The agent runs. `boot_id`: of this boot; `generation` 0 until it was identified."""

    boot_id: str
    protocol: int = PROTOCOL
    system: str = ""
    agent_version: str = ""
    desktop_id: str = ""
    generation: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True, tag="state"):
    """How the desktop is, at each change and every few seconds. `ready`: somebody can work in it.
    `user`: who is logged on, empty for nobody. `idle_s`: since the last input, None if unknown;
    `idle_whole`: whatever way it came, also through an RDP server."""

    desktop_id: str
    generation: int
    ready: bool
    user: str = ""
    idle_s: float | None = None
    addresses: tuple[str, ...] = ()
    detail: str = ""
    idle_whole: bool = False


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    id: str
    ok: bool
    detail: str = ""


class Present(msgspec.Struct, frozen=True, kw_only=True, tag="present"):
    """A link's first message: the ticket of this desktop and generation."""

    ticket: str


ToGuest: TypeAlias = Identify | Time | Ask
FromGuest: TypeAlias = Hello | State | Done

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(FromGuest)
_to_guest_decoder = msgspec.json.Decoder(ToGuest)
_present_decoder = msgspec.json.Decoder(Present)


def encode(message: ToGuest | FromGuest | Present) -> bytes:
    """One line, with its newline."""
    return _encoder.encode(message) + b"\n"


def decode(line: bytes) -> FromGuest | None:
    """What a guest said; None for a line that is no message of this protocol."""
    if len(line) > LINE_BYTES_MAX:
        return None
    try:
        said: FromGuest = _decoder.decode(line)
    except msgspec.MsgspecError:
        return None
    return said


def decode_present(text: str) -> Present | None:
    """A link's first message; None for anything else."""
    try:
        presented: Present = _present_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return presented


def decode_to_guest(line: bytes) -> ToGuest | None:
    """What an engine said; for whoever plays the guest."""
    if len(line) > LINE_BYTES_MAX:
        return None
    try:
        asked: ToGuest = _to_guest_decoder.decode(line)
    except msgspec.MsgspecError:
        return None
    return asked

"""The lines of the guest protocol, on the guest's side: broker/guest_wire.py is the other."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from agents.guest import limits

PROTOCOL = 1
PORT_NAME = "org.trivium.guest.0"


class Identify(NamedTuple):
    """Who this desktop is from now on; `time_ms` is the broker's wall clock, `seed` is hex.
    `woken`: it goes on from memory that was saved."""

    desktop_id: str
    generation: int
    name: str
    time_ms: int
    seed: str = ""
    woken: bool = False


class Time(NamedTuple):
    """What time it is, by the broker's wall clock."""

    time_ms: int


class Ask(NamedTuple):
    """Something to do; `what`: log_off, lock, message, policy."""

    id: str
    what: str
    text: str = ""
    sender: str = ""
    settings: dict[str, str] = {}  # noqa: RUF012 -- a default that is never written to


def _text(said: dict[str, Any], name: str, default: str | None = None) -> str:
    found = said.get(name, default)
    if not isinstance(found, str):
        raise TypeError(name)
    return found


def _number(said: dict[str, Any], name: str) -> int:
    found = said.get(name)
    if not isinstance(found, int) or isinstance(found, bool):
        raise TypeError(name)
    return found


def _settings(said: dict[str, Any]) -> dict[str, str]:
    found = said.get("settings", {})
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise TypeError("settings")
    return found


def parse(line: bytes) -> Identify | Time | Ask | None:
    """What the engine said; None for a line that is no message of this protocol."""
    if len(line) > limits.LINE_BYTES_MAX:
        return None
    try:
        said = json.loads(line)
        kind = said.get("type") if isinstance(said, dict) else None
        if kind == "identify":
            return Identify(
                desktop_id=_text(said, "desktop_id"),
                generation=_number(said, "generation"),
                name=_text(said, "name"),
                time_ms=_number(said, "time_ms"),
                seed=_text(said, "seed", ""),
                woken=said.get("woken") is True,
            )
        if kind == "time":
            return Time(time_ms=_number(said, "time_ms"))
        if kind == "ask":
            return Ask(
                id=_text(said, "id"),
                what=_text(said, "what"),
                text=_text(said, "text", ""),
                sender=_text(said, "sender", ""),
                settings=_settings(said),
            )
    except (ValueError, TypeError, RecursionError):
        return None
    return None


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def hello(
    *, boot_id: str, system: str, agent_version: str, desktop_id: str, generation: int
) -> bytes:
    """The agent runs; `generation` is 0 until it was identified."""
    return _line(
        {
            "type": "hello",
            "protocol": PROTOCOL,
            "boot_id": boot_id,
            "system": system[: limits.DETAIL_CHARS_MAX],
            "agent_version": agent_version,
            "desktop_id": desktop_id,
            "generation": generation,
        }
    )


def state(
    *,
    desktop_id: str,
    generation: int,
    ready: bool,
    user: str,
    idle_s: float | None,
    addresses: tuple[str, ...],
    detail: str,
    idle_whole: bool = False,
) -> bytes:
    """How the desktop is; what would make the line too long is cut."""
    return _line(
        {
            "type": "state",
            "desktop_id": desktop_id,
            "generation": generation,
            "ready": ready,
            "user": user[: limits.NAME_CHARS_MAX],
            "idle_s": None if idle_s is None else round(idle_s, 1),
            "idle_whole": idle_whole,
            "addresses": addresses[: limits.ADDRESSES_MAX],
            "detail": detail[: limits.DETAIL_CHARS_MAX],
        }
    )


def done(*, ask_id: str, ok: bool, detail: str) -> bytes:
    """What came of a request."""
    return _line(
        {"type": "done", "id": ask_id, "ok": ok, "detail": detail[: limits.DETAIL_CHARS_MAX]}
    )


class Lines:
    """Cuts what comes from the port into lines; one that is too long is passed over whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their newlines."""
        *lines, rest = (self._rest + data).split(b"\n")
        if self._skipping and lines:
            lines = lines[1:]
            self._skipping = False
        if self._skipping or len(rest) >= limits.LINE_BYTES_MAX:
            self._skipping = True
            rest = b""
        self._rest = rest
        return [line for line in lines if len(line) < limits.LINE_BYTES_MAX]

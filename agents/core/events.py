"""What happened to an endpoint. The shell makes these; `Endpoint.handle` takes them.

What belongs to one try carries its number, so that an answer to a try that is over is known as
such: `link_no` for a link, `ref` for a display, an image check or a run of fetches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from broker import wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The endpoint is switched on. `after_s`: its own place in the ramp, in seconds."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline has come, or may have."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The process is to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    answer: wire.EnrolAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolRefused:
    """The broker, or the way to it, said no. `final`: trying again cannot help."""

    code: str
    detail: str = ""
    retry_after_s: float | None = None
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOpened:
    link_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkText:
    """One text message; not decoded yet, for only the core says what a bad one means."""

    link_no: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPong:
    link_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkGarbage:
    """Something that is not a text message within the size limit."""

    link_no: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLost:
    """The link ended, or could not be made. `retry_after_s`: as an HTTP answer asked."""

    link_no: int
    why: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayText:
    session_id: str
    ref: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayFrame:
    """A frame of `size` bytes; the pixels stay in the shell."""

    session_id: str
    ref: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayLost:
    session_id: str
    ref: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChecked:
    """The cache was held against the manifest; these segments are missing."""

    session_id: str
    ref: int
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFetched:
    """A segment arrived whole. `digest`: BLAKE2b-128 of what arrived, 16 bytes."""

    session_id: str
    ref: int
    index: int
    digest: bytes
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFailed:
    """`refused`: the server does not take the token (any more); else it may work later."""

    session_id: str
    ref: int
    index: int
    refused: bool
    why: str


LinkEvent: TypeAlias = LinkOpened | LinkText | LinkPong | LinkGarbage | LinkLost
SessionEvent: TypeAlias = (
    DisplayText | DisplayFrame | DisplayLost | ImageChecked | SegmentFetched | SegmentFailed
)
Event: TypeAlias = (
    Begin | TimePassed | StopAsked | Enrolled | EnrolRefused | LinkEvent | SessionEvent
)

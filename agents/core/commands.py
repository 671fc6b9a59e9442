"""What an endpoint wants done. The core makes these, in order; the shell carries them out.

None is answered at once: what comes of it arrives later as an event with the same number.
Logging and counting are commands too, so a test reads them like everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from agents.core.identity import Identity
from broker import wire


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveIdentity:
    """Keep this where a restart finds it."""

    identity: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrol:
    """POST `wire.ENROL_PATH`; the shell puts in the token. Answer: Enrolled or EnrolRefused."""

    request: wire.EnrolRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Open the control link. Answer: LinkOpened or LinkLost; exactly one LinkLost in the end."""

    link_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One text message on the control link."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """A WebSocket ping on the control link. Answer: LinkPong."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The handshake is over; another endpoint of the fleet may begin its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLink:
    """`code`: a WebSocket close code."""

    code: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDisplay:
    """Open the display socket and show the ticket. Answers: DisplayText, -Frame, -Lost."""

    session_id: str
    ref: int
    ticket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDisplay:
    session_id: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseDisplay:
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckImage:
    """Which segments does the cache lack? `digests`: 16 bytes each, in order."""

    session_id: str
    ref: int
    image: wire.ImageRef
    digests: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """GET one segment. `keep`: hold the bytes until KeepSegment. Answer: SegmentFetched, -Failed.

    `bytes_max`: stop reading past it.
    """

    session_id: str
    ref: int
    image_id: str
    index: int
    token: str
    bytes_max: int
    keep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSegment:
    """The segment is the right one: into the cache with it."""

    session_id: str
    image: wire.ImageRef
    index: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepImage:
    """The cache has the whole version now; older ones of that image may go."""

    image: wire.ImageRef
    digests: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFetches:
    """Nobody waits for this session's segments any more."""

    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """A message to the person of the session. `sender` is empty for the broker itself."""

    session_id: str
    notice_id: str
    text: str
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """May the session move to this endpoint (empty: a browser)? The core answers: as the simulated
    person does, or no when the time is over."""

    session_id: str
    wish_id: str
    endpoint: str
    within_s: float


Level: TypeAlias = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    level: Level
    text: str


What: TypeAlias = Literal[
    "up",
    "down",
    "retry",
    "begun",
    "live",
    "away",
    "over",
    "failed",
    "fresh",
    "notice",
    "granted",
    "kept",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """For the counters. `up`, `down`, `retry`: the link. `begun`, `live`, `away` (live no more),
    `over`, `failed` (with its code): a session of `architecture`. `fresh`: a desktop. `notice`: a
    message shown. `granted`, `kept`: answers to whether a session may move."""

    what: What
    architecture: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The agent ends. `code` is empty when it was asked to."""

    code: str = ""
    detail: str = ""


Command: TypeAlias = (
    SaveIdentity
    | Enrol
    | Connect
    | Send
    | Ping
    | Admitted
    | CloseLink
    | OpenDisplay
    | SendDisplay
    | CloseDisplay
    | CheckImage
    | Fetch
    | KeepSegment
    | KeepImage
    | StopFetches
    | Show
    | Ask
    | Log
    | Note
    | Finish
)

"""The endpoint protocol, version 1: JSON messages over one WebSocket, `GET /agent/v1/link`.

The one file that agents may import from the broker. Every message is a tagged struct; unknown
fields are ignored (a newer peer may send them), unknown tags are a protocol error.

The order of things:
    agent Hello -> broker Challenge -> agent Proof -> broker Welcome (or Refused, and close).
    After that the agent sends Heartbeat at the pace it was given. A session goes
    Start -> (IDV, VOI: Redeem -> Grant) -> Report per phase -> Live -> … -> Stop -> Ended,
    and for the endpoint's own desktop MakeFresh -> Fresh.
Beside the link: POST /agent/v1/enrol (once), GET /agent/v1/images/{id}/segments/{n} with the
Grant's `image_token` as bearer, and the display socket GET /agent/v1/display, whose first
message is DisplayOpen as text; after it binary frames go down and binary input goes up.

Names end in their unit. Times in *_ms are milliseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

PROTOCOL = 1
"""this version; a broker refuses others with `endpoint.protocol`"""

LINK_PATH = "/agent/v1/link"
ENROL_PATH = "/agent/v1/enrol"
DISPLAY_PATH = "/agent/v1/display"
SEGMENT_PATH = "/agent/v1/images/{image_id}/segments/{index}"
SUBPROTOCOL = "trivium-agent.v1"
MESSAGE_BYTES_MAX = 64 * 1024
"""agent -> broker. Downwards a Grant may be longer: it names a digest for every segment."""

_PROOF_CONTEXT = b"trivium-agent-proof-v1"


def proof_payload(installation_id: str, endpoint_id: str, nonce: str) -> bytes:
    """The bytes that an endpoint signs with its Ed25519 key at every connect."""
    return b"\0".join(
        (_PROOF_CONTEXT, installation_id.encode(), endpoint_id.encode(), nonce.encode())
    )


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /agent/v1/enrol. `public_key`: Ed25519, 32 bytes, hex."""

    token: str
    name: str
    kind: str
    public_key: str
    location: str = ""
    agent_version: str = ""
    protocol: int = PROTOCOL


class EnrolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The agent pins `installation_id`: a broker of another installation is refused."""

    endpoint_id: str
    installation_id: str


# ------------------------------------------------------------------------ agent -> broker


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    endpoint_id: str
    boot_id: str
    agent_version: str
    protocol: int = PROTOCOL


class Proof(msgspec.Struct, frozen=True, kw_only=True, tag="proof"):
    """`signature`: Ed25519 over `proof_payload`, 64 bytes, hex."""

    signature: str


class SessionTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes since the last heartbeat, both directions added. `idle_s`: since the person's last
    input, None where the endpoint cannot know."""

    session_id: str
    control: int = 0
    display: int = 0
    image: int = 0
    idle_s: float | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """`sessions`: every session that the endpoint carries, with its traffic since the last."""

    seq: int
    sessions: tuple[SessionTraffic, ...] = ()


class Redeem(msgspec.Struct, frozen=True, kw_only=True, tag="redeem"):
    session_id: str
    ticket: str


class Report(msgspec.Struct, frozen=True, kw_only=True, tag="report"):
    """One phase is done. Phase names are the architecture's (broker/architectures)."""

    session_id: str
    generation: int
    phase: str
    took_ms: float
    bytes_down: int = 0
    bytes_up: int = 0


class Live(msgspec.Struct, frozen=True, kw_only=True, tag="live"):
    """The person has the desktop."""

    session_id: str
    generation: int


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The endpoint could not start the session, or lost it."""

    session_id: str
    generation: int
    code: str
    detail: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """The session is over at the endpoint: after Stop, or by the person's own log-off."""

    session_id: str
    generation: int
    traffic: SessionTraffic | None = None


class Fresh(msgspec.Struct, frozen=True, kw_only=True, tag="fresh"):
    """The endpoint's own desktop is back at its image, as `generation`."""

    desktop_id: str
    generation: int


class Consent(msgspec.Struct, frozen=True, kw_only=True, tag="consent"):
    """The person's answer to AskConsent."""

    session_id: str
    wish_id: str
    granted: bool


class Bye(msgspec.Struct, frozen=True, kw_only=True, tag="bye"):
    """The agent goes away on purpose; it will be back when it is back."""

    reason: str = ""


# ------------------------------------------------------------------------ broker -> agent


class Challenge(msgspec.Struct, frozen=True, kw_only=True, tag="challenge"):
    nonce: str
    installation_id: str


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """`heartbeat_s`: the pace; the first heartbeat comes after a random part of it."""

    heartbeat_s: float
    time_ms: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Why, by stable code. With `retry_after_s` come back after full jitter over that time
    (at least), without it after the agent's own back-off. `final`: stop, a person must act."""

    code: str
    detail: str = ""
    retry_after_s: float | None = None
    final: bool = False


class Pace(msgspec.Struct, frozen=True, kw_only=True, tag="pace"):
    """A new heartbeat pace."""

    heartbeat_s: float


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """Bring this session up. The same session and generation again means: carry on.

    `ticket` is this endpoint's own, works once and for a minute.
    """

    session_id: str
    desktop_id: str
    desktop_name: str
    generation: int
    architecture: str
    pool: str
    username: str
    ticket: str
    image: ImageRef


class ImageRef(msgspec.Struct, frozen=True, kw_only=True):
    """Enough to see whether the cache has it: `segments` of a full copy, `boot_segments` that a
    streamed boot reads, at most `segment_bytes` each."""

    image_id: str
    name: str
    version: int
    segments: int
    boot_segments: int
    segment_bytes: int


class Grant(msgspec.Struct, frozen=True, kw_only=True, tag="grant"):
    """The answer to Redeem. `image_token` opens the image's segments for this session.

    `digests`: BLAKE2b-128, hex, of each segment needed (IDV all, VOI the boot's), in order.
    """

    session_id: str
    image: ImageRef
    image_token: str
    digests: tuple[str, ...]
    lease_until_ms: int | None = None


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """The session is over here. `moved`: it goes on elsewhere or rests at the server, so nothing
    is answered; an Ended that comes late would end what the person has by then."""

    session_id: str
    generation: int
    reason: str
    moved: bool = False


class Notice(msgspec.Struct, frozen=True, kw_only=True, tag="notice"):
    """Show this to the person of the session. The same id again is the same message."""

    session_id: str
    notice_id: str
    text: str
    sender: str = ""


class AskConsent(msgspec.Struct, frozen=True, kw_only=True, tag="ask_consent"):
    """May the session move to `endpoint` (empty: a browser)? No answer in time is a no."""

    session_id: str
    wish_id: str
    endpoint: str
    answer_within_s: float


class MakeFresh(msgspec.Struct, frozen=True, kw_only=True, tag="make_fresh"):
    desktop_id: str
    generation: int


# ------------------------------------------------------------------------ display


class DisplayOpen(msgspec.Struct, frozen=True, kw_only=True, tag="display_open"):
    """First message on a display socket."""

    ticket: str


class DisplayReady(msgspec.Struct, frozen=True, kw_only=True, tag="display_ready"):
    """The broker's answer, as text; binary frames follow. `protocol`: what flows (the engine
    port's Console says which there are). Size in pixels; 0 where only the client learns it."""

    session_id: str
    width: int
    height: int
    protocol: str = "simulated"


class DisplayRefused(msgspec.Struct, frozen=True, kw_only=True, tag="display_refused"):
    code: str
    detail: str = ""


FromAgent: TypeAlias = (
    Hello | Proof | Heartbeat | Redeem | Report | Live | Failed | Ended | Fresh | Consent | Bye
)
FromBroker: TypeAlias = (
    Challenge | Welcome | Refused | Pace | Start | Grant | Stop | MakeFresh | Notice | AskConsent
)
FromDisplay: TypeAlias = DisplayReady | DisplayRefused

DecodeError = msgspec.DecodeError
"""what decoding raises (ValidationError is one)"""
encode = msgspec.json.Encoder().encode
decode_from_agent = msgspec.json.Decoder(FromAgent).decode
decode_from_broker = msgspec.json.Decoder(FromBroker).decode
decode_display_open = msgspec.json.Decoder(DisplayOpen).decode
decode_from_display = msgspec.json.Decoder(FromDisplay).decode
"""Encoders and decoders; decoding raises DecodeError."""

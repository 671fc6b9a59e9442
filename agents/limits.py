"""Every fixed limit of the agents, named, with its unit."""

from __future__ import annotations

from typing import Final

# ----------------------------------------------------------------------- finding the broker

CONNECT_S: Final = 15.0
"""from the first packet to the open WebSocket"""
HANDSHAKE_S: Final = 15.0
"""from the open WebSocket to Welcome; the broker gives an agent 10 s of it"""
BACKOFF_FIRST_S: Final = 5.0
"""widest pause before the first retry; then it is as wide as the trouble has lasted"""
BACKOFF_CAP_S: Final = 90.0
"""widest pause of all. Pauses are drawn from the whole width (full jitter), so an endpoint that
is refused for ever asks every 45 s on average, and a broker that comes back has everybody again
within 90 s"""
BACKOFF_RESET_S: Final = 60.0
"""a link that held this long ends the trouble; a shorter one is part of it"""
RETRY_AFTER_S_MIN: Final = 1.0
RETRY_AFTER_S_MAX: Final = 900.0
"""bounds of what a broker may ask for in Refused or Retry-After: neither a storm nor for ever"""
HEARTBEAT_S_MIN: Final = 1.0
HEARTBEAT_S_MAX: Final = 600.0
"""bounds of the pace that a broker may ask for"""
SILENCE_S_MIN: Final = 60.0
SILENCE_BEATS: Final = 3.0
"""a link on which nothing came back for that many heartbeats, and at least SILENCE_S_MIN, is
given up"""

# ----------------------------------------------------------------------- sizes and queues

LINK_MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""one message from the broker. A Grant names a digest (35 bytes in JSON) for every segment:
this is enough for an image of 110 GiB in segments of 1 MiB"""
ENROL_BYTES_MAX: Final = 64 * 1024
"""the answer to an enrolment"""
FRAME_BYTES_MAX: Final = 1024 * 1024
"""one message on a display socket"""
SEGMENT_BYTES_MAX: Final = 16 * 1024 * 1024
"""the largest segment that an image may have"""
SEGMENTS_MAX: Final = 120_000
"""segments of one image"""
SEND_QUEUE_MAX: Final = 256
"""messages waiting for one socket; past it the socket counts as stuck and is closed"""
OUTBOX_MAX: Final = 32
"""reports kept while the link is down; the oldest goes first"""
CONTROL_SESSIONS_MAX: Final = 4
"""sessions that one endpoint carries at once"""
MEMORY_MAX: Final = 8
"""sessions that are over and still remembered, so that a repeated order is answered at once"""
DESKTOPS_MAX: Final = 16
"""desktops of one endpoint whose generation is remembered"""

NOTICES_MAX: Final = 16
"""messages to the person that are remembered, so that a repeated one is shown once"""
QUESTIONS_MAX: Final = 4
"""questions that wait for the person's answer at once; further ones are left without one"""

# ----------------------------------------------------------------------- a session's steps

CONSENT_S_MAX: Final = 600.0
"""longest time that a question waits for its answer"""

GRANT_S: Final = 30.0
"""from Redeem to Grant"""
DISPLAY_OPEN_S: Final = 30.0
"""from opening the display socket to DisplayReady"""
FIRST_FRAME_S: Final = 30.0
"""from DisplayReady to the first frame"""
REORDER_S: Final = 20.0
"""for a repeated Start, after something was lost that only a new ticket can open again"""
RESUME_S: Final = 180.0
"""for a repeated Start, while the desktop is being resumed: as long as a delivery may take"""
LOOK_AHEAD: Final = 4
"""segments asked for beyond the first that is still missing, per session"""
FETCH_S: Final = 60.0
"""for one segment"""
FETCH_TRIES_MAX: Final = 6
"""tries for one segment that could not be fetched"""
FETCH_PAUSE_S: Final = 2.0
"""widest pause before a segment is tried again; each further one doubles it"""
DIGEST_TRIES_MAX: Final = 2
"""tries for one segment that arrived with the wrong digest"""
LEASE_GRACE_S: Final = 60.0
"""to come back, for a link that is lost when the lease has ended already"""
STREAM_STALL_S: Final = 180.0
"""how long a streamed desktop hangs without its server before it is lost"""
INPUT_PAUSE_S_MIN: Final = 0.2
"""shortest pause between two input messages, however time is compressed"""
STEP_S_MAX: Final = 3600.0
"""longest simulated step"""

# ----------------------------------------------------------------------- the process

CONNECTS_AT_ONCE_MAX: Final = 100
"""endpoints of one fleet in their handshake at once. Measured: 9,000 at once took 14 s at p99
for a hello, 500 at a time 1 s (reliability facts, 0.6)"""
WHEEL_SLEEP_S_MAX: Final = 30.0
"""between two looks at the timers, so that one that was due during a suspend is not overslept"""
WHEEL_BATCH: Final = 256
"""timers that fire before the loop gets a turn"""
CLOSE_S: Final = 2.0
"""for the other side of a WebSocket to answer a close"""
STOP_S: Final = 5.0
"""for a process to say goodbye on all its links"""
STATE_SAVE_S: Final = 2.0
"""at most this long is an enrolment known in memory only"""
DEAD_PEER_S: Final = 60
"""sent bytes unacknowledged for this long end a connection (TCP_USER_TIMEOUT)"""
ENDPOINTS_MAX: Final = 100_000
"""endpoints in one fleet"""
NAME_CHARS_MAX: Final = 120

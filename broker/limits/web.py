"""HTTP: what clients may send, ask and hold open."""

from __future__ import annotations

from typing import Final

PAGE_LIMIT_DEFAULT: Final = 100
PAGE_LIMIT_MAX: Final = 500
"""rows in one page"""
BODY_BYTES_MAX: Final = 64 * 1024
"""ordinary JSON body"""
FORM_BYTES_MAX: Final = 16 * 1024
"""body of one of the console's forms"""
ROSTER_BYTES_MAX: Final = 8 * 1024 * 1024
"""body of an import"""
JSON_DEPTH_MAX: Final = 32
"""nesting of a JSON body"""
HEADER_DEADLINE_S: Final = 10.0
"""from accept, or from the first byte of a request, to the end of its header"""
BODY_DEADLINE_S: Final = 30.0
"""from the end of the header to the end of the body"""
KEEPALIVE_S: Final = 75.0
"""an idle connection between two requests"""
CONNECTIONS_PER_ADDRESS_MAX: Final = 10_000
"""open connections from one address; loopback is not limited"""
WAIT_S_MAX: Final = 30.0
"""long poll of a session"""
EVENT_STREAMS_MAX: Final = 500
"""event streams open at once in one process"""
EVENT_STREAMS_PER_USER_MAX: Final = 20
"""of them, by one person: windows and tabs"""
ROSTER_ROWS_MAX: Final = 100_000
"""lines of one file of a roster"""
ROSTER_PROBLEMS_MAX: Final = 200
"""problems of a roster that are listed one by one; the rest are counted"""
PASSWORDS_MAX: Final = 500
"""passwords set by one call"""
ENROLMENT_TOKENS_MAX: Final = 500
"""enrolment tokens made by one call"""
IDEMPOTENCY_KEY_CHARS_MAX: Final = 128
SUMMARY_BYTES_MAX: Final = 32 * 1024
"""a campaign's summary, as JSON"""
REPORT_BYTES_MAX: Final = 64 * 1024 * 1024
"""a campaign's report that is shown"""
EVENTS_PENDING_MAX: Final = 1000
"""different hints gathered for one event stream; past it the listener is told to look again"""
EVENTS_GATHER_S: Final = 0.1
"""between two writes to one event stream; the same hint within it is told once"""
EVENTS_BEAT_S: Final = 5.0
"""between two signs of life of an event stream, at which the listener's rights are checked too"""
SEGMENTS_AT_ONCE_MAX: Final = 200
"""image segments on their way to endpoints at once in one process"""
SEGMENT_WAIT_S: Final = 20.0
"""for a place among them; past it: server.busy"""
WRITE_STALLED_S: Final = 30.0
"""without a byte taken by a client that is being answered before it counts as gone"""
GUARD_S: Final = 0.5
"""between two looks for slow clients"""
READY_S: Final = 15.0
"""age of the reconciler's last look past which this process is not ready"""
HOST_NAMES_FRESH_S: Final = 5.0
"""age of the names of hosts that are kept out of what people are told who do not run the site"""
HEADER_LINE_BYTES_MAX: Final = 8190
"""one line of a request's header"""
HEADER_LINES_MAX: Final = 64

"""People, their sessions, queues and what they may."""

from __future__ import annotations

from typing import Final

POOL_QUEUE_MAX: Final = 1000
"""people waiting for one pool"""
POOLS_MAX: Final = 1000
"""pools in one installation"""
TICKET_S: Final = 60
"""life of a ticket"""
TOKEN_S: Final = 12 * 3600
"""life of a sign-in"""
ENROLMENT_S: Final = 15 * 60
"""life of an enrolment token"""
SETUP_S: Final = 24 * 3600
"""life of the first administrator's link"""
DELIVER_S: Final = 180
"""from claim to live"""
QUEUE_S: Final = 1800
"""longest wait in a pool's queue"""
ENDING_S: Final = 30
"""for the endpoint to confirm a log-off"""
PHASES_MAX: Final = 32
"""phase reports kept for a session"""
HASH_THREADS: Final = 2
HASH_QUEUE_MAX: Final = 256
"""password checks waiting; past it: server.busy"""
SIGN_IN_FAILURES_MAX: Final = 5
"""failures of one account before each further try waits"""
SIGN_IN_PAUSE_S_MAX: Final = 60.0
NAME_CHARS_MAX: Final = 120
PASSWORD_CHARS_MIN: Final = 12
PASSWORD_CHARS_MAX: Final = 256
NAMES_REMEMBERED: Final = 50_000
"""names of people, desktops and endpoints kept beside their ids in one process"""
RULES_MAX: Final = 500
"""entitlement rules, and quotas, in one installation"""
RULE_PARTS_MAX: Final = 200
"""people, groups, pools, endpoints, networks or windows that one rule or quota names"""
NOTE_CHARS_MAX: Final = 500
"""an administrator's note beside a rule"""
SCHEDULE_ENTRIES_MAX: Final = 50
"""entries of one pool's schedule"""
HOLIDAYS_MAX: Final = 500
CLIENT_SILENT_S: Final = 90
"""without a call a client that waits in a queue has gone; its long poll takes WAIT_S_MAX"""
NOTICE_CHARS_MAX: Final = 1000
"""one message to a person"""
EXTEND_S_MAX: Final = 8 * 3600
"""one extension of a session"""
ACTIVITY_S: Final = 30
"""between two writes of a session's last activity"""
SESSION_LOOK_S: Final = 3600
"""longest time between two looks at a live session, after which a pool's new limits hold for it"""
SESSION_TRIES_MAX: Final = 8
"""tries to move one session that others move at the same time; past it: server.busy"""
NOTICE_AGAIN_S: Final = 600
"""age of a message up to which it is sent once more to an endpoint that may not have it"""
PLACE_ANSWER_S: Final = 5.0
"""a long poll is answered for a new place in the queue only when it has lasted this long"""
PLACES_FRESH_S: Final = 1.0
"""age of the places in a pool's queue as they are told; each change moves everybody"""
SERVED_WINDOW_S: Final = 600.0
"""how far back it is remembered how fast a queue moves"""
RESUME_RETRY_S: Final = 2.0
"""pause told to a client whose desktop is being resumed"""

"""Every fixed limit of the guest agent, named, with its unit."""

from __future__ import annotations

LINE_BYTES_MAX = 16 * 1024
"""one line of the protocol with its newline, either way; a longer one is passed over"""
OUTBOX_LINES_MAX = 64
"""lines that wait for an engine that does not read; past it the oldest goes"""
READ_BYTES = 4096
"""taken from the port at once"""

HELLO_S = 2.0
"""between two Hellos while nobody has said who this desktop is"""
STATE_S = 5.0
"""between two States while nothing changes"""
OBSERVE_S = 1.0
"""between two looks at the machine"""
REOPEN_S = 0.5
"""between two tries to open the port, and two looks whether the engine has come back"""
WAKE_S = 0.25
"""longest time until what a worker has finished is told"""

CONNECT_S = 5.0
"""to reach a broker over the network, and again for its answer"""
LINK_PAUSE_S = 1.0
"""between two tries to reach a broker: chance draws from nothing up to this, doubled at each"""
LINK_PAUSE_S_MAX = 30.0
LINK_SILENT_S = 75.0
"""without a sign of life of the broker, which pings every 20 s, until the link counts as dead"""
HEAD_BYTES_MAX = 8 * 1024
"""of a broker's answer to the handshake"""
UNSENT_BYTES_MAX = 64 * 1024
"""that wait for a broker that does not read"""
GIVEN_BYTES_MAX = 128 * 1024
"""read of a place where the ticket may be"""

ASKS_MAX = 4
"""requests that are carried out at once; a further one is refused"""
ANSWERS_MAX = 32
"""finished requests that are remembered, so that a repeated one is answered, not done again"""
COMMAND_S = 20.0
"""for a helper or a hook; then it is ended and counts as failed"""
SHOWN_S = 1.0
"""a helper that shows a message and still runs after this has shown it"""
MESSAGES_MAX = 4
"""messages on the screen at once; a further one takes the place of the oldest"""
HANG_UP_S = 2.0
"""for a session's programs to end when they are asked; then they are told (SIGTERM)"""
END_S = 6.0
"""from the log-off until what is left of the session is killed"""
LOG_OFF_S = 12.0
"""from the log-off until it counts as failed"""
DISPLAY_S = 0.5
"""for the display to take a connection"""
POLL_S = 0.1
"""between two looks at something that is about to happen"""

IDLE_LOOK_S = 5.0
"""between two times that a program is asked for the idle time"""
IDLE_OLD_S = 10.0
"""age after which its answer says nothing any more"""
CLOCK_OFF_S = 1.0
"""the clock is set when it is off by more; by less, it is slewed"""
CLOCK_SLEW_S = 0.1
"""off by no more, the clock is left alone: that is the way of the message"""
CLOCK_AGAIN_S = 5.0
"""between the first line by which the clock is ahead and the one after which it is put back"""
TEXT_CHARS_MAX = 4000
"""of a message to the person"""
NAME_CHARS_MAX = 64
"""of a user's name in State"""
DETAIL_CHARS_MAX = 300
ADDRESSES_MAX = 16
HOST_NAME_CHARS_MAX = 63
"""of a host name (RFC 1123)"""
INPUTS_MAX = 32
"""input devices that are watched"""

"""Agents, the message bus and the support gateway."""

from __future__ import annotations

from typing import Final

HEARTBEAT_S: Final = 30.0
"""between two heartbeats of an endpoint, before the broker stretches it under load"""
SILENT_S: Final = 100.0
"""without a sign of life an endpoint is lost"""
HELLO_S: Final = 10.0
"""for an agent to prove itself after it connected"""
AGENT_MESSAGE_BYTES_MAX: Final = 64 * 1024
AGENT_QUEUE_MAX: Final = 32
"""orders waiting for one endpoint"""
ADMISSIONS_AT_ONCE_MAX: Final = 200
"""agents that may be in their handshake at once; others are told when to come back"""
GUEST_LINKS_MAX: Final = 20_000
"""guest agents that are linked to one process; past it they are told to come later"""
GUEST_ADMISSIONS_MAX: Final = 200
"""desktops whose guest agents' tickets may be looked at at once, one of each; likewise"""
GUEST_SILENT_MAX: Final = 200
"""guest agents from one address (or /64) that may be about to present their tickets at once"""
GUEST_PRESENT_S: Final = 10.0
"""for a guest agent to present its ticket after it connected, and for that to be looked at"""
GUEST_TICKET_CHARS_MAX: Final = 200
GUEST_MESSAGES_PER_S: Final = 20.0
"""messages that are taken of one linked guest, pings among them; more of them wait"""
GUEST_MESSAGES_BURST: Final = 64
"""messages of one linked guest that are taken at once after it was quiet"""
GUEST_PING_S: Final = 20.0
"""between two pings of a quiet linked guest; it is gone when it does not answer within half that"""
GUEST_SEND_S: Final = 5.0
"""for a linked guest to take one line"""
HINT_BYTES_MAX: Final = 16 * 1024
"""one hint on its way to another process"""
HINTS_OUT_MAX: Final = 10_000
"""hints waiting for the message bus; the oldest go first"""
BUS_CONNECT_S: Final = 5.0
"""for one attempt to reach the message bus"""
BUS_PING_S: Final = 20.0
"""between two pings of the message bus; it is lost after two without an answer"""
BUS_PAUSE_S_MAX: Final = 30.0
"""longest pause between two attempts; each is drawn from nothing up to the limit of its turn"""
SSH_CONNECTIONS_MAX: Final = 64
"""connections to the support gateway at once"""
SSH_CONNECTIONS_PER_SOURCE_MAX: Final = 10
SSH_NEW_PER_SOURCE_MAX: Final = 10
"""new connections of one source within SSH_NEW_WINDOW_S"""
SSH_NEW_WINDOW_S: Final = 1.0
SSH_SOURCES_MAX: Final = 10_000
"""sources whose rate is remembered"""
SSH_LOGIN_S: Final = 10.0
"""from connect to signed in"""
SSH_TRIES_MAX: Final = 3
"""passwords that one connection may try"""
SSH_CHANNELS_MAX: Final = 4
"""sessions that one connection may have open"""
SSH_IDLE_S: Final = 15 * 60.0
"""without a command before the gateway hangs up"""
SSH_LINE_CHARS_MAX: Final = 1024
SSH_COMMAND_S: Final = 30.0
"""for one command to answer"""
SSH_ROWS_MAX: Final = 200
"""rows that one command lists"""

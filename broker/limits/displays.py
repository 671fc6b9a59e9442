"""Displays, their relays and viewers."""

from __future__ import annotations

from typing import Final

FRAME_BYTES_MAX: Final = 256 * 1024
"""one display frame"""
DISPLAY_INPUT_BYTES_MAX: Final = 4096
"""one input message of a display"""
VIEWER_PASS_S: Final = 120
"""life of a connection file: from its download to the viewer's knock"""
VIEWER_PASSES_MAX: Final = 500
"""VNC passwords that wait to be used in one process; past it: server.busy"""
VIEWER_PASSES_PER_SESSION_MAX: Final = 4
"""of them, of one session; one more, and the oldest is forgotten"""
RELAYS_MAX: Final = 2000
"""viewers' connections at one of the relays' ports"""
RELAYS_PER_SOURCE_MAX: Final = 500
"""of them, from one source: a room of viewers behind one address"""
RELAY_NEW_PER_SOURCE_MAX: Final = 40
"""new connections of one source within RELAY_NEW_WINDOW_S; one viewer opens up to a dozen"""
RELAY_STRANGERS_PER_SOURCE_MAX: Final = 50
"""of a source's connections, those that have not shown their pass yet"""
RELAY_NEW_WINDOW_S: Final = 1.0
RELAY_SOURCES_MAX: Final = 10_000
"""sources whose rate is remembered"""
RELAY_HANDSHAKE_S: Final = 15.0
"""from a viewer's knock to its password, and from there to the desktop's first answer"""
RELAY_BUFFER_BYTES: Final = 64 * 1024
"""kept for a viewer that takes slowly, beside the frame in hand"""
SPICE_CHANNELS_MAX: Final = 16
"""connections that one SPICE viewer may have beside its first"""
PROXY_HEADER_BYTES_MAX: Final = 4096
"""what a SPICE viewer says to its proxy"""
RDP_REQUEST_BYTES_MAX: Final = 259
"""an RDP viewer's first packet: four bytes of TPKT, and what X.224's one byte of length allows"""
RELAY_SILENT_S: Final = 60
"""without a sign of life of a viewer's machine before its connection counts as broken"""
DISPLAYS_MAX: Final = 5000
"""displays open at once in one process; past it: server.busy"""
DISPLAY_S_MAX: Final = 12 * 3600.0
"""longest time one display stays open before the client must ask again"""
DISPLAY_OPEN_S: Final = 20.0
"""for redeeming the ticket, and again for the engine to open the console"""
DISPLAY_SEND_S: Final = 30.0
"""for a client to take one frame before it counts as gone"""
DISPLAY_CLOSE_S: Final = 1.5
"""for either end of a display to close before it is cut"""
CONSOLE_PROXY_S: Final = 10.0
"""for a cloud's console proxy to let the broker in and to show the desktop's greeting"""
CONSOLE_PROXY_MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""one message by a console proxy, which is passed on in pieces of FRAME_BYTES_MAX"""
CONSOLE_PROXY_SILENT_S: Final = 60
"""without a sign of life of a console proxy's machine before its display counts as closed"""
CONSOLE_ADDRESS_CHARS_MAX: Final = 2048
"""the address, with its token, of a display at a console proxy"""
DISPLAY_DRAIN_LOOK_S: Final = 0.2
"""between two looks of a stopping broker whether displays are open"""
DISPLAY_REPORT_S: Final = 10.0
"""between two reports of display traffic"""
DISPLAY_PING_S: Final = 5.0
"""between the answer to one ping of a display's client and the next ping"""
DISPLAY_PING_ANSWER_S: Final = 10.0
"""for a display's client to answer a ping before its round trip counts as unknown"""
DISPLAY_MEASURE_S: Final = 30.0
"""age past which a measure of a display says nothing any more"""
DISPLAY_MEASURES_MAX: Final = 20_000
"""displays, of every process, whose last measure one process keeps"""
DISPLAY_MEASURES_PER_HINT: Final = 100
"""measures that one hint carries to the other processes"""
DISPLAYS_CHECK_S: Final = 3.0
"""between two checks that the displays open here are still the sessions' own"""
DISPLAY_SIGN_IN_S: Final = 3.0
"""seconds between two looks whether whoever watches a display is signed in still; with
DISPLAY_CLOSE_S less than the five seconds within which a kill switch works"""
SHOWING_S: Final = 30
"""a process's sign of life lasts this long after it was given"""
SHOWING_RENEW_S: Final = 10.0
"""between two signs of life of a process"""
BROKERS_MAX: Final = 100
"""processes that share one database; past it one opens no displays"""
DARK_S: Final = 60
"""without a living process that shows it before a browser's display counts as closed"""
DARK_LOOK_GAP_S: Final = 30.0
"""between two looks for such displays, past which the time counts anew"""
DISPLAYS_CHECKED_TOGETHER: Final = 500
"""of them, asked of the store in one call"""
SHADOWS_PER_SESSION_MAX: Final = 2
"""people of the staff asking for or looking at one session; with a display and the one that takes
over from it they are what a machine shows at once (CONSOLES_PER_MACHINE_MAX)"""
SHADOWS_MAX: Final = 100
"""shadows open at once in one process; past it: server.busy"""
SHADOWS_LIVE_MAX: Final = 100
"""shadows asked for, allowed or open in the installation; past it: server.busy"""
SHADOWS_KEPT_MAX: Final = SHADOWS_LIVE_MAX
"""shadows that are over, of which whoever asked may still read why; all may end at once"""
SHADOW_KEPT_S: Final = 600
"""for how long that is"""
SHADOW_OPEN_S: Final = 60
"""from the person's yes until the shadow must be open; its ticket dies with it"""
SHADOW_S_MAX: Final = 2 * 3600
"""longest time one shadow stays open before the person must be asked again"""
SHADOW_LEASE_S: Final = 60
"""without its broker's sign of life before an open shadow counts as closed"""
SHADOW_AGAIN_S: Final = 60
"""after a no, or no answer, before the same one of the staff may ask of that session again"""
SHADOW_CHECK_S: Final = 1.5
"""between the beginnings of two looks whether the shadows open here may go on"""
SHADOW_LOOK_S: Final = 1.5
"""for the database to answer one such look"""
SHADOW_RETRY_S: Final = 0.25
"""after a look that was not answered before the next one"""
SHADOW_UNCHECKED_S: Final = 4.5
"""a shadow goes on without an answered look; past it it ends, for nobody could stop it"""
SHADOW_TRIES_MAX: Final = 8
"""tries to change the list of shadows that others change at the same time; past it: server.busy"""
SHADOW_REASON_CHARS_MAX: Final = 200
"""why the staff asks, as the person is told"""

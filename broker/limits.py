"""Every fixed limit, named, with its unit. What an administrator may change is in config.py."""

from __future__ import annotations

from typing import Final

CLAIM_BATCH_MAX: Final = 128
"""claims that share one commit"""
IDENTITY_BATCH_MAX: Final = 128
"""tokens that are looked up together"""
CLAIM_QUEUE_MAX: Final = 16_384
"""claims waiting for a commit in one process; past it: server.busy"""
STORE_CALLS_MAX: Final = 10_000
"""calls of the store waiting or running in one process; past it: server.busy"""
STORE_READERS: Final = 3
"""threads that read SQLite beside its one writer"""
STORE_CONNECTIONS: Final = 16
"""threads, each with its own connection, to PostgreSQL in one process"""
STORE_CONNECT_S: Final = 5
"""to reach the database server"""
STORE_LOCK_S: Final = 5
"""wait for a lock that another process holds"""
STORE_STATEMENT_S: Final = 30
"""one statement on PostgreSQL"""
STORE_TRIES_MAX: Final = 5
"""runs of one transaction that loses against other processes"""
STORE_RETRY_S: Final = 1.0
"""pause told to callers when the database is busy or away"""
IDEMPOTENCY_S: Final = 24 * 3600
"""life of an idempotency key"""
PURGE_BATCH_MAX: Final = 5000
"""expired rows of one kind that one transaction deletes"""
ENDED_SETTLED_S: Final = 600
"""after this a session's end is counted once and for all; clocks of brokers differ by less"""
POOL_QUEUE_MAX: Final = 1000
"""people waiting for one pool"""
POOLS_MAX: Final = 1000
"""pools in one installation"""
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
CREATE_S: Final = 300
"""for an engine to make a machine"""
BOOT_S: Final = 300
"""for a machine to report ready"""
RESET_S: Final = 300
"""for a desktop to be fresh again"""
DELETE_S: Final = 120
"""for a machine to be removed, before it is asked again"""
JOB_S: Final = 120
"""for one engine call"""
JOB_ATTEMPTS_MAX: Final = 5
JOB_PAUSE_S: Final = 5.0
"""before a failed job is tried again, times the attempt"""
JOBS_AT_ONCE_MAX: Final = 64
"""engine calls under way in one process"""
JOBS_PER_HOST_MAX: Final = 16
"""of them, on one host: one that hangs does not take them all"""
JOBS_TAKEN_MAX: Final = 128
"""jobs that one process has taken, those that wait for their host's turn included"""
RECONCILE_S: Final = 1.0
"""between two looks of the reconciler when nothing hints"""
RECONCILE_BATCH_MAX: Final = 200
"""rows of one kind that one look handles"""
PURGE_S: Final = 600.0
"""between two clear-outs of expired credentials"""
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
FRAME_BYTES_MAX: Final = 256 * 1024
"""one display frame"""
DISPLAY_INPUT_BYTES_MAX: Final = 4096
"""one input message of a display"""
VIEWER_PASS_S: Final = 120
"""life of a connection file: from its download to the viewer's knock"""
VIEWER_PASSES_MAX: Final = 500
"""VNC passwords that wait to be used in one process; past it: server.busy"""
RELAYS_MAX: Final = 2000
"""viewers' connections at one of the relays' ports"""
RELAYS_PER_SOURCE_MAX: Final = 500
"""of them, from one source: a room of viewers behind one address"""
RELAY_NEW_PER_SOURCE_MAX: Final = 40
"""new connections of one source within RELAY_NEW_WINDOW_S; one viewer opens up to a dozen"""
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
IMAGES_REMEMBERED: Final = 256
"""images whose hash state the simulated source keeps"""
SEGMENT_BYTES: Final = 1024 * 1024
"""one piece of an image on the wire"""
PHASES_MAX: Final = 32
"""phase reports kept for a session"""
HASH_THREADS: Final = 2
HASH_QUEUE_MAX: Final = 256
"""password checks waiting; past it: server.busy"""
SIGN_IN_FAILURES_MAX: Final = 5
"""failures of one account before each further try waits"""
SIGN_IN_PAUSE_S_MAX: Final = 60.0
EVENT_STREAMS_MAX: Final = 500
"""event streams open at once in one process"""
EVENT_STREAMS_PER_USER_MAX: Final = 20
"""of them, by one person: windows and tabs"""
NAME_CHARS_MAX: Final = 120
PROFILE_CHARS_MAX: Final = 1000
"""of a host's profile: a kind, and its knobs with addresses among them"""
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
ENGINE_OPERATIONS_REMEMBERED: Final = 10_000
"""finished operation ids that an engine object knows again"""
ENGINE_REPORTS_MAX: Final = 10_000
"""reports that an engine keeps for a consumer that is away; the oldest go first"""
CONSOLES_PER_MACHINE_MAX: Final = 4
"""displays of one machine that an engine keeps open at once"""
LIBVIRT_THREADS: Final = 8
"""calls of libvirt at once to one host"""
LIBVIRT_CALLS_MAX: Final = 256
"""calls of libvirt waiting or running for one host; past it they fail"""
LIBVIRT_KEEPALIVE_S: Final = 5
"""between two signs of life of a libvirt daemon"""
LIBVIRT_KEEPALIVE_COUNT: Final = 4
"""signs of life that may be missing before the daemon counts as gone"""
LIBVIRT_PAUSE_S_MAX: Final = 30.0
"""longest pause between two attempts to reach a daemon or a guest; each is drawn by chance"""
LIBVIRT_XML_BYTES_MAX: Final = 4 * 1024 * 1024
"""one description by a host"""
LIBVIRT_GLANCE_S: Final = 3.0
"""for a host to say whether it has a machine that should be at another"""
GOLDEN_BOOT_S: Final = 900.0
"""for a golden desktop to boot, over several attempts; past it, it is booted anew"""
LIBVIRT_ADOPT_S: Final = 10.0
"""for a host to say, after a restart of the broker, how one of its machines is"""
OPENSTACK_THREADS: Final = 8
"""threads that call one cloud, each with a connection of its own"""
OPENSTACK_CALLS_MAX: Final = 256
"""calls of one cloud under way or waiting for a thread; past it: engine.failed"""
OPENSTACK_HTTP_S: Final = 20
"""without a byte from a cloud before a request counts as failed"""
OPENSTACK_POLL_S: Final = 0.5
"""between two looks at a cloud's servers while somebody waits for one"""
OPENSTACK_SURVEY_S: Final = 15.0
"""between two looks at a cloud's servers when nobody waits"""
OPENSTACK_PAUSE_S_MAX: Final = 30.0
"""between two attempts to look at a cloud that does not answer"""
OPENSTACK_DISCARD_S: Final = 60.0
"""for a server that nobody should have to be gone"""
OPENSTACK_GLANCE_S: Final = 3.0
"""for another cloud to say whether it has a desktop's server"""
OPENSTACK_PAGE: Final = 200
"""servers a page"""
OPENSTACK_SERVERS_MAX: Final = 20_000
"""servers of one installation in one cloud"""
PROBE_STEP_S: Final = 20.0
"""one step of looking at a host before it is added"""
PROBE_S: Final = 100.0
"""all steps of looking at one host"""
PROBES_MAX: Final = 4
"""hosts that one process looks at at once, before they are added"""
PROBE_ROOM_BYTES_MIN: Final = 1 << 30
"""free in a storage pool before a host counts as having room"""
HOST_CLOCK_OFF_S_MAX: Final = 5.0
"""between a host's clock and the broker's, before an administrator is told"""
DRIFT_S: Final = 60.0
"""between two looks at whether machines are what they should be"""
DRIFT_BATCH_MAX: Final = 50
"""machines compared in one such look; the next goes on behind them"""
DRIFT_ONE_S: Final = 10.0
"""for one machine to be compared"""
DRIFTS_KEPT: Final = 100
"""desktops whose differences are kept to be shown; the others are counted"""
DIFFERENCES_KEPT: Final = 8
"""of one desktop's, kept to be shown"""
GUEST_IDENTIFY_S: Final = 10.0
"""for a guest to say who it is, before it is told again"""
GUEST_READ_PAUSE_S: Final = 0.02
"""between two reads from one guest, which may talk without end"""
GUEST_CHUNK_BYTES: Final = 16 * 1024
"""read from a guest at once"""
IMAGE_BYTES_MAX: Final = 64 * 1024**3
"""an uploaded image's file"""
IMAGE_VIRTUAL_BYTES_MAX: Final = 2 * 1024**4
"""the disk that an uploaded image describes"""
IMAGE_RATIO_MAX: Final = 1000
"""bytes of an uploaded image's disk for each byte of its file; past it, it is a size bomb"""
IMAGE_FREE_BYTES_MIN: Final = 1024**3
"""what an upload leaves free on the disk of the data directory"""
IMAGE_UPLOADS_MAX: Final = 2
"""uploads of images at once in one process; past it: server.busy"""
IMAGE_UPLOAD_S: Final = 4 * 3600.0
"""for one upload of an image"""
UPLOAD_STALLED_S: Final = 30.0
"""without a byte of an upload before its client counts as gone"""
UPLOAD_CHUNK_BYTES: Final = 1024 * 1024
"""of an upload, written at once"""
QEMU_IMG_S: Final = 20.0
"""for qemu-img to describe a file, and half of that of processor time"""
QEMU_IMG_MEMORY_BYTES: Final = 1024**3
"""of address space for qemu-img"""
QEMU_IMG_ANSWER_BYTES_MAX: Final = 1024 * 1024
"""one description by qemu-img"""
QEMU_IMG_CONVERT_S: Final = 3600.0
"""for qemu-img to turn an image into qcow2"""
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
PASSWORD_CHARS_MIN: Final = 12
PASSWORD_CHARS_MAX: Final = 256
ROSTER_ROWS_MAX: Final = 100_000
"""lines of one file of a roster"""
ROSTER_PROBLEMS_MAX: Final = 200
"""problems of a roster that are listed one by one; the rest are counted"""
NAMES_REMEMBERED: Final = 50_000
"""names of people, desktops and endpoints kept beside their ids in one process"""
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
STORE_PING_S: Final = 2.0
"""for the store to answer a readiness check"""
HEADER_LINE_BYTES_MAX: Final = 8190
"""one line of a request's header"""
HEADER_LINES_MAX: Final = 64
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
PARK_AGAIN_S: Final = 10
"""before a desktop that is being resumed while its person is away again is suspended anew"""
DISPLAYS_CHECK_S: Final = 3.0
"""between two checks that the displays open here are still the sessions' own"""
DISPLAYS_CHECKED_TOGETHER: Final = 500
"""of them, asked of the store in one call"""
LEASE_S: Final = 15
"""a broker's lease of shared work; renewed at a third of it"""
LEASE_SKEW_S: Final = 5
"""clocks of brokers differ by less; a lease is taken over only this long after its end"""
POWER_S: Final = 600
"""for a host to go on or off"""
MIGRATE_S: Final = 300
"""for one live migration"""
MIGRATIONS_PER_HOST_MAX: Final = 2
"""migrations under way from or to one host"""
RECOVER_PAUSE_S: Final = 60
"""before a failed desktop in which its owner's work lies is started a second time; doubled then"""
RECOVER_PAUSE_S_MAX: Final = 1800
"""longest such pause"""
SUSPEND_S: Final = 120
"""for a machine to be suspended, or to report ready after it was resumed"""
STRAYS_S: Final = 30.0
"""between two comparisons of the engines' machines with the store"""
STRAYS_MAX: Final = 100
"""strays removed in one comparison"""
DESKTOPS_PER_HOST_MAX: Final = 10_000
"""desktops of one host that a comparison with its machines reads"""
AUDIT_SETTLE_S: Final = 60
"""a request that was not settled by then is sealed as unknown"""
AUDIT_SEAL_S: Final = 1.0
"""between two runs of the sealer"""
AUDIT_ANCHOR_S: Final = 60.0
"""between two anchors that a broker keeps outside its database"""
AUDIT_SEAL_MAX: Final = 2000
"""entries sealed in one transaction"""
AUDIT_DETAILS_BYTES_MAX: Final = 8 * 1024
"""an entry's details, as JSON; what is past it is cut and said so"""
DOCUMENT_BYTES_MAX: Final = 256 * 1024
"""one stored document, as JSON"""
EXPORT_BATCH: Final = 1000
"""rows of one part of an export or a backup"""
GENERATION_STEP: Final = 1_000_000
"""what a restore adds to generations and fences, so that whatever was given out before loses"""
PLACEMENT_REASONS_MAX: Final = 10
"""hosts whose reasons one decision keeps; the others are counted"""
BEGUN_PER_LOOK_MAX: Final = 500
"""machines that one look makes or resumes, and that it makes fresh, over all pools"""
REMOVED_PER_LOOK_MAX: Final = 50
"""surplus machines that one look suspends or removes for one pool, or takes from one host"""
SPARE_SETTLE_S: Final = 60
"""a surplus of running spares lasted this long before some are suspended as second-level spares"""
POWER_PER_LOOK_MAX: Final = 5
"""hosts that one look switches on, and off"""
UNLIKE_PER_LOOK_MAX: Final = 50
"""desktops of one pool looked at for a change of size in one look"""
BACKUP_BYTES_MAX: Final = 256 * 2**30
"""a backup's tables, decompressed"""
BACKUP_ROW_BYTES_MAX: Final = 1024 * 1024
"""one row of a backup"""
BACKUP_CHUNK_BYTES: Final = 256 * 1024
"""read from a backup at a time, decompressed"""
BACKUP_MANIFEST_BYTES_MAX: Final = 256 * 1024
BACKUP_TABLES_MAX: Final = 200
"""tables in a backup"""
MOVES_PER_LOOK_MAX: Final = 50
"""migrations that one look begins, over all hosts"""
HOSTS_READ_PER_LOOK_MAX: Final = 20
"""hosts whose desktops one look reads one by one"""
POWER_RESERVE_MAX: Final = 10
"""desktops of one pool that must still fit elsewhere before a host goes off"""

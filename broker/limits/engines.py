"""Engines, hosts, guests and their images."""

from __future__ import annotations

from typing import Final

CREATE_S: Final = 300
"""for an engine to make a machine"""
IMAGES_REMEMBERED: Final = 256
"""images whose hash state the simulated source keeps"""
SEGMENT_BYTES: Final = 1024 * 1024
"""one piece of an image on the wire"""
PROFILE_CHARS_MAX: Final = 1000
"""of a host's profile: a kind, and its knobs with addresses among them"""
ENGINE_OPERATIONS_REMEMBERED: Final = 10_000
"""finished operation ids that an engine object knows again"""
ENGINE_REPORTS_MAX: Final = 10_000
"""reports that an engine keeps for a consumer that is away; the oldest go first"""
SNAPSHOTS_PER_DESKTOP_MAX: Final = 5
"""snapshots of one desktop, those under way and those that failed among them"""
CONSOLES_PER_MACHINE_MAX: Final = 4
"""displays of one machine that an engine keeps open at once"""
LIBVIRT_THREADS: Final = 8
"""calls of libvirt at once to one host; those for snapshots are beside them, and as many for disks
in each storage pool of a host with several"""
LIBVIRT_CALLS_MAX: Final = 256
"""calls of libvirt waiting or running for one host; past it they fail"""
LIBVIRT_KEEPALIVE_S: Final = 5
"""between two signs of life of a libvirt daemon"""
LIBVIRT_KEEPALIVE_COUNT: Final = 4
"""signs of life that may be missing before the daemon counts as gone"""
LIBVIRT_PAUSE_S_MAX: Final = 30.0
"""longest pause between two attempts to reach a daemon or a guest; each is drawn by chance"""
LIBVIRT_SURVEY_PAUSE_S_MIN: Final = 0.5
"""shortest pause before a host that was reached, and did not say what is there, is asked again"""
LIBVIRT_SURVEY_PAUSE_S_MAX: Final = 5.0
"""longest such pause; each is drawn by chance"""
LIBVIRT_XML_BYTES_MAX: Final = 4 * 1024 * 1024
"""one description by a host"""
LIST_HOST_S: Final = 20.0
"""for one host, or one cloud, to list its machines, before it counts as one that did not answer"""
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
OPENSTACK_CONSOLE_S: Final = 15.0
"""for a cloud to hand out a desktop's display, and for its proxy to show it"""
OPENSTACK_PAGE: Final = 200
"""servers a page"""
OPENSTACK_SERVERS_MAX: Final = 20_000
"""servers of one installation in one cloud"""
OPENSTACK_COMPUTES_MAX: Final = 2000
"""compute hosts of one cloud that are looked at"""
STORAGE_CLASSES_MAX: Final = 16
"""classes of storage of one host"""
STORAGE_LOOK_S: Final = 60.0
"""between two looks at how full a host's classes of storage are"""
STORAGE_ANSWER_S: Final = 30.0
"""for a storage pool to be looked into, before nothing more is made in it"""
STORAGE_GLANCE_S: Final = 10.0
"""for a storage pool to say what is known of it, before it counts as one that does not answer"""
DISPLAY_HANDSHAKE_S: Final = 8.0
"""for a display at a host's port to let the broker in, certificates and all"""
HOST_COMMAND_S: Final = 10.0
"""for a host to do what it is told over SSH"""
HOST_SAID_BYTES_MAX: Final = 16 * 1024
"""what a host may say to that"""
HOST_POWER_LOOK_S: Final = 2.0
"""between two looks at whether a host that is switched on or off answers"""
HOST_POWER_ANSWER_S: Final = 3.0
"""for a host to answer such a look"""
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
GUEST_CLOCK_S: Final = 60.0
"""between two times that a guest's agent is told the time; it may be GUEST_IDENTIFY_S later"""
GUEST_READ_PAUSE_S: Final = 0.02
"""between two reads from one guest, which may talk without end"""
GUEST_LINES_PER_S: Final = 200.0
"""heard of one guest at its port, on average"""
GUEST_CHUNK_BYTES: Final = 16 * 1024
"""read from a guest at once"""
GUEST_ASK_S: Final = 25.0
"""for a guest agent to answer what it was asked; its own commands have 20 s"""
GUEST_ASKS_MAX: Final = 16
"""asks that wait for one guest agent; past it: server.busy"""
GUEST_CALL_S: Final = GUEST_ASK_S + 3.0
"""for an engine to come back from asking an agent, whatever it waits for"""
GUEST_LOOK_S: Final = 5.0
"""between two looks at what is owed to the agents that a process hears"""
GUEST_LOOK_BATCH: Final = 500
"""agents whose sessions are read at once in such a look"""
GUEST_TRIES_MAX: Final = 3
"""times that an agent which gives no answer is asked one thing"""
GUESTS_AT_ONCE_MAX: Final = 64
"""agents that one process speaks with at once"""
GUEST_NEWS_S: Final = 30.0
"""age after which what an agent said is not shown any more"""
GUEST_INPUT_S: Final = 15.0
"""after a viewer's bytes, until what an agent tells of the idle time counts for them, too: what it
tells may be 10 s old, and is heard some seconds later"""
GUEST_NEWS_PER_HINT: Final = 50
"""agents of which one hint tells the other processes"""
GUEST_NEWS_MAX: Final = 100_000
"""agents of which one process remembers what they said"""
GUEST_BOOK_MAX: Final = 100
"""asks of the staff that wait at once for the process that hears the agent; past it: server.busy"""
GUEST_BOOK_TRIES_MAX: Final = 20
"""attempts to write into the list of those, which others change, too"""
GUEST_BOOK_PAUSE_S: Final = 0.5
"""between two looks for the answer to such an ask"""
GUEST_ASK_RETRY_S: Final = 5.0
"""after which somebody who was told that too much is asked of a guest may ask again"""
GUEST_IDLE_S_MAX: Final = 1e7
"""a longer idle time that a guest tells is taken as that long, about four months"""
GUEST_TEXT_MAX: Final = 200
"""characters kept of a name, an address or a reason that a guest tells"""
GUEST_ADDRESSES_MAX: Final = 16
"""addresses kept of one guest"""
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

"""The reconciler: what one look does, and how long its jobs may take."""

from __future__ import annotations

from typing import Final

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
JOB_HANDED_BACK_S: Final = 5.0
"""before a job that a process cannot do (it lacks the engine, or cannot read the host's profile)
may be taken again, by chance by another one"""
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
PARK_AGAIN_S: Final = 10
"""before a desktop that is being resumed while its person is away again is suspended anew"""
LEASE_S: Final = 15
"""a broker's lease of shared work; renewed at a third of it"""
LEASE_SKEW_S: Final = 5
"""clocks of brokers differ by less; a lease is taken over only this long after its end"""
HOST_PROFILES_LOOK_S: Final = 5.0
"""between two looks of a process whether others changed a host's record, when nothing hints"""
HOST_SAVES_MAX: Final = 4
"""times that a change of a host is tried while others change it, too"""
HOST_SILENT_S: Final = 30.0
"""without anything heard from a host before it counts as not answering"""
LOST_AFTER_S_MIN: Final = 120
"""least that a site may wait before it gives up a host that is not heard"""
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
MOVE_PAUSE_S: Final = 15
"""before a desktop that did not leave its host is asked to again; doubled then"""
MOVE_PAUSE_S_MAX: Final = 600
"""longest such pause"""
SUSPEND_S: Final = 120
"""for a machine to be suspended, or to report ready after it was resumed"""
SNAPSHOTS_PER_HOST_MAX: Final = 4
"""snapshots that one process makes, drops or reverts to at once on one host; more of them wait,
and take no place from other work there"""
SNAPSHOT_S: Final = 480
"""for a snapshot that is under way to end, on top of what is given to what waits for it; jobs that
wait are tried for about as long"""
STRAYS_S: Final = 30.0
"""between two comparisons of the engines' machines with the store"""
STRAYS_MAX: Final = 100
"""strays removed in one comparison"""
DESKTOPS_PER_HOST_MAX: Final = 10_000
"""desktops of one host that a comparison with its machines reads"""
STORAGE_FULL_ABOVE: Final = 0.95
"""part of a storage class that is taken, past which no disk more is made in it"""
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
RENEWED_AT_ONCE_MAX: Final = 4
"""spares of one pool that are made fresh at once because it has another image, those included that
are being reset for whatever reason"""
OUTDATED_ROWS_MAX: Final = 50
"""spares of one pool with another image that one look reads"""
MOVE_TURN_S: Final = 10
"""an administrator's move waits at most so long for the planner's look to end"""
MOVES_PER_LOOK_MAX: Final = 50
"""migrations that one look begins, over all hosts"""
HOSTS_READ_PER_LOOK_MAX: Final = 20
"""hosts whose desktops one look reads one by one"""
POWER_RESERVE_MAX: Final = 10
"""desktops of one pool that must still fit elsewhere before a host goes off"""
IMAGES_CLEAR_S: Final = 60.0
"""between two looks at what versions of images that were removed left"""
IMAGE_SETTLE_S: Final = 300
"""after its removal before what a version left on hosts is deleted: what began to make a desktop of
it, on the copy of the pools that another broker had, is over by then (JOB_S)"""
IMAGES_CLEAR_HOST_S: Final = 60.0
"""for one host to delete what removed versions left there"""
IMAGES_CLEARED_MAX: Final = 50
"""files deleted in one storage pool in one look"""
HOSTS_CLEARED_AT_ONCE: Final = 8
"""hosts that are asked for it at the same time"""
